"""What an OpenAI-style answer says, token by token: chat, completion, and vLLM's additions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.asking.vocabulary import numbered
from limbeck.record_lines import SENTINELS
from limbeck.teacher_record import RecordError, number, shown, whole


@dataclass(frozen=True, slots=True)
class Said:
    """A token as a server names it.

    Attributes:
        text: Its string.
        raw: Its bytes.
        id: Its number, where the server gives it.
        log: Its log-probability [nats]; None where there is none, or a placeholder.
        rank: Its place among all tokens, from 1, where the server gives it.
        withheld: Whether a placeholder such as -9999 stood for the number.
    """

    text: str | None = None
    raw: bytes | None = None
    id: int | None = None
    log: float | None = None
    rank: int | None = None
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One position: the token that stands there, and the list of the largest ones as given."""

    token: Said
    top: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the texts that an answer holds.

    Attributes:
        index: Its number in the answer.
        text: The text, where it is given.
        steps: Its tokens; None where the answer names none.
        prompt_ids: Token ids of the prompt, where the server gives them.
        prompt_steps: The prompt's own tokens from the second one on, where they are scored.
        echoed: Whether ``steps`` begin with the prompt.
    """

    index: int
    text: str | None
    steps: tuple[Step, ...] | None
    prompt_ids: tuple[int, ...] | None
    prompt_steps: tuple[Step, ...] = ()
    echoed: bool = False


def choices_of(answer: Mapping[str, Any]) -> list[Choice]:
    """Return what an answer holds.

    Raises:
        RecordError: If it is none, or its parts don't fit each other.
    """
    found = answer.get("choices")
    if not isinstance(found, list):
        error = answer.get("error")
        if error:
            raise RecordError(
                "failed_request", f"expected an answer; got an error: {shown(error)}."
            )
        raise RecordError("missing_key", "expected the key `choices`; it is absent.")
    return [_choice(_object("choices", one), answer, place) for place, one in enumerate(found)]


def _choice(one: Mapping[str, Any], answer: Mapping[str, Any], place: int) -> Choice:
    logprobs = one.get("logprobs")
    steps: tuple[Step, ...] | None = None
    if isinstance(logprobs, Mapping):
        steps = _steps(logprobs)
    elif logprobs is not None:
        raise RecordError("wrong_type", f"expected an object `logprobs`; got {shown(logprobs)}.")
    ids = one.get("token_ids")
    if ids is not None:
        steps = _numbered_steps(_ids("token_ids", ids), steps)
    prompt = one.get("prompt_token_ids", answer.get("prompt_token_ids"))
    scored = one.get("prompt_logprobs", answer.get("prompt_logprobs"))
    prompt_ids = None if prompt is None else _ids("prompt_token_ids", prompt)
    index = one.get("index")
    return Choice(
        index=place if index is None else whole("index", index, least=0),
        text=_text_of(one),
        steps=steps,
        prompt_ids=prompt_ids,
        prompt_steps=() if scored is None else tuple(_scored(scored, prompt_ids)),
        echoed=_is_echoed(logprobs),
    )


def _is_echoed(logprobs: object) -> bool:
    """Whether a completion's tokens begin with the prompt: only its first one has no number."""
    given = logprobs.get("token_logprobs") if isinstance(logprobs, Mapping) else None
    return isinstance(given, list) and len(given) > 1 and given[0] is None and given[1] is not None


def _text_of(one: Mapping[str, Any]) -> str | None:
    message = one.get("message")
    text = message.get("content") if isinstance(message, Mapping) else one.get("text")
    return text if isinstance(text, str) else None


def _steps(logprobs: Mapping[str, Any]) -> tuple[Step, ...] | None:
    if logprobs.get("tokens") is not None:
        return tuple(_flat_steps(logprobs))
    # A refusal is drawn as any other answer, and its tokens stand apart.
    for key in ("content", "refusal"):
        if logprobs.get(key):
            return tuple(
                Step(_said(_object(key, item)), _top(item.get("top_logprobs")))
                for item in _list(key, logprobs[key])
            )
    return None if logprobs.get("content") is None else ()


