"""What is asked: prompts from a file or a list, and the request and key of every draw."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.asking.rows import rows_of
from limbeck.checks import ArgumentError, DataError, check_choice
from limbeck.records import Problem
from limbeck.teacher_record import shown


Prompt = str | tuple[int, ...] | list[dict[str, Any]]
AskedForm = Literal["chat", "completion"]
_SEEDS = 2**31
_KEY = 32  # letters of a key: 128 bits


@dataclass(frozen=True)
class Parameters:
    """How every prompt is asked.

    Attributes:
        model: Name of the model.
        form: "chat" or "completion".
        max_tokens: At most so many tokens an answer, at least 1.
        temperature: Of the sampler, at least 0.
        top_logprobs: How many of the largest log-probabilities are asked for beside that of the
            drawn token; None asks for no log-probabilities.
        seed: Every draw gets a seed of its own from it; None sends none.
        token_ids: Whether vLLM's `return_token_ids` and `return_tokens_as_token_ids` are sent.
        extra: Further fields of the request; they replace those above.
    """

    model: str
    form: AskedForm = "chat"
    max_tokens: int = 16
    temperature: float = 1.0
    top_logprobs: int | None = 0
    seed: int | None = None
    token_ids: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked without asking."""
        check_choice("collect", "form", self.form, ("chat", "completion"))
        if not self.model:
            raise ArgumentError("collect: expected `model`, a name; got none. Give --model.")
        if self.max_tokens < 1:
            raise ArgumentError(f"collect: expected `max_tokens` >= 1; got {self.max_tokens}.")
        if not 0 <= self.temperature < float("inf"):
            raise ArgumentError(f"collect: expected `temperature` >= 0; got {self.temperature}.")
        if self.top_logprobs is not None and self.top_logprobs < 0:
            raise ArgumentError(
                f"collect: expected `top_logprobs` >= 0, or None; got {self.top_logprobs}."
            )
        owned = sorted({"model", "prompt", "messages", "stream", "n"} & self.extra.keys())
        if owned:
            raise ArgumentError(
                f"collect: expected `extra` without {', '.join(owned)}; limbeck sets these. For "
                "several draws give `draws`."
            )

    def body(self, prompt: Prompt, seed: int | None = None) -> dict[str, Any]:
        """Return the request for a prompt."""
        made: dict[str, Any] = {"model": self.model}
        if self.form == "chat":
            said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            made["messages"] = said
        else:
            made["prompt"] = list(prompt) if isinstance(prompt, tuple) else prompt
        if "max_completion_tokens" not in self.extra:  # newer models refuse the older name
            made["max_tokens"] = self.max_tokens
        made["temperature"] = self.temperature
        made |= self._log_probabilities()
        if self.token_ids:
            made |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        if seed is not None:
            made["seed"] = seed
        return {**made, **self.extra}

    def _log_probabilities(self) -> dict[str, Any]:
        if self.top_logprobs is None:
            return {}
        if self.form == "completion":
            return {"logprobs": self.top_logprobs}
        return {"logprobs": True} | (
            {"top_logprobs": self.top_logprobs} if self.top_logprobs else {}
        )


@dataclass(frozen=True, slots=True)
class Question:
    """One draw of one prompt.

    Attributes:
        key: Hash of input, model, parameters and draw number: the same in every run.
        number: Place of the prompt, from 1.
        draw: Number of the draw of this prompt, from 0.
        body: The request.
    """

    key: str
    number: int
    draw: int
    body: dict[str, Any]


def questions(prompts: Iterable[Prompt], parameters: Parameters, draws: int) -> Iterator[Question]:
    """Yield what is to be asked: every prompt so many times; a prompt that repeats has more draws.

    The seeds of draws differ, also between prompts: with one seed for all, a server would draw
    them all with the same random numbers.
    """
    seen: Counter[str] = Counter()
    for number, prompt in enumerate(prompts, 1):
        plain = parameters.body(prompt)
        for _ in range(draws):
            name = _canonical(plain)
            draw = seen[name]
            seen[name] += 1
            key = _hashed({"body": plain, "draw": draw, **_seed(parameters)})
            if parameters.seed is None:
                yield Question(key, number, draw, plain)
            else:
                yield Question(key, number, draw, parameters.body(prompt, int(key, 16) % _SEEDS))


def _seed(parameters: Parameters) -> dict[str, int]:
    return {} if parameters.seed is None else {"seed": parameters.seed}


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _hashed(value: object) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:_KEY]


def prompts_from(source: Path | str | Sequence[Any], form: AskedForm) -> list[Prompt]:
    """Return the prompts of a file or list, each checked before any is asked.

    Args:
        source: A text file with one prompt a line (empty lines are skipped); JSON lines (.jsonl)
            with "prompt" (text or token ids) or "messages"; or a list of prompts.
        form: The form they are asked in.

    Raises:
        DataError: If there is no such file, no prompt, or one that cannot be asked in this form.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        name = str(path)
        packed = path.suffixes[-2:] == [".jsonl", ".gz"]
        found = _of_rows(path) if path.suffix in (".jsonl", ".json") or packed else _of_text(path)
    else:
        name, found = "collect", list(enumerate(source, 1))
    made = [_prompt(name, line, item, form) for line, item in found]
    if not made:
        raise DataError(f"{name}: expected prompts; got none.")
    return made


def _of_rows(path: Path) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for line, row in rows_of(path):
        if isinstance(row, Problem):
            raise DataError(f"{path}: {row} Mend it; nothing was asked.")
        key = next((key for key in ("messages", "prompt") if row.get(key) is not None), None)
        if key is None:
            raise DataError(
                f'{path}: expected "prompt" or "messages" in line {line}; got '
                f"{', '.join(map(str, row)) or 'no key'}."
            )
        found.append((line, row[key]))
    return found


def _of_text(path: Path) -> list[tuple[int, Any]]:
    try:
        text = path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "no UTF-8"
        raise DataError(f"{path}: expected a file of prompts; got {why}.") from None
    lines = text.removeprefix("\ufeff").split("\n")
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]


def _prompt(name: str, line: int, item: Any, form: AskedForm) -> Prompt:
    if isinstance(item, str) and item:
        return item
    if isinstance(item, list | tuple) and item:
        if all(isinstance(one, Mapping) and isinstance(one.get("role"), str) for one in item):
            if form == "chat":
                return [dict(one) for one in item]
            raise DataError(
                f"{name}: expected text or token ids for the completion form; got messages in line "
                f'{line}. Ask in the form "chat".'
            )
        if all(type(one) is int and one >= 0 for one in item):
            if form == "completion":
                return tuple(item)
            raise DataError(
                f"{name}: expected text or messages for the chat form; got token ids in line "
                f'{line}. Ask in the form "completion".'
            )
    raise DataError(
        f"{name}: expected a prompt (text, token ids or messages with a role) in line {line}; got "
        f"{shown(item)}."
    )
