"""The same run under several seeds: means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import t as student_t

from limbeck.estimates import Estimate
from limbeck.record import RunRecord


_LEVEL = 0.95
_UNITS = {
    "cross_entropy": "nats",
    "mse": "squared unit of the targets",
    "mae": "unit of the targets",
}


def aggregate(records: Sequence[RunRecord]) -> dict[str, Estimate]:
    r"""Return the mean over runs of every result that all of them have.

    The interval is Student's, for the mean of ``n`` independent runs at 95 %:

    .. math:: \bar x \pm t_{0.975, n-1} \, s / \sqrt{n}

    Args:
        records: Two runs or more that differ in their seed.

    Returns:
        Estimates by "moment set metric", such as "last test accuracy".
    """
    values: dict[str, list[float]] = {}
    for record in records:
        for moment, sets in record.results.items():
            for part, metrics in sets.items():
                for metric, value in metrics.items():
                    if metric != "epoch":
                        values.setdefault(f"{moment} {part} {metric}", []).append(value)
    return {
        name: mean_over_seeds(found, _UNITS.get(name.rpartition(" ")[2], "fraction"))
        for name, found in values.items()
        if len(found) == len(records)
    }


def mean_over_seeds(values: Sequence[float], unit: str) -> Estimate:
    """Return the mean of two numbers or more, with Student's 95 % interval.

    Example:
        >>> print(mean_over_seeds([1.0, 2.0, 3.0], "nats"))  # 2 +- 4.3027 / sqrt(3)
        2.000 [-0.484, 4.484] nats
    """
    count, mean = len(values), fmean(values)
    half = float(student_t.ppf((1 + _LEVEL) / 2, count - 1)) * stdev(values) / count**0.5
    settings = {"level": _LEVEL, "interval": "Student's t over seeds"}
    return Estimate(mean, mean - half, mean + half, count, unit, "resolved", settings)
