"""What stands around an answer: the request it belongs to, a batch's envelope, its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.teacher_record import RecordError, shown


Form = Literal["auto", "chat", "completion", "batch", "columns", "records"]
FORMS: tuple[Form, ...] = ("auto", "chat", "completion", "batch", "columns", "records")
_INLINE = ("prompt", "messages", "temperature", "top_p", "top_k", "min_p", "top_logprobs", "echo")
_FAILED = 400


@dataclass(frozen=True, slots=True)
class Envelope:
    """An answer with its request.

    Attributes:
        answer: The body, with `choices`.
        request: What was asked, as far as it is known.
        name: The sequence's name; None where the line has none.
    """

    answer: Mapping[str, Any]
    request: Mapping[str, Any]
    name: str | None


def form_of(line: Mapping[str, Any]) -> Form:
    """Return which form a line has.

    Example:
        >>> form_of({"choices": [{"message": {}}]}), form_of({"input": 3, "label": 1})
        ('chat', 'records')
    """
    if "custom_id" in line and ("response" in line or "error" in line):
        return "batch"
    answer = line.get("response", line)
    if isinstance(answer, Mapping) and isinstance(answer.get("body"), Mapping):
        answer = answer["body"]
    if isinstance(answer, Mapping) and "choices" in answer:
        first = answer["choices"][:1] if isinstance(answer["choices"], list) else []
        flat = any(isinstance(one, Mapping) and "message" not in one for one in first)
        return "completion" if flat else "chat"
    if "input" in line and "label" in line:
        return "records"
    return "columns" if any(isinstance(value, list) for value in line.values()) else "auto"


def opened(
    line: Mapping[str, Any], requests: Mapping[str, Mapping[str, Any]] | None = None
) -> Envelope:
    """Take an answer out of what stands around it.

    Args:
        line: An answer; {"request", "response"}; or a line of a batch's output.
        requests: Bodies of a batch's requests, by `custom_id`.

    Raises:
        RecordError: If the request failed, or there is no answer.
    """
    custom = line.get("custom_id")
    request: dict[str, Any] = {key: line[key] for key in _INLINE if line.get(key) is not None}
    for key in ("body", "request"):
        if isinstance(line.get(key), Mapping):
            request |= line[key]
    if requests is not None and isinstance(custom, str):
        if custom not in requests:
            raise RecordError(
                "missing_prompt", f"expected a request with the custom_id {shown(custom)}."
            )
        request |= requests[custom]
    answer: Any = line
    if "response" in line or "error" in line:
        answer = _body(line)
    name = next(
        (one for one in (line.get("key"), custom, answer.get("id")) if isinstance(one, str)), None
    )
    return Envelope(answer, request, name)


def _body(line: Mapping[str, Any]) -> Mapping[str, Any]:
    response = line.get("response")
    if line.get("error") or response is None:
        raise RecordError(
            "failed_request", f"expected an answer; got an error: {shown(line.get('error'))}."
        )
    if not isinstance(response, Mapping):
        raise RecordError("not_object", f"expected an object `response`; got {shown(response)}.")
    status = response.get("status_code")
    body = response.get("body", response)
    if isinstance(status, int) and status >= _FAILED:
        raise RecordError("failed_request", f"expected an answer; got status {status}.")
    if not isinstance(body, Mapping):
        raise RecordError("not_object", f"expected an object `body`; got {shown(body)}.")
    return body


def prompt_of(request: Mapping[str, Any]) -> str | tuple[int, ...] | list[dict[str, Any]] | None:
    """Return the prompt of a request: text, token ids, or messages.

    Raises:
        RecordError: If it holds several prompts, or something else.
    """
    messages = request.get("messages")
    if isinstance(messages, list) and messages:
        if not all(isinstance(one, Mapping) for one in messages):
            raise RecordError(
                "wrong_type", f"expected objects in `messages`; got {shown(messages)}."
            )
        return messages
    prompt = request.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if prompt is None or isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(type(one) is int and one >= 0 for one in prompt):
        return tuple(prompt)
    raise RecordError(
        "several_prompts",
        f"expected one prompt a request; got {shown(prompt)}. Ask for them one by one.",
    )
