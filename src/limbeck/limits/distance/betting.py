"""Confidence intervals for bounded means by betting: a wrong mean lets a fair gambler grow rich."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.distance.intervals import (
    CONFIDENCE,
    SLACK,
    Bounds,
    Side,
    checked_tail,
    checked_values,
)


BOLDEST = 0.75  # share of what could be lost at most that is ever staked
_STEPS = 36  # of the bisection: the ends are exact to 2e-11


def betting_interval(
    values: Float[np.ndarray, " n"],
    *,
    confidence: float = CONFIDENCE,
    side: Side = "two-sided",
    seed: int = 0,
) -> Bounds:
    r"""Bound the mean of independent values in [0, 1] by betting against every candidate mean.

    .. math:: \mathcal K^{\pm}(m) = \prod_{i \le n} (1 \pm \lambda_i^{\pm}(m) (x_i - m)), \qquad
              C = \{m : \max(\mathcal K^+(m), \mathcal K^-(m)) < 2/\delta\}

    with the predictable plug-in :math:`\lambda_i = \sqrt{2 \ln(2/\delta) / (n
    \hat\sigma_{i-1}^2)}`, cut to c/m and c/(1 - m). At the true mean a capital is a non-negative
    martingale from 1, which ends above 2/delta with probability delta/2 at most (Markov), at any
    n. Capital against too small means falls as m grows, so C is an interval and its ends are found
    by bisection.

    The running maximum of the capital would do too (Ville) and is narrower by an eighth, but it
    leans on the order: on a sorted file it missed up to half of the time. The last capital hardly
    depends on the order.

    Args:
        values: Independent, in [0, 1].
        confidence: 1 - delta, in (0, 1).
        side: "two-sided"; "lower" or "upper" for one bound, with 1/delta in place of 2/delta.
        seed: The values are taken in an order drawn by this seed, whatever they are.

    Returns:
        The ends, in [0, 1], around the sample's mean.

    Raises:
        DataError: If there are no values, or they leave [0, 1].
        ArgumentError: If confidence or side are out of range.

    Example:
        One value says little; a thousand zeros leave a mean below (1 / c) ln(40) / 1000 or so.

        >>> betting_interval(np.array([0.3]))
        Bounds(lower=0.0, upper=1.0)
        >>> round(betting_interval(np.zeros(1000)).upper, 3)
        0.005

    Source:
        Waudby-Smith and Ramdas (2024), J. R. Stat. Soc. B 86, 1-27, arXiv:2010.09686: hedged
        capital, theta = 1/2, predictable plug-in bets for a fixed n, last capital; c = 3/4.
    """
    x = checked_values("betting_interval", values)
    tail = checked_tail("betting_interval", confidence, side)
    return _as_floats(betting_ends(x, np.ones_like(x), tail, side, seed))


def betting_ratio_interval(
    sums: Float[np.ndarray, " n"],
    sizes: Float[np.ndarray, " n"],
    largest: float | int,
    *,
    confidence: float = CONFIDENCE,
    side: Side = "two-sided",
    seed: int = 0,
) -> Bounds:
    r"""Bound the mean over members of independent groups of unequal size, by betting.

    .. math:: \mu = \mathbb E[S] / \mathbb E[L], \qquad
              \mathbb E[S - \mu L] = 0, \qquad -m \le (S - m L) / L_{\max} \le 1 - m

    so the capital of :func:`betting_interval` with (S - m L) / L_max in place of x - m is a
    martingale at the true ratio. Members of a group may depend on each other in any way.

    Args:
        sums: S, the sum over each group's members, in [0, L].
        sizes: L, members of each group, above 0.
        largest: L_max, which no group can exceed; known beforehand, not read off the sample.
        confidence: 1 - delta, in (0, 1).
        side: "two-sided", "lower" or "upper".
        seed: Of the order in which groups are bet on.

    Returns:
        The ends for the mean over members, in [0, 1], around the sample's ratio.

    Raises:
        DataError: If there is no group, or a sum leaves [0, L].
        ArgumentError: If a group exceeds the largest size, or confidence or side are out of range.

    Example:
        Groups of one size are plain values.

        >>> x = np.linspace(0, 0.5, 200)
        >>> betting_ratio_interval(8 * x, np.full(200, 8.0), 8) == betting_interval(x)
        True

    Source:
        Derived, from Waudby-Smith and Ramdas (2024), arXiv:2010.09686.
    """
    where = "betting_ratio_interval"
    s, w = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if not len(s) or s.shape != w.shape or not (w > 0).all():
        raise DataError(
            f"{where}: expected one sum and one size above 0 for each of at least one group; got "
            f"shapes {s.shape} and {w.shape}. Leave empty groups out."
        )
    if not w.max() <= largest < math.inf:
        raise ArgumentError(
            f"{where}: expected no group above `largest` = {largest}; got one of {w.max():g}. "
            "Give the limit that held when the groups were made."
        )
    if not ((s >= -SLACK * w) & (s <= (1 + SLACK) * w)).all():
        raise DataError(
            f"{where}: expected every sum between 0 and its group's size; got another. Members "
            "must lie in [0, 1]."
        )
    s = np.clip(s, 0.0, w)
    tail = checked_tail(where, confidence, side)
    return _as_floats(betting_ends(s / largest, w / largest, tail, side, seed))


def betting_ends(
    sums: Float[np.ndarray, "*runs n"],
    sizes: Float[np.ndarray, "*runs n"],
    tail: float,
    side: Side,
    seed: int,
) -> tuple[Float[np.ndarray, "*runs"], Float[np.ndarray, "*runs"]]:
    """Return the lower and upper ends for many samples at once, unchecked.

    Args:
        sums: In [0, size].
        sizes: In (0, 1]; 1 for plain values.
        tail: Probability with which one end may miss.
        side: "two-sided", "lower" or "upper".
        seed: Of the order in which values are bet on.
    """
    order = np.random.default_rng(seed).permutation(sums.shape[-1])
    s, w = sums[..., order], sizes[..., order]
    mean = s.sum(-1) / w.sum(-1)
    low = np.zeros_like(mean) if side == "upper" else _lower_end(s, w, tail)
    high = np.ones_like(mean) if side == "lower" else 1 - _lower_end(w - s, w, tail)
    # With probability below delta the set is empty or misses the sample's mean: taken in.
    return np.asarray(np.minimum(low, mean)), np.asarray(np.maximum(high, mean))


def _as_floats(ends: tuple[np.ndarray, np.ndarray]) -> Bounds:
    return Bounds(float(ends[0]), float(ends[1]))


def _lower_end(s: np.ndarray, w: np.ndarray, tail: float) -> np.ndarray:
    """Return the largest mean, of those below the root, that the capital refutes; 0 if none is."""
    bets, goal = _bets(s, w, tail), math.log(1 / tail)
    low, high = np.zeros(s.shape[:-1]), np.ones(s.shape[:-1])
    for _ in range(_STEPS):
        middle = (low + high) / 2
        m = middle[..., None]
        gains = np.log1p(np.minimum(bets, BOLDEST / m) * (s - m * w))
        refuted = gains.sum(-1) >= goal
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def _bets(s: np.ndarray, w: np.ndarray, tail: float) -> np.ndarray:
    """Return the stake of each round from the rounds before it."""
    n = s.shape[-1]
    mean = (0.5 + s.cumsum(-1)) / (1 + w.cumsum(-1))
    spread = (0.25 + ((s - mean * w) ** 2).cumsum(-1)) / np.arange(2, n + 2)
    before = np.concatenate([np.full((*s.shape[:-1], 1), 0.25), spread[..., :-1]], -1)
    return np.sqrt(2 * math.log(1 / tail) / (n * before))
