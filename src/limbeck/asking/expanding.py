"""From an answer to its records: one for each token that was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.asking.answers import Choice, Said, Step, choices_of
from limbeck.asking.contexts import Context, context_of, prompt_length
from limbeck.asking.envelopes import Envelope
from limbeck.asking.naming import Note, Top, label_of, top_of
from limbeck.asking.vocabulary import Vocabulary
from limbeck.record_lines import check_sums, two_laws
from limbeck.records import NOTES as RECORD_NOTES
from limbeck.teacher_record import RecordError, TeacherRecord, number


NOTES = {
    **RECORD_NOTES,
    "cut_top": "lists of the largest ones end before the first token without a number, or without "
    "an id of its own",
    "drawn_in_list": "the drawn token took the place of the k-th largest (as in vLLM's chat form): "
    "these lists have k - 1 entries, so that the length depends on what was drawn; `top=k - 1` "
    "(--top) makes all lists equal",
    "filtered": "the sampler was filtered (top_p, top_k or min_p): where the server reports "
    "numbers from before the filter, they are not of the law that was drawn from",
    "no_tokens": "answers hold no token that was drawn, and make no record",
    "retokenized": "answers without tokens were cut into tokens by the given tokenizer, which may "
    "not be where the teacher cut them",
    "prompt_scores": "log-probabilities of the prompt are left out: its tokens were not drawn from "
    "the teacher; `prompt=True` (--prompt) takes them",
}


@dataclass(frozen=True, slots=True)
class How:
    """What the caller says about the answers.

    Attributes:
        vocabulary: Names of tokens.
        prompt: Whether scored tokens of the prompt become records, too.
        temperature: Of the sampler; None takes the request's, else 1.
        teacher: Name; None takes the answer's.
        labels: Number of labels; a list that holds them all is a row.
        top: How many of the largest ones are kept; None keeps all.
        tolerance: Of sums.
    """

    vocabulary: Vocabulary | None = None
    prompt: bool = False
    temperature: float | None = None
    teacher: str | None = None
    labels: int | None = None
    top: int | None = None
    tolerance: float = 0.01


def records_of(envelope: Envelope, line: int, how: How, note: Note) -> list[TeacherRecord]:
    """Return the records of an answer.

    Args:
        envelope: The answer and its request.
        line: Where it stands.
        how: What the caller says.
        note: Called with names of :data:`NOTES`.

    Raises:
        RecordError: If any of its tokens cannot be used: then the answer is left out as a whole,
            since leaving out single tokens would change the law.
    """
    request, choices = envelope.request, choices_of(envelope.answer)
    if _is_filtered(request):
        note("filtered")
    made: list[TeacherRecord] = []
    name = envelope.name or f"line {line}"
    for choice in choices:
        sequence = name if len(choices) == 1 else f"{name}/{choice.index}"
        common = {
            "temperature": _temperature(request, how),
            "teacher": how.teacher or _teacher(envelope.answer),
            "line": line,
        }
        made += _of_choice(choice, request, how, note, {**common, "sequence": sequence})
    return checked(made, how, note)


def checked(made: list[TeacherRecord], how: How, note: Note) -> list[TeacherRecord]:
    """Return the records of an answer after a look at what each says.

    Raises:
        RecordError: If the sums of one cannot be those of a law.
    """
    if not made:
        note("no_tokens")
    for record in made:
        check_sums(record, labels=how.labels, tolerance=how.tolerance)
        if two_laws(record, tolerance=how.tolerance):
            note("two_laws")
    return made


def _of_choice(
    choice: Choice, request: Mapping[str, Any], how: How, note: Note, common: dict[str, Any]
) -> Iterator[TeacherRecord]:
    context = context_of(choice, request, how.vocabulary)
    if choice.steps is None:
        yield from _of_text(choice.text, context, how, note, common)
        return
    start = prompt_length(choice, request)
    asked = _asked(request, choice.steps)
    drawn = choice.steps[start:]
    if start or choice.prompt_steps:
        if how.prompt:
            scored = choice.prompt_steps or choice.steps[1:start]
            yield from _of_prompt(choice, scored, asked, how, note, common)
        else:
            note("prompt_scores")
    for place, step in enumerate(drawn):
        label = label_of(step.token, how.vocabulary)
        yield _record(step, label, context, place, asked, how, note, common)
        context = context.after(step.token, label)


def _of_prompt(
    choice: Choice,
    scored: tuple[Step, ...],
    asked: int | None,
    how: How,
    note: Note,
    common: dict[str, Any],
) -> Iterator[TeacherRecord]:
    """Yield records of the prompt's tokens from the second one on, each after those before it."""
    first = choice.steps[0].token if choice.steps and not choice.prompt_steps else None
    if choice.prompt_ids:
        context = Context(choice.prompt_ids[:1], "")
    elif first is not None:
        context = Context(None, "").after(first, 0)
    else:
        raise RecordError(
            "missing_prompt", "expected `prompt_token_ids` beside `prompt_logprobs`; got none."
        )
    common = {**common, "sequence": f"{common['sequence']}/prompt"}
    for place, step in enumerate(scored, 1):
        label = label_of(step.token, how.vocabulary)
        yield _record(step, label, context, place, asked, how, note, common)
        context = context.after(step.token, label)