def _flat_steps(logprobs: Mapping[str, Any]) -> Iterator[Step]:
    tokens = _list("tokens", logprobs["tokens"])
    given = logprobs.get("token_logprobs")
    logs = [None] * len(tokens) if given is None else _list("token_logprobs", given)
    tops = logprobs.get("top_logprobs")
    tops = [None] * len(tokens) if not tops else _list("top_logprobs", tops)
    if not len(tokens) == len(logs) == len(tops):
        raise RecordError(
            "length_mismatch",
            "expected `tokens`, `token_logprobs` and `top_logprobs` of one length; got "
            f"{len(tokens)}, {len(logs)} and {len(tops)}.",
        )
    for text, log, top in zip(tokens, logs, tops, strict=True):
        yield Step(_said({"token": text, "logprob": log}), _top(top))


def _numbered_steps(ids: tuple[int, ...], steps: tuple[Step, ...] | None) -> tuple[Step, ...]:
    """Put the ids that vLLM gives beside the tokens into the steps."""
    if steps is None:
        return tuple(Step(Said(id=one)) for one in ids)
    if len(ids) != len(steps):
        raise RecordError(
            "length_mismatch",
            f"expected as many `token_ids` as tokens; got {len(ids)} and {len(steps)}.",
        )
    return tuple(
        Step(
            Said(step.token.text, step.token.raw, one, step.token.log, None, step.token.withheld),
            step.top,
        )
        for one, step in zip(ids, steps, strict=True)
    )


def _top(given: object) -> tuple[Said, ...]:
    """Read a list of the largest ones: [{token, logprob}, ...] or {token: logprob, ...}."""
    if not given:
        return ()
    if isinstance(given, Mapping):
        return tuple(_said({"token": text, "logprob": log}) for text, log in given.items())
    return tuple(_said(_object("top_logprobs", item)) for item in _list("top_logprobs", given))


def _scored(given: object, prompt_ids: tuple[int, ...] | None) -> Iterator[Step]:
    """Read vLLM's `prompt_logprobs`: one object a token, by id; none for the first token."""
    places = _list("prompt_logprobs", given)
    if prompt_ids is not None and len(prompt_ids) != len(places):
        raise RecordError(
            "length_mismatch",
            f"expected as many `prompt_logprobs` as `prompt_token_ids`; got {len(places)} and "
            f"{len(prompt_ids)}.",
        )
    for place, found in enumerate(places):
        if found is None and place == 0:
            continue
        listed = [
            _said({"logprob": None, **_entry(entry), "id": _id_of(name)})
            for name, entry in _object("prompt_logprobs", found).items()
        ]
        # vLLM puts the prompt's own token first; ids, where they are there, say it surely.
        own = prompt_ids[place] if prompt_ids is not None else (listed[0].id if listed else None)
        token = next((one for one in listed if one.id == own), None)
        if token is None:
            raise RecordError(
                "missing_key", f"expected the prompt's token in `prompt_logprobs`, place {place}."
            )
        yield Step(token, tuple(listed))


def _entry(entry: object) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {"logprob": entry}


def _id_of(name: str) -> int:
    if not name.isdecimal():
        raise RecordError("wrong_type", f"expected token ids as keys; got {shown(name)}.")
    return int(name)


def _said(item: Mapping[str, Any]) -> Said:
    text = item.get("token", item.get("decoded_token"))
    if text is not None and not isinstance(text, str):
        raise RecordError("wrong_type", f"expected a string for `token`; got {shown(text)}.")
    given = next((item[key] for key in ("id", "token_id") if item.get(key) is not None), None)
    one = numbered(text) if given is None else whole("id", given, least=0)
    log = item.get("logprob")
    log = None if log is None else number("logprob", log)
    rank = item.get("rank")
    withheld = log in SENTINELS
    return Said(
        text=None if given is None and one is not None else text,
        raw=_bytes(item.get("bytes")) if given is not None or one is None else None,
        id=one,
        log=None if withheld else log,
        rank=None if rank is None else whole("rank", rank, least=0),
        withheld=withheld,
    )


def _bytes(given: object) -> bytes | None:
    if not isinstance(given, list):
        return None
    try:
        return bytes(given)
    except (TypeError, ValueError):
        raise RecordError(
            "wrong_type", f"expected numbers in [0, 255] for `bytes`; got {shown(given)}."
        ) from None


def _ids(name: str, given: object) -> tuple[int, ...]:
    return tuple(whole(name, one, least=0) for one in _list(name, given))


def _list(name: str, given: object) -> Sequence[Any]:
    if not isinstance(given, list | tuple):
        raise RecordError("wrong_type", f"expected a list `{name}`; got {shown(given)}.")
    return given


def _object(name: str, given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise RecordError("wrong_type", f"expected objects in `{name}`; got {shown(given)}.")
    return given
