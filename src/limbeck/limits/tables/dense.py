"""The same learners on dense counts, many repetitions at once: for simulations and enumeration."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from limbeck.limits.tables.table import share


def hard_label_rows(
    counts: Int[np.ndarray, "*runs inputs labels"],
) -> Float[np.ndarray, "*runs inputs labels"]:
    """Return maximum-likelihood rows; uniform where an input was not drawn.

    Args:
        counts: How often each label was drawn at each input, by repetition.

    Returns:
        Rows that sum to 1, as those of :func:`limbeck.limits.tables.learners.fit_hard_labels`.

    Example:
        >>> hard_label_rows(np.array([[3, 1], [0, 0]])).tolist()
        [[0.75, 0.25], [0.5, 0.5]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 3.3.
    """
    return _normalised(counts.astype(np.float64))


def naive_rows(
    counts: Int[np.ndarray, "*runs inputs labels"],
    reported: Float[np.ndarray, "*#runs inputs labels"],
) -> Float[np.ndarray, "*runs inputs labels"]:
    """Return rows of the naive cross-entropy, the negative control.

    Args:
        counts: How often each label was drawn at each input, by repetition.
        reported: The teacher's probability of each label, looked at only where it was drawn.

    Returns:
        Rows as those of :func:`limbeck.limits.tables.learners.fit_naive_probabilities`.

    Example:
        >>> naive_rows(np.array([[1, 1]]), np.array([[0.75, 0.25]])).tolist()
        [[0.75, 0.25]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 4.4.
    """
    return _normalised(counts * reported)


def sampled_rows(
    drawn: Bool[np.ndarray, "*runs inputs labels"],
    reported: Float[np.ndarray, "*#runs inputs labels"],
    prior: Float[np.ndarray, "*#inputs labels"] | None = None,
) -> Float[np.ndarray, "*runs inputs labels"]:
    """Return rows that keep the teacher's numbers and share what is left.

    Args:
        drawn: Whether a label was drawn at an input, by repetition.
        reported: The teacher's probability of each label, looked at only where it was drawn.
        prior: Shares of what is left; None for equal ones.

    Returns:
        Rows as those of :func:`limbeck.limits.tables.learners.fit_sampled_probabilities`.

    Example:
        >>> sampled_rows(np.array([[False, True, False]]), np.array([[0.5, 0.4, 0.1]])).tolist()
        [[0.3, 0.4, 0.3]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 4.7; edge rules derived.
    """
    return censored_rows(drawn.astype(np.int64), drawn, reported, prior)


def soft_label_rows(
    drawn: Bool[np.ndarray, "*runs inputs"], teacher: Float[np.ndarray, "inputs labels"]
) -> Float[np.ndarray, "*runs inputs labels"]:
    """Return the teacher's rows where an input was seen, uniform ones elsewhere.

    Args:
        drawn: Whether an input was seen, by repetition.
        teacher: Its rows.

    Returns:
        Rows as those of :func:`limbeck.limits.tables.learners.fit_soft_labels`.

    Example:
        >>> soft_label_rows(np.array([True, False]), np.array([[1.0, 0.0], [1.0, 0.0]])).tolist()
        [[1.0, 0.0], [0.5, 0.5]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 5.2.
    """
    return np.where(drawn[..., None], teacher, 1 / teacher.shape[-1])


def censored_rows(
    counts: Int[np.ndarray, "*runs inputs labels"],
    told: Bool[np.ndarray, "*runs inputs labels"],
    reported: Float[np.ndarray, "*#runs inputs labels"],
    prior: Float[np.ndarray, "*#inputs labels"] | None = None,
) -> Float[np.ndarray, "*runs inputs labels"]:
    """Return rows that keep the numbers told and share what is left by the other draws.

    Args:
        counts: How often each label was drawn at each input, by repetition.
        told: Whether its probability is known, drawn or not.
        reported: The teacher's probabilities, looked at only where ``told``.
        prior: Shares of what is left where no other label was drawn; None for equal ones.

    Returns:
        Rows as those of :func:`limbeck.limits.tables.learners.fit_censored`.

    Example:
        >>> told = np.array([[True, False, False]])
        >>> censored_rows(np.array([[9, 1, 1]]), told, np.array([[0.5, 0.3, 0.2]])).tolist()
        [[0.5, 0.25, 0.25]]

    Source:
        Derived.
    """
    values = np.where(told, reported, 0.0)
    sums = values.sum(-1)
    above, full = sums > 1, told.all(-1)
    scale = np.where(above | full, np.where(sums > 0, sums, 1.0), 1.0)
    left = np.where(above | full, 0.0, 1 - sums)
    tail = np.where(told, 0, counts)
    shares = np.ones(1) if prior is None else prior
    weights = np.where(tail.sum(-1, keepdims=True) > 0, tail, np.where(told, 0.0, shares))
    return values / scale[..., None] + share(weights, ~told, left)


def total_variation(
    rows: Float[np.ndarray, "*#runs labels"], teacher: Float[np.ndarray, "*#runs labels"]
) -> Float[np.ndarray, "*runs"]:
    r"""Return half the summed distance of two laws, row by row.

    .. math:: \mathrm{TV}(p, q) = \tfrac{1}{2} \sum_a |p(a) - q(a)|

    Args:
        rows: p.
        teacher: q; shapes broadcast.

    Returns:
        In [0, 1]: 0 where they agree, 1 where no label has probability in both.

    Example:
        >>> float(total_variation(np.array([0.5, 0.5]), np.array([0.75, 0.25])))
        0.25

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, section 2.
    """
    return np.asarray(np.abs(rows - teacher).sum(-1) / 2)


def _normalised(weights: Float[np.ndarray, "*runs labels"]) -> Float[np.ndarray, "*runs labels"]:
    total = weights.sum(-1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1 / weights.shape[-1])
