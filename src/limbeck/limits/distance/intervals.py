"""Confidence intervals for the mean of values in [0, 1]: Hoeffding, Bernstein, Clopper-Pearson."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from scipy import stats

from limbeck.checks import ArgumentError, DataError, check_choice


Side = Literal["two-sided", "lower", "upper"]
CONFIDENCE = 0.95
SLACK = 1e-9  # values may leave [0, 1] by rounding


class Bounds(NamedTuple):
    """Both ends of an interval; the open side of a one-sided one is 0 or 1.

    Attributes:
        lower: Lower end.
        upper: Upper end.
    """

    lower: float
    upper: float


def hoeffding_interval(
    values: Float[np.ndarray, " n"], *, confidence: float = CONFIDENCE, side: Side = "two-sided"
) -> Bounds:
    r"""Bound the mean of independent values in [0, 1] by their number alone.

    .. math:: |\bar x - \mu| \le \sqrt{\ln(2/\delta) / (2 n)}

    Args:
        values: Independent, in [0, 1].
        confidence: 1 - delta, in (0, 1).
        side: "two-sided", or "lower" or "upper" for one bound, with ln(1/delta).

    Returns:
        The ends, cut to [0, 1].

    Raises:
        DataError: If there are no values, or they leave [0, 1].
        ArgumentError: If confidence or side are out of range.

    Example:
        sqrt(ln 40 / 400) = 0.096.

        >>> low, high = hoeffding_interval(np.repeat([0.0, 1.0], 100))
        >>> round(low, 3), round(high, 3)
        (0.404, 0.596)

    Source:
        Hoeffding (1963), J. Am. Stat. Assoc. 58, 13-30, theorem 1.
    """
    x = checked_values("hoeffding_interval", values)
    tail = checked_tail("hoeffding_interval", confidence, side)
    radius = math.sqrt(math.log(1 / tail) / (2 * len(x)))
    return around(float(x.mean()), radius, side)


def empirical_bernstein_interval(
    values: Float[np.ndarray, " n"], *, confidence: float = CONFIDENCE, side: Side = "two-sided"
) -> Bounds:
    r"""Bound the mean of independent values in [0, 1] by their variance.

    .. math:: |\bar x - \mu| \le \sqrt{2 V \ln(3/\delta) / n} + 3 \ln(3/\delta) / n

    V is the sample variance over n - 1, which is at least the one of the theorem.

    Args:
        values: Independent, in [0, 1].
        confidence: 1 - delta, in (0, 1).
        side: "two-sided"; "lower" and "upper" are the ends of the same interval: the theorem's
            proof needs both sides of the mean.

    Returns:
        The ends, cut to [0, 1].

    Raises:
        DataError: If there are no values, or they leave [0, 1].
        ArgumentError: If confidence or side are out of range.

    Example:
        V = 0, so 3 ln(60) / 1000 = 0.0123.

        >>> round(empirical_bernstein_interval(np.zeros(1000)).upper, 4)
        0.0123

    Source:
        Audibert, Munos and Szepesvari (2009), Theor. Comput. Sci. 410, 1876-1902, theorem 1.
    """
    x = checked_values("empirical_bernstein_interval", values)
    checked_tail("empirical_bernstein_interval", confidence, side)
    n, log_term = len(x), math.log(3 / (1 - confidence))
    variance = float(x.var(ddof=1)) if n > 1 else 0.0
    radius = math.sqrt(2 * variance * log_term / n) + 3 * log_term / n
    return around(float(x.mean()), radius, side)


def clopper_pearson_interval(
    successes: int, trials: int, *, confidence: float = CONFIDENCE, side: Side = "two-sided"
) -> Bounds:
    r"""Bound a probability by the number of successes among independent trials.

    The ends are those p at which so many successes, or more (or fewer), still have probability
    delta/2 (delta where there is one side): quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k).

    Args:
        successes: k, from 0 to the trials.
        trials: n, at least 1.
        confidence: 1 - delta, in (0, 1).
        side: "two-sided", "lower" or "upper".

    Returns:
        The ends, in [0, 1].

    Raises:
        ArgumentError: If a number is out of range.

    Example:
        No success in 100: the upper end u has (1 - u)^100 = 0.05.

        >>> round(clopper_pearson_interval(0, 100, side="upper").upper, 6)
        0.029513

    Source:
        Clopper and Pearson (1934), Biometrika 26, 404-413.
    """
    tail = checked_tail("clopper_pearson_interval", confidence, side)
    if trials < 1 or not 0 <= successes <= trials:
        raise ArgumentError(
            f"clopper_pearson_interval: expected 0 <= `successes` <= `trials` with a trial; got "
            f"{successes} of {trials}. Count again."
        )
    low, high = 0.0, 1.0
    if side != "upper" and successes > 0:
        low = float(stats.beta.ppf(tail, successes, trials - successes + 1))
    if side != "lower" and successes < trials:
        high = float(stats.beta.isf(tail, successes + 1, trials - successes))
    return Bounds(low, high)


def checked_values(where: str, values: np.ndarray) -> Float[np.ndarray, "*runs n"]:
    """Return values as float64 in [0, 1].

    Raises:
        DataError: If there are none, or one is outside by more than rounding.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise DataError(f"{where}: expected at least one value; got none. Give more records.")
    wrong = ~((x >= -SLACK) & (x <= 1 + SLACK))
    if wrong.any():
        raise DataError(
            f"{where}: expected values in [0, 1]; got {x[wrong][0]} ({int(wrong.sum())} of "
            f"{x.size} are outside). Scale them, or look for what made them."
        )
    return np.clip(x, 0.0, 1.0)


def checked_tail(where: str, confidence: float, side: str) -> float:
    """Return the probability that one bound may miss: delta, or delta/2 where there are two.

    Raises:
        ArgumentError: If confidence or side are out of range.
    """
    check_choice(where, "side", side, get_args(Side))
    if not 0 < confidence < 1:
        raise ArgumentError(
            f"{where}: expected `confidence` between 0 and 1; got {confidence}. Give 0.95 for 95 %."
        )
    return (1 - confidence) / (2 if side == "two-sided" else 1)


def around(mean: float, radius: float, side: str) -> Bounds:
    """Return the mean less and plus the radius, cut to [0, 1]."""
    low = 0.0 if side == "upper" else max(mean - radius, 0.0)
    return Bounds(low, 1.0 if side == "lower" else min(mean + radius, 1.0))