def _record(
    step: Step,
    label: int,
    context: Context,
    place: int,
    asked: int | None,
    how: How,
    note: Note,
    common: Mapping[str, Any],
) -> TeacherRecord:
    if step.token.withheld:
        note("sentinel")
    top = top_of(step, asked, how.vocabulary, how.top, note)
    row = _row(top, how.labels)
    return TeacherRecord(
        input=context.input(),
        label=label,
        log_probability=step.token.log,
        row=row,
        top=() if row is not None else top,
        position=place,
        **common,
    )


def _of_text(
    text: str | None, context: Context, how: How, note: Note, common: Mapping[str, Any]
) -> Iterator[TeacherRecord]:
    """Yield records of an answer that names no tokens."""
    vocabulary = how.vocabulary
    if text is None:
        raise RecordError("missing_key", "expected text or tokens in the answer; got neither.")
    if vocabulary is not None and vocabulary.whole:
        label = vocabulary.id_of(text if text in vocabulary.texts else text.strip(), None)
        yield TeacherRecord(context.input(), label, position=0, **common)
        return
    if vocabulary is None or vocabulary.cut is None:
        raise RecordError(
            "needs_vocabulary",
            "expected tokens, since an answer's text alone has no labels; got text. Give "
            "`tokenizer` (--tokenizer), or a mapping from whole answers to labels.",
        )
    note("retokenized")
    for place, label in enumerate(vocabulary.cut(text)):
        yield TeacherRecord(context.input(), label, position=place, **common)
        context = context.after(Said(), label)


def _row(top: Top, labels: int | None) -> np.ndarray | None:
    """Return a whole row where the list holds every label."""
    if labels is None or len(top) != labels or any(label >= labels for label, _ in top):
        return None
    row = np.empty(labels)
    row[[label for label, _ in top]] = [log for _, log in top]
    return row


def _asked(request: Mapping[str, Any], steps: tuple[Step, ...]) -> int | None:
    """Return how many of the largest ones were asked for; the shortest list tells it otherwise."""
    for key in ("top_logprobs", "logprobs"):
        if type(request.get(key)) is int:
            return request[key] if request[key] >= 0 else None
    if request.get("logprobs") is True:
        return 0
    return min((len(step.top) for step in steps if step.top), default=None)


def _temperature(request: Mapping[str, Any], how: How) -> float:
    if how.temperature is not None:
        return how.temperature
    given = request.get("temperature")
    return 1.0 if given is None else number("temperature", given)


def _teacher(answer: Mapping[str, Any]) -> str | None:
    model, fingerprint = answer.get("model"), answer.get("system_fingerprint")
    if not isinstance(model, str):
        return None
    return f"{model}, {fingerprint}" if isinstance(fingerprint, str) and fingerprint else model


def _is_filtered(request: Mapping[str, Any]) -> bool:
    top_p, top_k, min_p = (request.get(key) for key in ("top_p", "top_k", "min_p"))
    return (
        (isinstance(top_p, int | float) and top_p < 1)
        or (isinstance(top_k, int) and top_k > 0)
        or (isinstance(min_p, int | float) and min_p > 0)
    )
