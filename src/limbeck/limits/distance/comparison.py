"""Two students on the same teacher labels, without any probability of the teacher."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from limbeck.estimates import Estimate
from limbeck.files import write_text
from limbeck.limits.distance.certificate import plain
from limbeck.limits.distance.intervals import CONFIDENCE
from limbeck.limits.distance.units import Units, record_mean, unbounded_mean, units_of


FILE_NAME = "comparison.json"


@dataclass(frozen=True, eq=False)
class StudentComparison:
    """Which of two students is nearer to a teacher, from labels that it drew.

    Attributes:
        first: Name of the first student.
        second: Name of the second.
        records: Records used, equal ones counted.
        kl: KL(teacher, first) less KL(teacher, second) [nats], approximate; it is the difference of
            their cross-entropies.
        squared_distance: The same of the mean squared distance of rows, sum_a (pihat - pi*)^2, with
            a guarantee.
        left_out: How many records were left out, by reason.
        warnings: What to mind.
        settings: How it was made.
    """

    first: str
    second: str
    records: int
    kl: Estimate
    squared_distance: Estimate
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Who is nearer to the teacher, in words, and how far that is certain."""
        sure, likely = _nearer(self.squared_distance), _nearer(self.kl)
        names = {-1: self.first, 1: self.second}
        if sure and likely in (sure, 0):
            return f"{names[sure]} is nearer to the teacher (a guarantee, in squared distance)"
        if sure:
            return (
                f"{names[sure]} is nearer in squared distance (a guarantee), {names[likely]} in KL "
                "(approximate)"
            )
        if likely:
            return f"{names[likely]} is likely nearer to the teacher (in KL, approximate)"
        return "no difference is resolved"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; what is not finite becomes None."""
        return plain(
            {
                "format": 1,
                "kind": "student comparison",
                "first": self.first,
                "second": self.second,
                "records": self.records,
                "kl": self.kl.to_dict(),
                "squared_distance": self.squared_distance.to_dict(),
                "verdict": self.verdict,
                "left_out": dict(self.left_out),
                "warnings": list(self.warnings),
                "settings": dict(self.settings),
            }
        )

    def save(self, folder: Path | str) -> Path:
        """Write ``comparison.json``; the file is whole or absent.

        Raises:
            StorageError: If it cannot be written.
        """
        folder = Path(folder)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        write_text(folder / FILE_NAME, f"{text}\n")
        return folder

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, estimate and kind of both differences, for tables."""
        return [
            ("difference of KL", str(self.kl), "approximate"),
            ("difference of squared distance", str(self.squared_distance), "guarantee"),
        ]

    def __str__(self) -> str:
        """Return both differences, the verdict and the warnings."""
        head = f"{self.first} less {self.second}, {self.records} records"
        table = [f"{name:32}{found}  {kind}" for name, found, kind in self.rows()]
        left = [f"left out: {count} {reason}" for reason, count in self.left_out.items()]
        warned = [f"warning: {text}" for text in self.warnings]
        return "\n".join([head, *table, self.verdict, *left, *warned])


def paired_differences(
    first: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]],
    second: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]],
    counts: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None,
    *,
    confidence: float = CONFIDENCE,
    interval: str = "betting",
    longest: int | None = None,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    r"""Compare two students at labels that the teacher drew, without its probabilities.

    .. math:: \mathbb E[\log \hat\pi_2 - \log \hat\pi_1] = \mathrm{KL}_1 - \mathrm{KL}_2, \qquad
              \mathbb E[B_1 - B_2] = \mathbb E \|\hat\pi_1 - \pi^*\|^2
              - \mathbb E \|\hat\pi_2 - \pi^*\|^2, \qquad B = \|\hat\pi\|^2 - 2 \hat\pi(a|s)

    The teacher's entropy cancels in the first, its squared length in the second. B lies in [-1, 1],
    so the second has an interval that holds for every law.

    Args:
        first: log pihat(a|s) of each record [nats], and the sum of all squared probabilities.
        second: The same of the second student.
        counts: How many equal draws each record stands for.
        groups: Number of each record's group; None where all are independent.
        confidence: In (0, 1), of each interval alone.
        interval: As of :func:`limbeck.limits.distance.units.record_mean`.
        longest: As of :func:`limbeck.limits.distance.units.record_mean`.
        seed: As of :func:`limbeck.limits.distance.units.record_mean`.

    Returns:
        The difference of KL [nats], approximate, and that of squared distances [0 to 2, squared
        probability], guaranteed. Below 0 the first student is nearer; 0 means no difference.

    Raises:
        ArgumentError: If an argument is out of range.

    Example:
        0.8 against 0.4 for the drawn label of two: log 2 nearer, and 0.68 - 1.6 - (0.52 - 0.8).

        >>> one = np.ones(50)
        >>> kl, squared = paired_differences(
        ...     (np.log(0.8 * one), 0.68 * one),
        ...     (np.log(0.4 * one), 0.52 * one),
        ...     np.ones(50, int),
        ...     None,
        ... )
        >>> round(kl.value, 3), round(squared.value, 3)
        (-0.693, -0.64)

    Source:
        Derived; Brier (1950) for B.
    """
    with np.errstate(invalid="ignore"):
        change = second[0] - first[0]
    zeros = ~np.isfinite(change)
    units = units_of(np.where(zeros, 0.0, change), counts, groups)
    kl = unbounded_mean(
        Units(np.full(len(units.sums), np.inf), units.sizes) if zeros.any() else units,
        confidence=confidence,
        unit="nats",
        meaning="cross-entropy of the first less that of the second",
    )
    scores = [square - 2 * np.exp(log) for log, square in (first, second)]
    scaled = units_of((scores[0] - scores[1]) / 4 + 0.5, counts, groups)
    bounds, what = record_mean(
        scaled, scaled, confidence=confidence, interval=interval, longest=longest, seed=seed
    )
    low, value, high = (4 * (x - 0.5) for x in (bounds.lower, scaled.mean, bounds.upper))
    squared = Estimate(
        min(max(value, low), high),
        low,
        high,
        n=kl.n,
        unit="squared probability",
        status="resolved",
        settings={
            "meaning": "squared distance to the teacher of the first less that of the second",
            "interval": what,
            "kind": "guarantee",
            "confidence": confidence,
        },
    )
    return kl, squared


def _nearer(found: Estimate) -> int:
    if found.status != "resolved":
        return 0
    return -1 if found.upper < 0 else 1 if found.lower > 0 else 0
