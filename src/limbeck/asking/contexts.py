"""What a teacher had read when it drew a token: token ids where they can be known, else text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limbeck.asking.answers import Choice, Said
from limbeck.asking.envelopes import prompt_of
from limbeck.asking.vocabulary import Vocabulary
from limbeck.teacher_record import Input, RecordError


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt, and what was drawn after it.

    Attributes:
        ids: Token ids of all of it, where they are known.
        prompt: The prompt's text or messages otherwise.
        drawn: Bytes of the text drawn so far.
        readable: Whether all that was drawn has text.
    """

    ids: tuple[int, ...] | None
    prompt: str | Sequence[Mapping[str, Any]]
    drawn: bytes = b""
    readable: bool = True

    def input(self) -> Input:
        """Return it as the input of a record.

        Messages become JSON, with what was drawn as an assistant's message.
        """
        if self.ids is not None:
            return self.ids
        if not self.readable:
            raise RecordError(
                "missing_prompt",
                "expected the prompt's token ids, or text of the tokens drawn; got ids of the "
                "latter only. Give `tokenizer` (--tokenizer), or ask for `prompt_token_ids`.",
            )
        text = self.drawn.decode("utf-8", "replace")
        if isinstance(self.prompt, str):
            return self.prompt + text
        said = [{"role": "assistant", "content": text}] if text else []
        return json.dumps([*self.prompt, *said], ensure_ascii=False)

    def after(self, token: Said, label: int) -> Context:
        """Return the context after one more token."""
        if self.ids is not None:
            return replace(self, ids=(*self.ids, label))
        piece = token.raw
        if piece is None and token.text is not None:
            piece = token.text.encode("utf-8", "replace")
        readable = self.readable and piece is not None
        return replace(self, drawn=self.drawn + (piece or b""), readable=readable)


def context_of(
    choice: Choice, request: Mapping[str, Any], vocabulary: Vocabulary | None
) -> Context:
    """Return the prompt of an answer.

    The server's ids of the prompt come first, then the request's; text is encoded where there is
    a tokenizer (messages: with its chat template), and stays text otherwise.

    Raises:
        RecordError: If the prompt is unknown.
    """
    if choice.prompt_ids is not None:
        return Context(choice.prompt_ids, "")
    prompt = prompt_of(request)
    if isinstance(prompt, tuple):
        return Context(prompt, "")
    if prompt is None:
        raise RecordError(
            "missing_prompt",
            "expected the prompt beside the answer (`prompt`, `messages`, `request` or "
            "`prompt_token_ids`); got an answer alone. Give the requests of the batch "
            "(--requests), or write both into a line.",
        )
    try:
        if vocabulary is not None and isinstance(prompt, str) and vocabulary.encode is not None:
            return Context(tuple(map(int, vocabulary.encode(prompt))), prompt)
        if vocabulary is not None and vocabulary.render and not isinstance(prompt, str):
            return Context(tuple(map(int, vocabulary.render(prompt))), prompt)
    except Exception as problem:  # noqa: BLE001  (a tokenizer's or template's own errors)
        raise RecordError(
            "not_encoded", f"expected a prompt that the tokenizer takes; it said: {problem}"
        ) from None
    return Context(None, prompt)


def prompt_length(choice: Choice, request: Mapping[str, Any]) -> int:
    """Return how many of an echoing answer's tokens are the prompt's.

    Raises:
        RecordError: If no boundary between tokens is the prompt's end.
    """
    if not choice.echoed and request.get("echo") is not True:
        return 0
    steps = choice.steps or ()
    if choice.prompt_ids is not None:
        return len(choice.prompt_ids)
    prompt = prompt_of(request)
    if isinstance(prompt, tuple):
        return len(prompt)
    if isinstance(prompt, str):
        text = ""
        for place, step in enumerate(steps):
            if text == prompt and place:
                return place
            text += step.token.text or ""
        if text == prompt:
            return len(steps)
    raise RecordError(
        "echoed_prompt",
        "expected to find where the echoed prompt ends; no token ends there. Ask without `echo`, "
        "or with `return_token_ids`.",
    )
