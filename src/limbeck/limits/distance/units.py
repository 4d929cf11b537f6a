"""Means over records that come in independent groups: sequences of tokens, draws at one input."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from limbeck.checks import DataError, check_choice
from limbeck.estimates import Estimate
from limbeck.limits.distance.betting import betting_interval, betting_ratio_interval
from limbeck.limits.distance.intervals import (
    Bounds,
    around,
    checked_tail,
    empirical_bernstein_interval,
    hoeffding_interval,
)


INTERVALS = ("betting", "empirical_bernstein", "hoeffding")
MOST = 10**7  # draws: each is bet on, in some 100 bytes
HEAVY = 0.2  # share of the spread that one group may make before a normal interval is doubted


class Units(NamedTuple):
    """Sums over independent groups of records.

    Attributes:
        sums: Sum of a number over each group's records.
        sizes: Number of records in each group.
    """

    sums: Float[np.ndarray, " groups"]
    sizes: Float[np.ndarray, " groups"]

    @property
    def equal(self) -> bool:
        """Whether all groups have one size."""
        return bool((self.sizes == self.sizes[0]).all())

    @property
    def mean(self) -> float:
        """Mean over records."""
        return float(self.sums.sum() / self.sizes.sum())


def units_of(
    values: Float[np.ndarray, " n"],
    counts: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
) -> Units:
    """Sum a number over groups of records.

    Args:
        values: One number a record.
        counts: How many equal records each stands for.
        groups: Number of each record's group, from 0 without gaps; None where every record is
            independent of all others.

    Raises:
        DataError: If there are more draws than memory holds.

    Example:
        >>> units_of(np.array([1.0, 0.0, 0.5]), np.array([1, 1, 2]), np.array([0, 0, 1])).sums
        array([1., 1.])
    """
    total = counts.astype(np.float64).sum()
    if total > MOST:
        raise DataError(
            f"certify: expected records of at most {MOST:,} draws in all; got {total:,.0f}. Check "
            "`count`, or give fewer: more hardly make an interval narrower."
        )
    if groups is None:
        made = np.repeat(values, counts)
        return Units(made, np.ones(len(made)))
    sums = np.bincount(groups, weights=values * counts)
    return Units(sums, np.bincount(groups, weights=counts).astype(np.float64))


def record_mean(
    low: Units,
    high: Units,
    *,
    confidence: float,
    interval: str = "betting",
    longest: int | None = None,
    seed: int = 0,
) -> tuple[Bounds, str]:
    r"""Bound the mean over records, :math:`\mathbb E[S] / \mathbb E[L]`, with a guarantee.

    Groups are independent, records within one need not be. Three cases:

    - groups of one size: their means are independent values in [0, 1];
    - ``longest`` given: the betting interval of the ratio, for groups of any law;
    - otherwise Hoeffding's inequality for the sizes at hand, :math:`\sqrt{\ln(2/\delta) \sum L^2 /
      2} / \sum L`: it bounds the mean over records of groups of exactly these sizes.

    Args:
        low: Of a lower bound of each record's number in [0, 1].
        high: Of an upper bound; the same as ``low`` where nothing is censored.
        confidence: 1 - delta, in (0, 1); each end may miss with probability delta/2.
        interval: "betting", "empirical_bernstein" or "hoeffding", where sizes are equal.
        longest: Largest size that a group can have, known beforehand.
        seed: As of :func:`limbeck.limits.distance.betting.betting_interval`.

    Returns:
        The interval, and in words what it is.

    Raises:
        DataError: If a number leaves [0, 1].
        ArgumentError: If an argument is out of range.

    Example:
        Two groups of 2 and 4 records say next to nothing.

        >>> found = Units(np.array([1.0, 1.0]), np.array([2.0, 4.0]))
        >>> bounds, what = record_mean(found, found, confidence=0.95)
        >>> round(bounds.lower, 3), round(bounds.upper, 3), what
        (0.0, 1.0, 'Hoeffding, for groups of these sizes')

    Source:
        Hoeffding (1963), theorem 2, for the sizes at hand; the ratio derived.
    """
    check_choice("record_mean", "interval", interval, INTERVALS)
    each = 1 - checked_tail("record_mean", confidence, "two-sided")
    if low.equal:
        return group_mean(low, high, confidence=confidence, interval=interval, seed=seed)
    if longest is not None:
        lower = betting_ratio_interval(
            low.sums, low.sizes, longest, confidence=each, side="lower", seed=seed
        )
        upper = betting_ratio_interval(
            high.sums, high.sizes, longest, confidence=each, side="upper", seed=seed
        )
        what = f"betting, for groups of at most {longest} records"
        return Bounds(lower.lower, upper.upper), what
    square = float((low.sizes**2).sum())
    radius = math.sqrt(math.log(1 / (1 - each)) * square / 2) / float(low.sizes.sum())
    lower, upper = around(low.mean, radius, "lower"), around(high.mean, radius, "upper")
    return Bounds(lower.lower, upper.upper), "Hoeffding, for groups of these sizes"


def group_mean(
    low: Units, high: Units, *, confidence: float, interval: str = "betting", seed: int = 0
) -> tuple[Bounds, str]:
    r"""Bound the mean over groups of a group's mean, :math:`\mathbb E[S / L]`, with a guarantee.

    Args:
        low: As of :func:`record_mean`.
        high: As of :func:`record_mean`.
        confidence: 1 - delta, in (0, 1); each end may miss with probability delta/2.
        interval: "betting", "empirical_bernstein" or "hoeffding".
        seed: As of :func:`limbeck.limits.distance.betting.betting_interval`.

    Returns:
        The interval, and its name.

    Raises:
        DataError: If a number leaves [0, 1].
        ArgumentError: If an argument is out of range.

    Example:
        >>> found = Units(np.zeros(500), np.ones(500))
        >>> group_mean(found, found, confidence=0.95, interval="hoeffding")[0].upper.__round__(3)
        0.061

    Source:
        As of the interval.
    """
    check_choice("group_mean", "interval", interval, INTERVALS)
    each = 1 - checked_tail("group_mean", confidence, "two-sided")
    bottom, top = low.sums / low.sizes, high.sums / high.sizes
    if interval == "betting":
        lower = betting_interval(bottom, confidence=each, side="lower", seed=seed).lower
        upper = betting_interval(top, confidence=each, side="upper", seed=seed).upper
    else:
        chosen = {
            "empirical_bernstein": empirical_bernstein_interval,
            "hoeffding": hoeffding_interval,
        }[interval]
        lower = chosen(bottom, confidence=each, side="lower").lower
        upper = chosen(top, confidence=each, side="upper").upper
    return Bounds(lower, upper), interval.replace("_", " ")


def unbounded_mean(
    units: Units, *, confidence: float, unit: str, least: float = -math.inf, meaning: str = ""
) -> Estimate:
    r"""Estimate a mean of numbers without a bound; its interval is approximate.

    .. math:: \hat\mu = \frac{\sum S}{\sum L}, \qquad
              \mathrm{SE}^2 = \frac{g}{g - 1} \frac{\sum (S - \hat\mu L)^2}{(\sum L)^2}

    over g groups, with Student's t of g - 1 degrees. No interval for unbounded numbers can hold for
    every law: a rare, large one may not have been seen yet.

    Args:
        units: Sums and sizes of independent groups.
        confidence: In (0, 1).
        unit: Of the numbers.
        least: What the mean cannot be below; the interval is cut there.
        meaning: Kept in the settings.

    Returns:
        The mean; "unresolved" with an infinite upper end from a single group, or where a number is
        infinite.

    Raises:
        ArgumentError: If the confidence is out of range.

    Example:
        Mean 1, SE = sqrt(2 / (3 * 2)) = 0.577; t of 2 degrees at 95 % is 4.303.

        >>> found = unbounded_mean(
        ...     units_of(np.arange(3.0), np.ones(3, int)), confidence=0.95, unit="nats"
        ... )
        >>> print(found, round(found.settings["standard_error"], 3))
        1.000 [-1.484, 3.484] nats 0.577

    Source:
        Cochran (1977), Sampling Techniques, section 6.4, for the ratio; textbook otherwise.
    """
    tail = checked_tail("unbounded_mean", confidence, "two-sided")
    settings = {
        "meaning": meaning,
        "interval": "normal, with Student's t",
        "kind": "approximate",
        "confidence": confidence,
    }
    mean, groups, n = units.mean, len(units.sums), int(units.sizes.sum())
    if not math.isfinite(mean) or groups < 2:
        value = max(least, mean) if math.isfinite(mean) else math.inf
        low = least if math.isfinite(least) else -math.inf
        settings |= {"standard_error": math.inf, "heaviest": 1.0}
        return Estimate(value, low, math.inf, n, unit, "unresolved", settings)
    squares = (units.sums - mean * units.sizes) ** 2
    error = math.sqrt(groups / (groups - 1) * float(squares.sum())) / float(units.sizes.sum())
    half = float(stats.t.isf(tail, groups - 1)) * error
    # The largest group's share of the spread: near 1 the interval rests on one observation.
    heaviest = float(squares.max() / squares.sum()) if squares.any() else 0.0
    value = max(mean, least)
    return Estimate(
        value,
        max(mean - half, least),
        max(mean + half, value),
        n=n,
        unit=unit,
        status="resolved",
        settings=settings | {"standard_error": error, "heaviest": heaviest},
        raw=mean if value != mean else None,
    )
