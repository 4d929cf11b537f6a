"""An OpenAI-compatible endpoint, asked through the `openai` client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from limbeck.asking.keys import Key, address_from, key_from, shown_address
from limbeck.asking.pacing import Pace
from limbeck.checks import ArgumentError, LimbeckError, check_positive


Fault = Literal["refused", "stopped", "passing"]
PATHS = {"chat": "/chat/completions", "completion": "/completions"}
_FATAL = (401, 403, 404)  # key, rights, or the model's name: asking on cannot help
_PASSING = (408, 409, 429)
SERVER = 500
_SHOWN = 400  # characters of an endpoint's own words


class EndpointError(LimbeckError, RuntimeError):
    """An endpoint that did not answer.

    Attributes:
        fault: "refused": this request, such as too long a prompt; "stopped": all requests, such as
            a wrong key; "passing": it may answer later.
        status: HTTP status, where there was one.
    """

    def __init__(self, message: str, fault: Fault, status: int | None = None) -> None:
        super().__init__(message)
        self.fault: Fault = fault
        self.status = status


class Endpoint:
    """An endpoint that can be asked, from several threads at once.

    Args:
        base_url: Address up to /v1; None takes OPENAI_BASE_URL, else OpenAI's.
        api_key: None takes OPENAI_API_KEY. It is sent to this address and goes nowhere else: not
            into messages, files or representations.
        rate: Requests a minute at most, retries included; None sets no bound.
        retries: How often the client tries again after 408, 409, 429, 5xx and broken connections.
        timeout: Seconds for an answer.

    Raises:
        ArgumentError: If the `openai` package or the key is missing, or an argument makes no sense.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | Key | None = None,
        *,
        rate: float | None = None,
        retries: int = 5,
        timeout: float = 120.0,
    ) -> None:
        check_positive("endpoint", timeout=timeout)
        if retries < 0:
            raise ArgumentError(f"endpoint: expected `retries` >= 0; got {retries}.")
        openai = _client_package()
        url = address_from(base_url)
        self._key = key_from(api_key, url)
        self.address = self._key.hidden_in(shown_address(url))
        self.sent = 0
        pace = Pace(rate)

        def before(_request: object) -> None:
            pace.wait()
            self.sent += 1

        self._client = openai.OpenAI(
            base_url=url,
            api_key=self._key.given(),
            max_retries=retries,
            timeout=timeout,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [before]}),
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self._client.close()

    def hide(self, text: str) -> str:
        """Return a text without the key, should the endpoint have repeated it."""
        return self._key.hidden_in(text)

    def ask(self, form: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request.

        Args:
            form: "chat" or "completion".
            body: As the endpoint gets it.

        Raises:
            EndpointError: If there is none, or one without choices.
        """
        openai = _client_package()
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except (TypeError, ValueError) as problem:
            raise EndpointError(
                self._said(f"expected a request that JSON in UTF-8 can hold; got: {problem}"),
                "refused",
            ) from None
        try:
            answer = self._client.post(PATHS[form], body=dict(body), cast_to=object)
        except openai.APIStatusError as problem:
            raise self._status(problem) from None
        except openai.APIConnectionError as problem:  # time-outs are such
            why = problem.__cause__ or problem
            raise EndpointError(
                self._said(f"expected an answer; got none ({type(why).__name__}: {why})"),
                "passing",
            ) from None
        except (openai.OpenAIError, ValueError) as problem:
            raise EndpointError(
                self._said(f"expected an answer in JSON; got: {problem}"), "passing"
            ) from None
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise EndpointError(
                self._said(f"expected an answer with `choices`; got {str(answer)!r}"), "refused"
            )
        return answer

    def _status(self, problem: Any) -> EndpointError:
        status = int(problem.status_code)
        fault: Fault = "refused"
        if status in _FATAL or getattr(problem, "code", None) == "insufficient_quota":
            fault = "stopped"
        elif status in _PASSING or status >= SERVER:
            fault = "passing"
        return EndpointError(
            self._said(f"expected an answer; got status {status}: {_words(problem)}"), fault, status
        )

    def _said(self, text: str) -> str:
        plain = " ".join(self.hide(text).split())
        return f"{self.address}: {plain[:_SHOWN]}{'...' * (len(plain) > _SHOWN)}"


def _words(problem: Any) -> str:
    """Return what the endpoint said about an error."""
    body = problem.body
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("error") or body.get("detail") or body
    return str(body) if body else str(problem.message)


def _client_package() -> Any:
    try:
        import openai
    except ImportError:
        raise ArgumentError(
            "endpoint: expected the `openai` package; it isn't installed. Run pip install "
            "'limbeck[api]'."
        ) from None
    return openai
