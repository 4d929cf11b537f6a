"""What one privilege needs for an error, before prices and disks: queries and what they rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from limbeck.teacher_record import Privilege


Basis = Literal["worst case", "known law", "parametric rule", "Lipschitz rule", "measured fit"]
PlanStatus = Literal["resolved", "unresolved", "not reachable", "not measured"]


@dataclass(frozen=True)
class Need:
    """Queries as real numbers; None where nothing can be said.

    Attributes:
        planning: To expect.
        assumption: What the numbers rest on.
        basis: Its kind.
        sufficient: Proved to be enough.
        published: Proved to be enough with the constants that were printed.
        impossible: Proved to be too few, for every student.
        interval: Of the planning number, where it was measured.
        status: Whether the numbers may be used.
        notes: Beside.
    """

    planning: float | None
    assumption: str
    basis: Basis
    sufficient: float | None = None
    published: float | None = None
    impossible: float | None = None
    interval: tuple[float, float] | None = None
    status: PlanStatus = "resolved"
    notes: tuple[str, ...] = ()


Needs = dict[Privilege, Need]


def at_most(need: Need, poorer: Need) -> Need:
    """Return a need no larger than that of a student who looks away from the better answers.

    Example:
        >>> at_most(Need(5.0, "", "worst case", 6.0), Need(3.0, "", "worst case", 4.0)).sufficient
        4.0
    """
    if need.sufficient is None or poorer.sufficient is None:
        return need
    sufficient = min(need.sufficient, poorer.sufficient)
    planning = None if need.planning is None else min(need.planning, sufficient)
    return replace(need, planning=planning, sufficient=sufficient)


def least_queries(
    error_at: Callable[[int], float], error: float, *, most: int = 2**62
) -> int | None:
    """Return the least number of queries at which a falling error is at or below a target.

    Args:
        error_at: The error at n queries, never rising in n.
        error: The target.
        most: Where to give up.

    Returns:
        n, at least 1; None where ``most`` queries are not enough.

    Example:
        >>> least_queries(lambda n: 1 / n, 0.125)
        8
    """
    high = 1
    while error_at(high) > error:
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if error_at(middle) > error else (low, middle)
    return high
