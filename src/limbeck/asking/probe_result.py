"""What a probe found out about an endpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from limbeck.teacher_record import Privilege


CapReason = Literal["refused", "shorter", "all labels", "not reached"]
Outside = Literal["numbers", "withheld", "not seen"]
Processing = Literal["after", "before", "unclear"]
PromptScores = Literal["echo", "prompt_logprobs"]


@dataclass(frozen=True)
class ProbeResult:
    """What an endpoint really gives.

    Attributes:
        address: The endpoint.
        model: The model's name, as the endpoint gave it.
        form: "chat" or "completion".
        log_probabilities: Whether the drawn token has a log-probability at all.
        top_cap: Most of the largest ones that it lists; 0 for none.
        cap_reason: How the cap shows: more are "refused", the list stays "shorter", it holds "all
            labels", or the search ended first ("not reached").
        outside: What drawn tokens outside of the list have: "numbers", "withheld" (a placeholder
            such as -9999, or nothing), or "not seen": none was drawn.
        outside_tokens: How many such tokens were drawn.
        temperature: Whether the numbers are of the law "after" the temperature, or "before" it.
        slopes: Slope of log-probabilities at T = 0.5 and 2 over those at 1: 1/T after, 1 before.
        deterministic: Whether the same text comes every time at temperature 0.
        spread: Largest difference between repeats of one log-probability [nats].
        draws_differ: Whether draws at temperature 1 differ: a cache gives the same each time.
        draws_p: p-value of the draws under the log-probabilities reported with them (chi-square).
        grid: Step of a grid that all log-probabilities lie on [nats]; None where there is none.
        above_one: Whether any list sums to more than 1.
        prompt_scores: How tokens of the prompt are scored, where they are.
        token_ids: Whether ids of tokens come where they are asked for.
        refusals: What was refused, in the endpoint's words, by what was asked.
        requests: How many requests it took, retries included.
        draws: How many draws the tests rest on.
    """

    address: str
    model: str
    form: str
    log_probabilities: bool
    top_cap: int = 0
    cap_reason: CapReason = "refused"
    outside: Outside = "not seen"
    outside_tokens: int = 0
    temperature: Processing = "unclear"
    slopes: dict[str, float] = field(default_factory=dict)
    deterministic: bool = False
    spread: float | None = None
    draws_differ: bool | None = None
    draws_p: float | None = None
    grid: float | None = None
    above_one: bool = False
    prompt_scores: PromptScores | None = None
    token_ids: bool = False
    refusals: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    draws: int = 0

    @property
    def privilege(self) -> Privilege:
        """What a query gives, in the planner's words."""
        if not self.log_probabilities:
            return "hard_labels"
        return "soft_labels" if self.cap_reason == "all labels" else "sampled_probabilities"

    @property
    def censored(self) -> bool | None:
        """Whether only tokens inside the list have numbers; None where none was seen outside."""
        if not self.log_probabilities or self.privilege == "soft_labels":
            return False
        return None if self.outside == "not seen" else self.outside == "withheld"

    def remarks(self) -> list[str]:
        """Return what follows for distillation, a sentence each."""
        said = []
        if self.censored:
            said.append(
                f"Drawn tokens outside of the {self.top_cap} largest have no number: these are "
                "hard_labels. The loss for censored teachers uses both rightly."
            )
        if self.temperature == "before":
            said.append(
                "Log-probabilities are from before the temperature: draw at temperature 1 without "
                "top_p or top_k, or they are not of the law that was drawn from."
            )
        if self.draws_differ is False:
            said.append("Draws repeat: a cache stands in between. More draws are worth nothing.")
        if self.draws_p is not None and self.draws_p < 0.001:
            said.append(
                f"Draws don't follow the log-probabilities beside them (p = {self.draws_p:.2g}): "
                "sampling is filtered, or not at the temperature that was asked for."
            )
        if self.grid is not None:
            said.append(f"Log-probabilities are rounded to steps of {self.grid:g} nats.")
        if self.above_one:
            said.append("Lists of the largest ones sum to more than 1: they are no probabilities.")
        if self.log_probabilities and not self.token_ids:
            said.append("Tokens come as strings: records need the model's tokenizer.")
        return said

    def rows(self) -> list[tuple[str, str]]:
        """Return names and findings, for a table."""
        rows = [
            ("model", self.model),
            ("log-probabilities of the drawn token", _yes(self.log_probabilities)),
        ]
        if self.log_probabilities:
            rows += [
                ("largest ones listed", f"{self.top_cap} ({self.cap_reason})"),
                ("drawn tokens outside of the list", f"{self.outside} ({self.outside_tokens})"),
                ("numbers are from", f"{self.temperature} the temperature{_slopes(self.slopes)}"),
                ("spread of repeats", _nats(self.spread)),
                ("draws follow the numbers", _p(self.draws_p)),
            ]
        return [
            *rows,
            ("same text at temperature 0", _yes(self.deterministic)),
            ("draws at temperature 1 differ", _yes(self.draws_differ)),
            ("scores of the prompt", self.prompt_scores or "no"),
            ("token ids", _yes(self.token_ids)),
            ("privilege", self.privilege + (", censored" if self.censored else "")),
        ]

    def __str__(self) -> str:
        """Return it as a table of lines, and what follows."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"{self.address}, {self.form}: {self.requests} requests"]
        lines += [f"  {name:<{width}}  {value}" for name, value in rows]
        return "\n".join([*lines, *self.remarks()])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            **asdict(self),
            "privilege": self.privilege,
            "censored": self.censored,
            "remarks": self.remarks(),
        }


def _yes(value: bool | None) -> str:
    return "not tested" if value is None else "yes" if value else "no"


def _nats(value: float | None) -> str:
    return "not tested" if value is None else f"{value:.3g} nats"


def _p(value: float | None) -> str:
    return "not tested" if value is None else f"p = {value:.3g}"


def _slopes(slopes: dict[str, float]) -> str:
    shown = ", ".join(f"{slope:.3f} at T = {name}" for name, slope in slopes.items())
    return f" (slope {shown})" if shown else ""
