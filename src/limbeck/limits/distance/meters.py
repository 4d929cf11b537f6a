"""What one held-out answer of the teacher says of the distance between student and teacher."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from limbeck.checks import DataError, ShapeError


class Terms(NamedTuple):
    """One number a record for each meter; the means over records estimate the distances.

    Attributes:
        total_variation: (1 - r)_+ in [0, 1].
        k1: -log r [nats].
        k3: r - 1 - log r [nats], at least 0.
    """

    total_variation: Float[np.ndarray, " n"]
    k1: Float[np.ndarray, " n"]
    k3: Float[np.ndarray, " n"]


class RowTerms(NamedTuple):
    """Exact distances of one input's two rows.

    Attributes:
        total_variation: In [0, 1].
        kl: Forward, from the teacher to the student [nats]; inf where the student excludes a label
            that the teacher has.
    """

    total_variation: Float[np.ndarray, " n"]
    kl: Float[np.ndarray, " n"]


def sampled_terms(student: Float[np.ndarray, " n"], teacher: Float[np.ndarray, " n"]) -> Terms:
    r"""Return the meters' terms of labels that the teacher drew and gave a probability for.

    .. math:: r = \hat\pi(a|s) / \pi^*(a|s), \qquad \mathbb E (1 - r)_+ = \mathrm{TV}, \qquad
              \mathbb E [-\log r] = \mathbb E [r - 1 - \log r] = \mathrm{KL}(\pi^* \| \hat\pi)

    over :math:`a \sim \pi^*(\cdot|s)`. The last holds for students that give no label probability
    that the teacher never draws; otherwise k3 misses that probability.

    Args:
        student: log pihat(a|s) of each record [nats], at most 0; -inf is allowed.
        teacher: log pi*(a|s) [nats], at most 0 and finite.

    Returns:
        The terms; (1 - r)_+ has no unit, k1 and k3 are in nats. All are 0 where the two agree.

    Raises:
        ShapeError: If lengths differ.
        DataError: If a number is no log-probability.

    Example:
        The student says 0.25 where the teacher says 0.5: r = 1/2.

        >>> found = sampled_terms(np.log([0.25]), np.log([0.5]))
        >>> [round(float(term[0]), 4) for term in found]
        [0.5, 0.6931, 0.1931]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, for the privilege; the meters are derived. k1 and k3
        as named by Schulman (2020), "Approximating KL divergence".
    """
    _check_logs("sampled_terms", student, teacher)
    if np.isneginf(teacher).any():
        raise DataError(
            "sampled_terms: expected the teacher to give every drawn label a probability above 0; "
            "got 0. It cannot have been drawn from this law."
        )
    log_ratio = student - teacher
    with np.errstate(over="ignore"):  # a label that the teacher nearly excludes: k3 is infinite
        excess = np.expm1(log_ratio)  # r - 1
    return Terms(np.maximum(-excess, 0.0), -log_ratio, np.maximum(excess - log_ratio, 0.0))


def row_terms(
    student: Float[np.ndarray, "n labels"], teacher: Float[np.ndarray, "n labels"]
) -> RowTerms:
    r"""Return the distances between whole rows.

    .. math:: \mathrm{TV}_s = \tfrac12 \sum_a |\pi^* - \hat\pi|, \qquad
              \mathrm{KL}_s = \sum_a \pi^* \log(\pi^* / \hat\pi)

    Rows are normalised first: what a file holds is rounded.

    Args:
        student: Log-probabilities of all labels [nats]; -inf is allowed.
        teacher: The same of the teacher.

    Returns:
        Total variation, without unit, and KL in nats; 0 where rows are equal.

    Raises:
        ShapeError: If shapes differ.
        DataError: If a number is no log-probability.

    Example:
        >>> found = row_terms(np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]]))
        >>> round(float(found.total_variation[0]), 4), round(float(found.kl[0]), 4)
        (0.25, 0.1308)

    Source:
        Definitions.
    """
    _check_logs("row_terms", student, teacher)
    p, t = _normalised(student), _normalised(teacher)
    total_variation = 0.5 * np.abs(np.exp(p) - np.exp(t)).sum(-1)
    with np.errstate(invalid="ignore"):  # -inf - -inf where neither has the label
        log_ratio = np.where(np.isneginf(t), 0.0, t - p)
    kl = np.where(np.isneginf(t), 0.0, np.exp(t) * log_ratio).sum(-1)
    return RowTerms(np.clip(total_variation, 0.0, 1.0), np.maximum(kl, 0.0))


def censored_ceiling(
    student: Float[np.ndarray, " n"],
    smallest: Float[np.ndarray, " n"],
    tail: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    r"""Bound (1 - r)_+ of a drawn label whose probability is not among the k reported ones.

    .. math:: \pi^*(a|s) \le \min(t_k, \tau), \quad r \ge \hat\pi(a|s) / \min(t_k, \tau), \quad
              0 \le (1 - r)_+ \le (1 - \hat\pi(a|s) / \min(t_k, \tau))_+

    Args:
        student: log pihat(a|s) of the drawn label [nats].
        smallest: log t_k, the smallest reported log-probability [nats].
        tail: tau, the teacher's probability of all labels that are not reported, in [0, 1].

    Returns:
        The upper end, in [0, 1]; the lower one is 0.

    Raises:
        ShapeError: If lengths differ.
        DataError: If a number is no log-probability.

    Example:
        At most 0.1 by the teacher, 0.04 by the student.

        >>> float(censored_ceiling(np.log([0.04]), np.log([0.1]), np.array([0.3]))[0].round(6))
        0.6

    Source:
        Derived.
    """
    _check_logs("censored_ceiling", student, smallest)
    # Rounding may leave nothing for labels outside of the list, though one was drawn: then the
    # smallest reported number is the ceiling, and 1 where that is 0 too.
    rest = np.where(tail > 0, tail, 1.0)
    ceiling = np.minimum(np.where(np.isneginf(smallest), 0.0, smallest), np.log(rest.clip(max=1.0)))
    return np.maximum(-np.expm1(student - ceiling), 0.0)


def _normalised(logs: np.ndarray) -> np.ndarray:
    peak = logs.max(-1, keepdims=True)
    return logs - peak - np.log(np.exp(logs - peak).sum(-1, keepdims=True))


def _check_logs(where: str, student: np.ndarray, teacher: np.ndarray) -> None:
    if student.shape != teacher.shape:
        raise ShapeError(
            f"{where}: expected as many numbers of the student as of the teacher; got "
            f"{student.shape} and {teacher.shape}."
        )
    for name, logs in (("student", student), ("teacher", teacher)):
        if np.isnan(logs).any() or (logs > 1e-3).any():
            raise DataError(
                f"{where}: expected log-probabilities <= 0 of the {name}; got "
                f"{logs[np.isnan(logs) | (logs > 1e-3)][0]}. Give log-probabilities in nats."
            )
    if student.ndim == 2 and (np.isneginf(student).all(-1) | np.isneginf(teacher).all(-1)).any():
        raise DataError(f"{where}: expected rows that sum to 1; got one of zeros. Leave it out.")
