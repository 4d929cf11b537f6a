"""The same run under several seeds: means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.estimates import Estimate
from limbeck.record import RunRecord
from limbeck.report.comparison import mean_estimate


_UNITS = {
    "cross_entropy": "nats",
    "mse": "squared unit of the targets",
    "mae": "unit of the targets",
}


def aggregate(records: Sequence[RunRecord]) -> dict[str, Estimate]:
    """Return the mean over runs of every result that all of them have, with its 95 % interval.

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
        name: mean_estimate(found, unit=_UNITS.get(name.rpartition(" ")[2], "fraction"))
        for name, found in values.items()
        if len(found) == len(records)
    }
