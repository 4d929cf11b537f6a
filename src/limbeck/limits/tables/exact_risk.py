"""Expected risks for a known law, exact at any number of draws: no simulation."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from limbeck.limits.tables.binomial import binomial_probability, mean_absolute_deviation
from limbeck.limits.tables.dense import total_variation
from limbeck.limits.tables.laws import checked_draws, checked_law, checked_pair


LEFT_OUT = math.log(2e20)  # counts whose joint probability is below exp(-this) are left out


def hard_label_risk(input_law: ArrayLike, rows: ArrayLike, n: int) -> float:
    r"""Return the expected risk of maximum likelihood from n hard labels.

    .. math:: E R = \sum_s \rho(s) \left\{ (1 - \rho(s))^n \mathrm{TV}(U, \pi^*(\cdot | s))
              + \sum_{k = 1}^n \binom{n}{k} \rho(s)^k (1 - \rho(s))^{n - k} \frac{1}{2 k}
              \sum_a E |\mathrm{Bin}(k, \pi^*(a | s)) - k \pi^*(a | s)| \right\}

    Inputs with equal probability and equal rows, up to the order of labels, are computed once, and
    counts k far from their mean are left out (they weigh less than 1e-20).

    Args:
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].
        n: Draws, at least 0; inputs never drawn get the uniform law U.

    Returns:
        In [0, 1].

    Raises:
        ShapeError: If there is not one row an input.
        DataError: If a law does not sum to 1.
        ArgumentError: If ``n`` is no whole number >= 0.

    Example:
        One fair coin, one draw: the student is a Dirac law, half off.

        >>> round(hard_label_risk([1.0], [[0.5, 0.5]], 1), 12)
        0.5

    Source:
        Derived, from De Moivre's mean absolute deviation.
    """
    n = checked_draws("hard_label_risk", n)
    rho, pi = checked_pair("hard_label_risk", input_law, rows)
    seen = rho > 0
    cases = np.column_stack([rho[seen], np.sort(pi[seen], axis=1)])
    different, number = np.unique(cases, axis=0, return_counts=True)
    parts = [
        times * _of_input(case[0], case[1:], n)
        for case, times in zip(different, number, strict=True)
    ]
    return math.fsum(parts)


def soft_label_risk(input_law: ArrayLike, rows: ArrayLike, n: int) -> float:
    r"""Return the expected risk of learning from n soft labels.

    .. math:: E R = \sum_s \rho(s) (1 - \rho(s))^n \, \mathrm{TV}(U, \pi^*(\cdot | s))

    Args:
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].
        n: Draws, at least 0; inputs never drawn get the uniform law U.

    Returns:
        In [0, 1]; 0 where each input is surely drawn or each row uniform.

    Raises:
        ShapeError: If there is not one row an input.
        DataError: If a law does not sum to 1.
        ArgumentError: If ``n`` is no whole number >= 0.

    Example:
        Two inputs alike, one draw: one is missed, and a Dirac row is half off the uniform one.

        >>> soft_label_risk([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], 1)
        0.25

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, section 5; the equality derived.
    """
    n = checked_draws("soft_label_risk", n)
    rho, pi = checked_pair("soft_label_risk", input_law, rows)
    uniform = total_variation(pi, np.full(pi.shape[1], 1 / pi.shape[1]))
    return float(_missed(rho, n) @ uniform)


def expected_missing_mass(law: ArrayLike, n: int) -> float:
    r"""Return the probability that a further draw is new after n draws.

    .. math:: E\, m_0 = \sum_x p(x) (1 - p(x))^n

    Over the pairs, :math:`p = \rho(s) \pi^*(a | s)`, it bounds the risk of sampled probabilities;
    over the inputs that of soft labels.

    Args:
        law: p, of any shape; sums to 1.
        n: Draws, at least 0.

    Returns:
        In [0, 1].

    Raises:
        DataError: If the law does not sum to 1.
        ArgumentError: If ``n`` is no whole number >= 0.

    Example:
        Two faces, two throws: 1/4.

        >>> expected_missing_mass([0.5, 0.5], 2)
        0.25

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation B.1; McAllester and Ortiz (2003).
    """
    n = checked_draws("expected_missing_mass", n)
    p = checked_law("expected_missing_mass", "law", np.ravel(np.asarray(law, np.float64)))
    return float(_missed(p, n).sum())


def naive_limit_risk(input_law: ArrayLike, rows: ArrayLike) -> float:
    r"""Return the risk that the naive cross-entropy keeps with endless draws.

    .. math:: \sum_s \rho(s) \, \mathrm{TV}\left(
              \frac{\pi^*(\cdot | s)^2}{\sum_b \pi^*(b | s)^2}, \pi^*(\cdot | s) \right)

    Args:
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].

    Returns:
        In [0, 1]; 0 if and only if every row is uniform on its support.

    Raises:
        ShapeError: If there is not one row an input.
        DataError: If a law does not sum to 1.

    Example:
        Squares of (3/4, 1/4) are 9 to 1: 0.9 - 0.75.

        >>> round(naive_limit_risk([1.0], [[0.75, 0.25]]), 12)
        0.15

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, lemma 4.2 and theorem 4.3.
    """
    rho, pi = checked_pair("naive_limit_risk", input_law, rows)
    limit = pi**2 / (pi**2).sum(1, keepdims=True)
    return float(rho @ total_variation(limit, pi))


def _missed(p: Float[np.ndarray, " k"], n: int) -> Float[np.ndarray, " k"]:
    """Return p (1 - p)^n; where p is 1 it is 0 for any draw."""
    sure = p >= 1
    return np.where(sure, float(n == 0), p * np.exp(n * np.log1p(-np.where(sure, 0.0, p))))


def _of_input(rho: float, row: Float[np.ndarray, " labels"], n: int) -> float:
    """Return rho times the expected total variation at one input."""
    labels, number = np.unique(row, return_counts=True)
    uniform = float(number @ np.abs(labels - 1 / len(row))) / 2
    unseen = float(_missed(np.array([rho]), n)[0]) * uniform
    if n == 0:
        return unseen
    mean, variance = n * rho, n * rho * (1 - rho)
    # Bernstein: outside of this reach a count has probability exp(-LEFT_OUT) in all.
    reach = LEFT_OUT / 3 + math.sqrt(LEFT_OUT**2 / 9 + 2 * LEFT_OUT * variance)
    k = np.arange(max(1, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)
    weights = binomial_probability(k, n, rho) / (2 * k)
    spread = sum(
        times * mean_absolute_deviation(k, p) for p, times in zip(labels, number, strict=True)
    )
    return unseen + rho * float(weights @ spread)
