"""A number with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from limbeck.checks import ArgumentError, check_choice


Status = Literal["resolved", "unresolved", "exact"]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, never a bare float.

    Attributes:
        value: The estimate, inside its interval.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        n: How many samples, runs or seeds it comes from.
        unit: Unit, such as "bits", "nats" or "fraction".
        status: "resolved", "exact" (no uncertainty), or "unresolved": then the number is neither
            printed nor used, only the interval.
        settings: How it was made: the level and kind of the interval, the method.
        raw: The value before it was clipped to its range, where it was.

    Example:
        >>> print(Estimate(0.5, 0.25, 0.75, n=100, unit="bits", status="resolved"))
        0.500 [0.250, 0.750] bits
    """

    value: float
    lower: float
    upper: float
    n: int
    unit: str
    status: Status
    settings: Mapping[str, Any] = field(default_factory=dict)
    raw: float | None = None

    def __post_init__(self) -> None:
        """Refuse an interval that does not hold its value, and an unknown status."""
        check_choice("Estimate", "status", self.status, get_args(Status))
        if not self.lower <= self.value <= self.upper:
            raise ArgumentError(
                f"Estimate: expected lower <= value <= upper; got {self.lower}, {self.value}, "
                f"{self.upper}."
            )

    def __str__(self) -> str:
        """Return the value with its interval and unit; the interval alone when unresolved."""
        interval = f"[{self.lower:.3f}, {self.upper:.3f}] {self.unit}"
        return (
            f"unresolved {interval}"
            if self.status == "unresolved"
            else (f"{self.value:.3f} {interval}")
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "value": float(self.value),
            "lower": float(self.lower),
            "upper": float(self.upper),
            "n": int(self.n),
            "unit": self.unit,
            "status": self.status,
            "settings": dict(self.settings),
            "raw": None if self.raw is None else float(self.raw),
        }
