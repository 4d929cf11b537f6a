"""From runs over several seeds to means, paired differences and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from limbeck.checks import ArgumentError, check_choice
from limbeck.estimates import Estimate
from limbeck.record import RunRecord


Verdict = Literal["better", "worse", "inconclusive", "unresolved"]

#: Metrics of which less is better; of all others more is.
LOWER_IS_BETTER = frozenset({"cross_entropy", "mse", "mae"})
#: Metrics that are shares of rows or bounded scores, shown in percent.
FRACTIONS = frozenset({"accuracy", "accuracy_top5", "average_precision", "f1", "retrieval"})


@dataclass(frozen=True)
class Difference:
    """What a method added to its control, seed by seed.

    Attributes:
        estimate: Mean of (method - control) over the paired seeds, in the metric's unit; above zero
            means more, which is not always better.
        verdict: "better" or "worse" if the interval excludes zero, "inconclusive" if it does not
            or has no width, "unresolved" where fewer than two pairs leave no interval.
        wins: Pairs in which the method did better; ties are no wins.
        pairs: How many seeds both have.
    """

    estimate: Estimate
    verdict: Verdict
    wins: int
    pairs: int


@dataclass(frozen=True)
class Row:
    """One group of runs: the metric of each seed, its mean, and what it adds to the control.

    Attributes:
        name: The group's name.
        values: The metric by seed, as the records have it.
        estimate: Mean over seeds with its interval.
        difference: Against the control; None for the control itself and where there is none.
        seconds: Mean seconds of one run.
    """

    name: str
    values: dict[int, float]
    estimate: Estimate
    difference: Difference | None
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Groups of runs side by side.

    Attributes:
        metric: Which metric is compared.
        moment: Of which student: "last", "best" or "mean_of_last_ten".
        part: On which rows: "test" or "validation".
        control: The group that the others are compared with, or None.
        rows: One a group, in the order they were given.
        warnings: What a reader must know before believing the rows.
    """

    metric: str
    moment: str
    part: str
    control: str | None
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def row(self, name: str) -> Row:
        """Return the row of that name.

        Raises:
            ArgumentError: If there is none.
        """
        check_choice("Comparison.row", "name", name, [row.name for row in self.rows])
        return next(row for row in self.rows if row.name == name)


