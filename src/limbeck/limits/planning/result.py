"""What ``plan`` hands back: queries, cost and disk for each kind of answer a teacher can give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limbeck.limits.bounds.arguments import round_down, round_up
from limbeck.limits.planning.needs import Basis, Need, PlanStatus
from limbeck.teacher_record import Privilege


@dataclass(frozen=True)
class PrivilegePlan:
    """What one privilege needs; None where nothing can be said.

    Attributes:
        privilege: What a query gives.
        sufficient: Queries that are proved to be enough: in the mean, or with the plan's
            confidence. Rounded up.
        impossible_below: With fewer queries the mean error of every student is above the target
            on some teacher: proved. Rounded down; 0 where the bound says nothing.
        planning: Queries to expect: the sharp rate of the worst case, a rule, or a measured fit.
            Rounded up.
        published: Enough with the constants that the paper prints, where they differ.
        interval: Of the planning number, where it was measured; infinite ends are open ones.
        status: "resolved", or why there is no planning number: "unresolved", "not reachable" or
            "not measured".
        basis: What the numbers rest on.
        assumption: The same in words.
        price: Of one query.
        cost: Of ``planning`` queries, in the unit of the price.
        bytes_per_query: That the answer takes on disk.
        disk: Bytes of ``planning`` answers, without the inputs.
        notes: Beside.
    """

    privilege: Privilege
    sufficient: int | None
    impossible_below: int | None
    planning: int | None
    published: int | None
    interval: tuple[float, float] | None
    status: PlanStatus
    basis: Basis
    assumption: str
    price: float | None
    cost: float | None
    bytes_per_query: float | None
    disk: int | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, privilege: Privilege, need: Need, price: float | None, size: float | None
    ) -> PrivilegePlan:
        """Return the plan of a need at a price a query and bytes a query."""
        planning = None if need.planning is None else round_up(need.planning)
        return cls(
            privilege=privilege,
            sufficient=None if need.sufficient is None else round_up(need.sufficient),
            impossible_below=None if need.impossible is None else round_down(need.impossible),
            planning=planning,
            published=None if need.published is None else round_up(need.published),
            interval=need.interval,
            status=need.status,
            basis=need.basis,
            assumption=need.assumption,
            price=price,
            cost=None if price is None or planning is None else price * planning,
            bytes_per_query=size,
            disk=None if size is None or planning is None else round(size * planning),
            notes=need.notes,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and strings, for JSON; None for an open end."""
        ends = self.interval and [end if math.isfinite(end) else None for end in self.interval]
        return {
            "sufficient": self.sufficient,
            "impossible_below": self.impossible_below,
            "planning": self.planning,
            "published": self.published,
            "interval": ends,
            "status": self.status,
            "basis": self.basis,
            "assumption": self.assumption,
            "price": self.price,
            "cost": self.cost,
            "bytes_per_query": self.bytes_per_query,
            "disk": self.disk,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Plan:
    """Teacher queries that an error needs, by what a query gives.

    Attributes:
        hard_labels: Where only labels come back.
        sampled_probabilities: Where each label comes with its probability.
        soft_labels: Where whole rows come back.
        error: Target [total variation, mean over inputs].
        confidence: With which ``sufficient`` reaches it; None in the mean.
        break_even: For "better/poorer" privileges the ratio of their prices below which the better
            one is the cheaper way; None where a number is missing.
        cheapest: Privilege of the least cost among those with a price; None without prices.
        settings: What was asked for.
        notes: About all three.

    Example:
        >>> from limbeck import plan
        >>> made = plan(inputs=10_000, labels=50, error=0.05)
        >>> [made.hard_labels.planning, made.sampled_probabilities.planning, made.soft_labels.disk]
        [31194369, 3678795, 7357600]
    """

    hard_labels: PrivilegePlan
    sampled_probabilities: PrivilegePlan
    soft_labels: PrivilegePlan
    error: float
    confidence: float | None
    break_even: Mapping[str, float | None]
    cheapest: Privilege | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def privileges(self) -> tuple[PrivilegePlan, ...]:
        """The three plans, from the poorest answer to the richest."""
        return (self.hard_labels, self.sampled_probabilities, self.soft_labels)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and strings, for JSON."""
        return {
            "error": self.error,
            "confidence": self.confidence,
            **{one.privilege: one.to_dict() for one in self.privileges},
            "break_even": dict(self.break_even),
            "cheapest": self.cheapest,
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Return a table of plain text, with what the numbers rest on."""
        from limbeck.limits.planning.text import text

        return text(self)
