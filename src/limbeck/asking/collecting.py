"""Ask a teacher for its answers, and keep them as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.asking.answers_file import AnswersFile
from limbeck.asking.endpoint import Endpoint
from limbeck.asking.expanding import How
from limbeck.asking.importing import how_from, imported
from limbeck.asking.in_flight import Progress, ask_all
from limbeck.asking.keys import Key
from limbeck.asking.prompts import AskedForm, Parameters, Question, prompts_from, questions
from limbeck.checks import ArgumentError
from limbeck.records import Problem, TeacherRecord, collected, write_records


@dataclass(frozen=True)
class Collection:
    """What was collected.

    Attributes:
        records: File of records, in the order of the prompts.
        answers: File of the answers as they came, from which the same command goes on.
        address: The endpoint.
        questions: How many draws were wanted.
        asked: How many were asked now.
        kept: How many were there before.
        privileges: Number of records by privilege; `censored` ones count as text, and apart.
        problems: Questions that failed (by the number of the prompt), and what was wrong with
            answers (by the same).
    """

    records: Path
    answers: Path
    address: str
    questions: int
    asked: int
    kept: int
    privileges: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every draw that was wanted has its answer."""
        return self.asked + self.kept == self.questions

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "records": str(self.records),
            "answers": str(self.answers),
            "endpoint": self.address,
            "questions": self.questions,
            "asked": self.asked,
            "kept": self.kept,
            "complete": self.complete,
            "privileges": self.privileges,
            "problems": [vars(problem) for problem in self.problems],
        }


def collect(
    prompts: Path | str | Sequence[Any],
    out: Path | str,
    *,
    model: str,
    form: AskedForm = "chat",
    max_tokens: int = 16,
    temperature: float = 1.0,
    top_logprobs: int | None = 0,
    draws: int = 1,
    seed: int | None = None,
    token_ids: bool = False,
    extra: Mapping[str, Any] | None = None,
    tokenizer: object = None,
    labels: int | None = None,
    top: int | None = None,
    base_url: str | None = None,
    api_key: str | Key | None = None,
    rate: float | None = None,
    concurrency: int = 4,
    retries: int = 5,
    timeout: float = 120.0,
    progress: Progress | None = None,
) -> Collection:
    """Ask an OpenAI-compatible endpoint for draws, and write them as teacher records.

    Every answer is kept as it came, beside the records, in ``OUT.answers.jsonl``: a line of its
    own that is on disk before the next one is counted. Its key is a hash of input, model,
    parameters and draw number, so that the same call goes on after a kill and asks nothing twice
    (but what was under way); the records are made of the answers each time, in the order of the
    prompts.

    Args:
        prompts: A text file with one prompt a line, JSON lines with "prompt" or "messages", or a
            list.
        out: File of the records, such as ``records.jsonl``.
        model: Name of the model.
        form: "chat" or "completion".
        max_tokens: At most so many tokens an answer, at least 1.
        temperature: Of the sampler, at least 0; 1 draws from the teacher's own law.
        top_logprobs: How many of the largest log-probabilities are asked for beside the drawn
            token's; None asks for none at all.
        draws: Draws of each prompt, at least 1.
        seed: Gives each draw its seed; None sends none.
        token_ids: Ask for token ids (vLLM and servers like it).
        extra: Further fields of every request.
        tokenizer: As for :func:`limbeck.asking.importing.import_records`: needed where tokens come
            without ids.
        labels: How many tokens there are, where it is known.
        top: How many of the largest ones the records keep at most.
        base_url: Address up to /v1; None takes OPENAI_BASE_URL.
        api_key: None takes OPENAI_API_KEY.
        rate: Requests a minute at most, retries included.
        concurrency: Requests under way at most, at least 1.
        retries: Of the client, at least 0.
        timeout: Seconds for an answer.
        progress: Called with (draws that have an answer, draws wanted).

    Returns:
        :class:`Collection`. Draws that failed are in its ``problems``, and asked again next time.

    Raises:
        ArgumentError: If an option makes no sense.
        DataError: If the prompts cannot be used.
        EndpointError: If the endpoint refuses everybody, or is gone. Answers so far are kept.
        StorageError: If a file cannot be written.
        CollectStopped: After Ctrl-C. Answers so far are kept.

    Source:
        Derived.
    """
    parameters = Parameters(
        *(model, form, max_tokens, temperature, top_logprobs, seed, token_ids), dict(extra or {})
    )
    for name, number in (("draws", draws), ("concurrency", concurrency)):
        if number < 1:
            raise ArgumentError(f"collect: expected `{name}` >= 1; got {number}.")
    how = how_from(tokenizer, labels=labels, top=top)
    wanted = list(questions(prompts_from(prompts, form), parameters, draws))
    out = Path(out)
    beside = out.with_name(f"{out.name}.answers.jsonl")
    if out.exists() and not beside.exists():
        raise ArgumentError(
            f"collect: expected `out` as a new file, or one that collect made; got {out}, without "
            f"{beside.name} beside it. Name another file."
        )
    with (
        Endpoint(base_url, api_key, rate=rate, retries=retries, timeout=timeout) as endpoint,
        AnswersFile(beside) as answers,
    ):
        kept = sum(question.key in answers for question in wanted)
        failed = ask_all(endpoint, answers, wanted, form, concurrency, progress)
        told = _written(out, answers, wanted, how)
        return Collection(
            *(out, answers.path, endpoint.address, len(wanted)),
            asked=len(wanted) - len(failed) - kept,
            kept=kept,
            privileges=told[0],
            problems=[*failed, *told[1]],
        )


def _written(
    out: Path, answers: AnswersFile, wanted: Sequence[Question], how: How
) -> tuple[dict[str, int], list[Problem]]:
    """Write the records of all answers; return their privileges, and what was wrong."""
    problems: list[Problem] = []
    privileges: Counter[str] = Counter()
    found = [question for question in wanted if question.key in answers]

    def records() -> Iterator[TeacherRecord]:
        for item in imported((answers.read(question.key) for question in found), how=how):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            privileges[item.privilege] += 1
            privileges["censored"] += item.censored
            yield item

    write_records(out, records())
    told = collected(problems).problems
    numbers = [0, *(question.number for question in found)]
    return dict(+privileges), [
        Problem(numbers[one.line], one.kind, one.text, one.left_out, one.lines)
        for one in told
        if one.kind != "empty"
    ]
