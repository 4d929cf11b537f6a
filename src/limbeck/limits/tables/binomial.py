"""Binomial probabilities and mean absolute deviations, exact to rounding at any number of draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import gammaln

from limbeck.checks import DataError


Numbers = ArrayLike | int | float
Some = np.ndarray | np.floating[Any]  # numpy makes numbers of arrays without axes
SERIES = 16.0  # from here on Stirling's series is exact to rounding


def binomial_probability(k: Numbers, n: Numbers, p: Numbers) -> Float[np.ndarray, "*shape"]:
    r"""Return the probability of k successes in n draws.

    .. math:: \binom{n}{k} p^k (1 - p)^{n - k}

    Factorials come as Stirling's formula with its correction, and the exponent as deviations from
    the mean, so that nothing large cancels.

    Args:
        k: Integers in [0, n].
        n: Integers >= 0.
        p: In [0, 1]; the three broadcast.

    Returns:
        In [0, 1].

    Raises:
        DataError: If a number is out of range.

    Example:
        >>> float(binomial_probability(1, 2, 0.5).round(15))
        0.5

    Source:
        C. Loader (2000), "Fast and accurate computation of binomial probabilities" (method).
    """
    k, n, p = (np.asarray(one, np.float64) for one in (k, n, p))
    k, n, p = np.broadcast_arrays(k, n, p)
    if k.size and not ((k >= 0) & (k <= n) & (p >= 0) & (p <= 1)).all():
        raise DataError(
            "binomial_probability: expected 0 <= k <= n and p in [0, 1]; got numbers outside. Cut "
            "them."
        )
    inner = (k > 0) & (k < n) & (p > 0) & (p < 1)
    a, m, q = np.where(inner, k, 1.0), np.where(inner, n, 2.0), np.where(inner, p, 0.5)
    exponent = (
        _correction(m) - _correction(a) - _correction(m - a)
        - _deviance(a, m * q) - _deviance(m - a, m * (1 - q))
    )  # fmt: skip
    middle = np.exp(exponent) * np.sqrt(m / (2 * math.pi * a * (m - a)))
    with np.errstate(divide="ignore", invalid="ignore"):
        none = np.where(p < 1, np.exp(n * np.log1p(-np.minimum(p, 1 - 1e-17))), n == 0)
        every = np.where(p > 0, np.exp(n * np.log(np.where(p > 0, p, 1.0))), n == 0)
    return np.where(inner, middle, np.where(k == 0, none, np.where(k == n, every, 0.0)))


def mean_absolute_deviation(k: Numbers, p: Numbers) -> Float[np.ndarray, "*shape"]:
    r"""Return how far a binomial number is from its mean, on average.

    .. math:: E|\mathrm{Bin}(k, p) - k p| = 2 v \binom{k}{v} p^v (1 - p)^{k - v + 1}, \qquad
              v = \lfloor k p \rfloor + 1

    Args:
        k: Numbers of draws, integers >= 0.
        p: In [0, 1]; the two broadcast.

    Returns:
        At least 0; 0 where p is 0 or 1.

    Raises:
        DataError: If a number is out of range.

    Example:
        Two fair draws: |0 - 1|/4 + |2 - 1|/4.

        >>> float(mean_absolute_deviation(2, 0.5).round(15))
        0.5

    Source:
        De Moivre (1730).
    """
    k, p = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(p, np.float64))
    v = np.minimum(np.floor(k * p) + 1, k)  # beyond k only where the deviation is 0
    found = 2 * v * (1 - p) * binomial_probability(v, k, p)
    return np.where(p < 1, found, 0.0)


def _correction(n: Some) -> Some:
    """Return log n! less Stirling's n log n - n + log(2 pi n) / 2."""
    large = np.maximum(n, SERIES)
    square = large * large
    series = 1 / 1260 - (1 / 1680 - (1 / 1188 - 691 / 360360 / square) / square) / square
    series = (1 / 12 - (1 / 360 - series / square) / square) / large
    small = np.clip(n, 1.0, SERIES)
    exact = gammaln(small + 1) - (small + 0.5) * np.log(small) + small - math.log(2 * math.pi) / 2
    return np.where(n >= SERIES, series, exact)


def _deviance(x: Some, mean: Some) -> Some:
    """Return x log(x / mean) + mean - x."""
    away = (x - mean) / mean
    return mean * ((1 + away) * np.log1p(away) - away)