def mean_estimate(values: Sequence[float], *, unit: str, level: float = 0.95) -> Estimate:
    r"""Return the mean of independent runs with its t-interval.

    .. math:: \bar x \pm t_{n-1,\,(1+c)/2}\, s / \sqrt{n}

    Args:
        values: One finite number a seed, at least one.
        unit: Unit of the values.
        level: Confidence c, in (0, 1).

    Returns:
        The mean, "resolved" from two seeds on. One seed has no interval: "unresolved", with ends at
        infinity.

    Raises:
        ArgumentError: If there is no value, one is not finite, or the level is outside (0, 1).

    Example:
        s = 1, so the half width is 4.3027 / sqrt(3) = 2.4841.

        >>> print(mean_estimate([1.0, 2.0, 3.0], unit="nats"))
        2.000 [-0.484, 4.484] nats

    Source:
        Student (1908), The probable error of a mean, Biometrika 6, 1-25.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ArgumentError(
            f"mean_estimate: expected at least one finite number; got {list(values)}. Leave runs "
            "without a result out."
        )
    if not 0 < level < 1:
        raise ArgumentError(f"mean_estimate: expected `level` in (0, 1); got {level}.")
    mean, n = float(numbers.mean()), len(numbers)
    settings = {"method": "t-interval over seeds", "level": level}
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, 1, unit, "unresolved", settings)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(numbers.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, unit, "resolved", settings)


def paired_difference(
    method: Mapping[int, float],
    control: Mapping[int, float],
    *,
    unit: str,
    higher_is_better: bool = True,
    level: float = 0.95,
) -> Difference:
    """Compare a method with its control over the seeds that both have.

    Args:
        method: The metric by seed.
        control: The control's metric by seed.
        unit: Unit of the metric.
        higher_is_better: Whether more of the metric is better.
        level: Confidence of the interval, in (0, 1).

    Returns:
        Mean difference with its paired t-interval, the verdict and the number of pairs won.

    Raises:
        ArgumentError: If they have no seed in common.

    Example:
        >>> found = paired_difference({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.5}, unit="fraction")
        >>> print(found.estimate, found.verdict, found.wins, "of", found.pairs)
        0.150 [-0.485, 0.785] fraction inconclusive 2 of 2
    """
    seeds = sorted(set(method) & set(control))
    if not seeds:
        raise ArgumentError(
            f"paired_difference: expected seeds in common; got {sorted(method)} and "
            f"{sorted(control)}. Run both with the same seeds."
        )
    gains = [float(method[seed]) - float(control[seed]) for seed in seeds]
    sign = 1 if higher_is_better else -1
    estimate = mean_estimate(gains, unit=unit, level=level)
    wins = sum(sign * gain > 0 for gain in gains)
    return Difference(estimate, _verdict(estimate, sign), wins, len(seeds))


def compare(
    groups: Mapping[str, Sequence[RunRecord]],
    *,
    control: str | None = None,
    metric: str = "accuracy",
    moment: str = "last",
    part: str = "test",
) -> Comparison:
    """Compare groups of runs on one metric, each with the control where seeds are shared.

    Args:
        groups: Runs by name; within a group every seed occurs once.
        control: Name of the group to compare with; None for means alone.
        metric: Name of the metric in the records.
        moment: "last", "best" or "mean_of_last_ten".
        part: "test" or "validation".

    Returns:
        One row a group that has results; runs without are left out and named in the warnings.

    Raises:
        ArgumentError: If no run has the metric, a seed occurs twice in a group, or the control is
            not among the groups.
    """
    if control is not None:
        check_choice("compare", "control", control, groups)
    warnings: list[str] = []
    values = {
        name: values_of(records, name, metric, moment, part, warnings)
        for name, records in groups.items()
    }
    values = {name: found for name, found in values.items() if found}
    if not values:
        raise ArgumentError(
            f"compare: expected runs with the {part} {metric} ({moment}); no run has it. Finish "
            "the runs, or name a metric that they have."
        )
    reference = values.get(control) if control is not None else None
    if control is not None and reference is None:
        warnings.append(f"{control}: has no {part} {metric}; there is no control to compare with.")
    unit = "fraction" if metric in FRACTIONS else _unit(metric)
    rows = []
    for name, found in values.items():
        difference = None
        if reference is not None and name != control:
            difference = _against(name, found, reference, control, metric, unit, warnings)
        if len(found) > 1 and len(set(found.values())) == 1:
            warnings.append(
                f"{name}: all {len(found)} seeds gave the same {metric}. Unless it is at its "
                "bound, the seed may not reach the run."
            )
        seconds = [record.time["seconds"] for record in groups[name] if "seconds" in record.time]
        rows.append(
            Row(
                name,
                found,
                mean_estimate(list(found.values()), unit=unit),
                difference,
                sum(seconds) / len(seconds) if seconds else math.nan,
            )
        )
    return Comparison(
        metric, moment, part, control if reference else None, tuple(rows), tuple(warnings)
    )


def values_of(
    records: Sequence[RunRecord],
    name: str,
    metric: str,
    moment: str,
    part: str,
    warnings: list[str] | None = None,
) -> dict[int, float]:
    """Return a metric of finished runs by seed; others are named in ``warnings``.

    Raises:
        ArgumentError: If a seed occurs twice.
    """
    found: dict[int, float] = {}
    for record in records:
        value = record.results.get(moment, {}).get(part, {}).get(metric)
        if record.status != "finished" or value is None or not math.isfinite(value):
            if warnings is not None:
                why = _missing(record, metric, moment, part)
                warnings.append(f"{name}, seed {record.seed}: {why}; left out of {part} {metric}.")
            continue
        if record.seed in found:
            raise ArgumentError(
                f"compare: expected each seed once in {name}; got seed {record.seed} twice. Two "
                "runs with one seed are not independent."
            )
        found[record.seed] = value
    return dict(sorted(found.items()))


def _missing(record: RunRecord, metric: str, moment: str, part: str) -> str:
    """Say why a run's result cannot be used: which is missing, or what became of the run."""
    if record.status != "finished":
        return f"the run is {record.status}"
    parts = record.results.get(moment, {})
    if metric in parts.get(part, {}):
        return f"its {part} {metric} is {parts[part][metric]}"
    others = [other for other, found in parts.items() if metric in found]
    only = f", only {' and '.join(others)} {metric}" if others else ""
    return f"the run is finished but has no {part} {metric} ({moment.replace('_', ' ')}){only}"


def _against(
    name: str,
    found: dict[int, float],
    reference: dict[int, float],
    control: str | None,
    metric: str,
    unit: str,
    warnings: list[str],
) -> Difference | None:
    shared = len(set(found) & set(reference))
    if shared < max(len(found), len(reference)):
        warnings.append(
            f"{name}: {shared} of its {len(found)} seeds are among {control}'s {len(reference)}; "
            "the difference is over those alone."
        )
    if not shared:
        return None
    better = metric not in LOWER_IS_BETTER
    return paired_difference(found, reference, unit=unit, higher_is_better=better)


def _verdict(estimate: Estimate, sign: int) -> Verdict:
    if estimate.status == "unresolved":
        return "unresolved"
    if estimate.lower <= 0 <= estimate.upper:
        return "inconclusive"
    if np.isclose(estimate.lower, estimate.upper, rtol=1e-9, atol=0.0):
        return "inconclusive"  # few rows give the same difference by chance; no scatter is known
    return "better" if sign * estimate.value > 0 else "worse"


def _unit(metric: str) -> str:
    return "nats" if metric == "cross_entropy" else "unit of the metric"
