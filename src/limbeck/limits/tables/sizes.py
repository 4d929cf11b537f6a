"""What a law's rows say about how hard it is to copy: effective numbers in place of S and A."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from limbeck.checks import ArgumentError
from limbeck.limits.tables.laws import checked_draws, checked_law, checked_pair, checked_rows


def hard_label_size(input_law: ArrayLike, rows: ArrayLike) -> float:
    r"""Return D1, which takes the place of S (A - 1) at hard labels.

    .. math:: D_1 = \left( \sum_s \sqrt{\rho(s)} \sum_a
              \sqrt{\pi^*(a | s) (1 - \pi^*(a | s))} \right)^2 \le S (A - 1)

    Args:
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].

    Returns:
        At least 0; 0 where every row is a Dirac law.

    Raises:
        ShapeError: If there is not one row an input.
        DataError: If a law does not sum to 1.

    Example:
        One fair coin: (2 * 1/2)^2.

        >>> hard_label_size([1.0], [[0.5, 0.5]])
        1.0

    Source:
        Derived, for the setting of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    rho, pi = checked_pair("hard_label_size", input_law, rows)
    return float(np.sqrt(rho) @ np.sqrt(pi * (1 - pi)).sum(1)) ** 2


def hard_label_asymptote(input_law: ArrayLike, rows: ArrayLike, n: int) -> float:
    r"""Return the expected risk of hard labels when there are many.

    .. math:: E R \approx \sqrt{D_1 / (2 \pi n)}

    Args:
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].
        n: Draws, at least 1; each pair should have been drawn a few times, otherwise take
            :func:`limbeck.limits.tables.exact_risk.hard_label_risk`.

    Returns:
        At least 0.

    Raises:
        ShapeError: If there is not one row an input.
        DataError: If a law does not sum to 1.
        ArgumentError: If ``n`` is no whole number >= 1.

    Example:
        >>> round(hard_label_asymptote([1.0], [[0.5, 0.5]], 200), 6)  # 1 / sqrt(400 pi)
        0.028209

    Source:
        Derived; for one input the constant of Kamath et al. (2015).
    """
    n = checked_draws("hard_label_asymptote", n, 1)
    return math.sqrt(hard_label_size(input_law, rows) / (2 * math.pi * n))


def effective_labels(input_law: ArrayLike, rows: ArrayLike) -> float:
    r"""Return how many labels a teacher effectively chooses between.

    .. math:: A_{\mathrm{eff}} = \left( E_{s \sim \rho} \sum_a
              \sqrt{\pi^*(a | s) (1 - \pi^*(a | s))} \right)^2 + 1

    Args:
        input_law: rho [inputs], or the shares of a pilot's inputs.
        rows: The teacher's conditional laws [inputs, labels].

    Returns:
        In [1, A]: 1 for Dirac rows, A for uniform ones.

    Raises:
        ShapeError: If there is not one row an input.
        DataError: If a law does not sum to 1.

    Example:
        >>> round(effective_labels([1.0], [[0.25, 0.25, 0.25, 0.25]]), 12)
        4.0

    Source:
        Derived, for the setting of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    rho, pi = checked_pair("effective_labels", input_law, rows)
    return float(rho @ np.sqrt(pi * (1 - pi)).sum(1)) ** 2 + 1


def distance_from_dirac(rows: ArrayLike) -> float:
    r"""Return xi, how far the most random row is from a Dirac law.

    .. math:: \xi = \max_s \min_a (1 - \pi^*(a | s))

    Args:
        rows: The teacher's conditional laws [inputs, labels].

    Returns:
        In [0, 1): 0 where every row is a Dirac law.

    Raises:
        ShapeError: If the rows are no matrix.
        DataError: If a law does not sum to 1.

    Example:
        >>> distance_from_dirac([[0.75, 0.25], [1.0, 0.0]])
        0.25

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 3.5, as a total variation: the paper's
        factor 2 belongs to the l1 distance.
    """
    return float((1 - checked_rows("distance_from_dirac", "rows", rows).max(1)).max())


def row_randomness(rows: ArrayLike) -> float:
    r"""Return xi~, the form of :func:`distance_from_dirac` that the bound's proof uses.

    .. math:: \tilde\xi = \max_s \sum_a \min(\pi^*(a | s), 1 - \pi^*(a | s))

    Args:
        rows: The teacher's conditional laws [inputs, labels].

    Returns:
        In [0, 1]: 0 where every row is a Dirac law, 1 where no label has more than half.

    Raises:
        ShapeError: If the rows are no matrix.
        DataError: If a law does not sum to 1.

    Example:
        >>> row_randomness([[0.75, 0.25], [1.0, 0.0]])
        0.5

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation D.16.
    """
    pi = checked_rows("row_randomness", "rows", rows)
    return float(np.minimum(pi, 1 - pi).sum(1).max())


def censored_gain(row: ArrayLike, head: int) -> float:
    r"""Return how many times smaller the risk is where the largest probabilities are known.

    .. math:: \frac{\sum_a \sqrt{t_a (1 - t_a)}}
              {\sum_{a \text{ in tail}} \sqrt{t_a (\tau - t_a) / \tau}}, \qquad
              \tau = \sum_{a \text{ in tail}} t_a

    It compares :func:`limbeck.limits.tables.learners.fit_censored` with
    :func:`limbeck.limits.tables.learners.fit_hard_labels` at many draws; both fall as 1 / sqrt(n).

    Args:
        row: t, the teacher's law at one input.
        head: How many of the largest probabilities are reported, in [0, labels].

    Returns:
        At least 1; infinite where the tail holds one label or none, as nothing is left to learn.

    Raises:
        DataError: If the row does not sum to 1.
        ArgumentError: If ``head`` is out of range.

    Example:
        Thirds, one reported: 3 sqrt(2/9) against 2 sqrt(1/6), which is sqrt(3).

        >>> round(censored_gain([1 / 3, 1 / 3, 1 / 3], 1) ** 2, 12)
        3.0

    Source:
        Derived.
    """
    t = np.sort(checked_law("censored_gain", "row", row))[::-1]
    if not 0 <= head <= len(t):
        raise ArgumentError(
            f"censored_gain: expected `head` in [0, {len(t)}]; got {head}. Count labels of the row."
        )
    tail = t[head:]
    mass = float(tail.sum())
    left = float(np.sqrt(np.maximum(tail * (mass - tail), 0.0)).sum())
    if mass == 0 or left == 0:
        return math.inf
    return float(np.sqrt(t * (1 - t)).sum()) / (left / math.sqrt(mass))
