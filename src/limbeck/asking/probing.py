"""Find out what an endpoint really gives, since documentation cannot be relied on for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.asking.answers import Said, Step, choices_of
from limbeck.asking.endpoint import SERVER, Endpoint, EndpointError
from limbeck.asking.keys import Key
from limbeck.asking.naming import is_added, same
from limbeck.asking.probe_result import CapReason, Outside, ProbeResult, PromptScores
from limbeck.asking.probe_tests import Laws, drawn_p, grid_of, processing_of, spread_of
from limbeck.asking.prompts import AskedForm, Parameters
from limbeck.checks import ArgumentError
from limbeck.teacher_record import RecordError


PROMPT = "Write one short sentence about a town by the sea."
ALL = 1e-3  # from a sum of 1: then a list holds every label
LONG = 16  # tokens of an answer where many are wanted
HOT = 2.0  # temperature at which tokens outside of the list are drawn


def probe(
    model: str,
    *,
    form: AskedForm = "chat",
    prompt: str = PROMPT,
    draws: int = 32,
    largest: int = 2**17,
    extra: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    api_key: str | Key | None = None,
    rate: float | None = None,
    retries: int = 5,
    timeout: float = 120.0,
) -> ProbeResult:
    r"""Find out what an endpoint really gives: log-probabilities, how many, and of which law.

    Whether the temperature is in the numbers follows from two of them, which temperature
    :math:`\tau` turns into :math:`\ell_\tau(a) - \ell_\tau(b) = (\ell_1(a) - \ell_1(b)) / \tau`
    where they are of the law after it, and leaves alone otherwise. The cap is searched by doubling
    and halving; it takes about ``draws`` + 30 requests of a few tokens.

    Args:
        model: Name of the model.
        form: "chat" or "completion".
        prompt: What is asked; the next token should not be certain.
        draws: Draws at temperature 1 for the test of draws, at least 2.
        largest: Where the search for the cap ends, at least 1.
        extra: Further fields of every request.
        base_url: Address up to /v1; None takes OPENAI_BASE_URL.
        api_key: None takes OPENAI_API_KEY.
        rate: Requests a minute at most.
        retries: Of the client, at least 0.
        timeout: Seconds for an answer.

    Returns:
        :class:`ProbeResult`; its ``privilege`` is the planner's.

    Raises:
        ArgumentError: If an option makes no sense.
        EndpointError: If the endpoint doesn't answer a plain request.

    Source:
        Derived.
    """
    if draws < 2 or largest < 1:
        raise ArgumentError(
            f"probe: expected `draws` >= 2 and `largest` >= 1; got {draws} and {largest}."
        )
    parameters = Parameters(model, form, max_tokens=1, extra=dict(extra or {}))
    with Endpoint(base_url, api_key, rate=rate, retries=retries, timeout=timeout) as endpoint:
        return _Probe(endpoint, parameters, prompt).run(draws, largest)


class _Probe:
    """Asks one thing after the other."""

    def __init__(self, endpoint: Endpoint, parameters: Parameters, prompt: str) -> None:
        self.endpoint, self.parameters, self.prompt = endpoint, parameters, prompt
        self.refusals: dict[str, str] = {}

    def run(self, draws: int, largest: int) -> ProbeResult:
        first = self.ask(top=None)  # an endpoint that doesn't answer this ends the probe
        scored = self.try_to("log-probabilities", top=0)
        steps = _steps(scored)
        there = any(step.token.log is not None or step.token.withheld for step in steps)
        cap, reason = self.cap(largest) if there else (0, "refused")
        listed = min(cap, 20)
        laws = self.laws(listed if there else None, draws)
        cold = [
            self.ask(top=listed if there else None, temperature=0.0, tokens=LONG) for _ in range(3)
        ]
        outside, outside_tokens = self.outside(cap) if there else ("not seen", 0)
        if reason == "all labels" and outside_tokens:
            reason = "shorter"  # a short list can hold nearly all of a peaked law
        slopes, processing = processing_of(laws)
        lists = [step.top for steps in laws.at.values() for step in steps]
        return ProbeResult(
            address=self.endpoint.address,
            model=str(first.get("model") or self.parameters.model),
            form=self.parameters.form,
            log_probabilities=there,
            top_cap=cap,
            cap_reason=reason,
            outside=outside,
            outside_tokens=outside_tokens,
            temperature=processing,
            slopes=slopes,
            deterministic=len({_text(answer) for answer in cold}) == 1,
            spread=spread_of([_steps(answer) for answer in cold]) if there else None,
            draws_differ=len(set(laws.texts)) > 1 if laws.texts else None,
            draws_p=drawn_p(laws.at.get(1.0, [])),
            grid=grid_of(laws),
            above_one=any(_total(top) > 1 + 0.01 for top in lists),
            prompt_scores=self.prompt_scores(),
            token_ids=self.token_ids(there),
            refusals=self.refusals,
            requests=self.endpoint.sent,
            draws=draws,
        )

    def ask(
        self,
        *,
        top: int | None,
        temperature: float = 1.0,
        tokens: int = 1,
        **extra: Any,
    ) -> dict[str, Any]:
        """Ask for one answer."""
        old = self.parameters
        asked = Parameters(
            *(old.model, old.form, tokens, temperature, top), extra={**old.extra, **extra}
        )
        return self.endpoint.ask(old.form, asked.body(self.prompt))

    def try_to(self, what: str, **asked: Any) -> dict[str, Any] | None:
        """Ask; None where that is refused, and why is kept.

        Servers refuse what they cannot do with 5xx too; a limit of requests or a lost connection
        says nothing about what was asked.
        """
        try:
            return self.ask(**asked)
        except EndpointError as problem:
            refused = problem.fault == "refused" or (problem.status or 0) >= SERVER
            if problem.fault == "stopped" or not refused:
                raise
            self.refusals[what] = str(problem)
            return None

    def cap(self, largest: int) -> tuple[int, CapReason]:
        """Return how many are listed at most, and how that shows."""
        known, size = 0, 1
        while size <= largest:
            answer = self.listing(size)
            if answer is None:
                return self.halved(known, size), "refused"
            listed = _listed(answer)
            if listed < size:
                whole = _total(_first_top(answer)) >= 1 - ALL
                return listed, "all labels" if whole else "shorter"
            known, size = size, size * 2
        return known, "not reached"

    def halved(self, good: int, bad: int) -> int:
        """Return the largest number that is answered, between one that is and one that isn't."""
        while bad - good > 1:
            middle = (good + bad) // 2
            answer = self.listing(middle)
            if answer is not None and _listed(answer) >= middle:
                good = middle
            else:
                bad = middle
        return good

    def listing(self, size: int) -> dict[str, Any] | None:
        """Ask for so many; at temperature 0, where the drawn token is one of them for sure."""
        return self.try_to("more of the largest ones", top=size, temperature=0.0)

    def laws(self, top: int | None, draws: int) -> Laws:
        """Draw one token many times, and at other temperatures."""
        found = Laws()
        for temperature, number in ((1.0, draws), (0.5, 4), (HOT, 4)):
            for _ in range(number):
                answer = self.ask(top=top, temperature=temperature)
                found.at.setdefault(temperature, []).extend(_steps(answer)[:1])
                if temperature == 1.0:
                    found.texts.append(_text(answer))
        return found

    def outside(self, cap: int) -> tuple[Outside, int]:
        """Draw at a high temperature, where tokens outside of the list come."""
        numbers = withheld = 0
        for _ in range(4):
            answer = self.ask(top=cap, temperature=HOT, tokens=LONG)
            for step in _steps(answer):
                if is_added(step, cap) or not any(same(one, step.token) for one in step.top):
                    withheld += step.token.log is None
                    numbers += step.token.log is not None
        if withheld:
            return "withheld", withheld + numbers
        return ("numbers" if numbers else "not seen"), numbers

    def prompt_scores(self) -> PromptScores | None:
        """Return how tokens of the prompt can be scored."""
        answer = self.try_to("prompt_logprobs", top=0, prompt_logprobs=1)
        if answer is not None and _has_prompt_logprobs(answer):
            return "prompt_logprobs"
        if self.parameters.form == "completion":
            answer = self.try_to("echo", top=0, echo=True)
            steps = _steps(answer)
            if len(steps) > 1 and steps[1].token.log is not None:
                return "echo"
        return None

    def token_ids(self, there: bool) -> bool:
        """Return whether ids come beside the tokens."""
        answer = self.try_to(
            "token ids",
            top=0 if there else None,
            return_token_ids=True,
            return_tokens_as_token_ids=True,
        )
        steps = _steps(answer)
        return bool(steps) and all(step.token.id is not None for step in steps)


def _steps(answer: Mapping[str, Any] | None) -> list[Step]:
    """Return the tokens of an answer; none where they cannot be read."""
    if answer is None:
        return []
    try:
        return list(choices_of(answer)[0].steps or ())
    except RecordError:
        return []


def _text(answer: Mapping[str, Any]) -> str:
    try:
        return choices_of(answer)[0].text or ""
    except RecordError:
        return ""


def _first_top(answer: Mapping[str, Any]) -> tuple[Said, ...]:
    steps = _steps(answer)
    return steps[0].top if steps else ()


def _listed(answer: Mapping[str, Any]) -> int:
    return len(_first_top(answer))


def _total(top: Sequence[Said]) -> float:
    return math.fsum(math.exp(min(one.log, 1.0)) for one in top if one.log is not None)


def _has_prompt_logprobs(answer: Mapping[str, Any]) -> bool:
    try:
        return bool(choices_of(answer)[0].prompt_steps)
    except RecordError:
        return False
