"""Logit gradients of the losses for each privilege at one token position, and their errors."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def count_gradient(
    student: Float[np.ndarray, " labels"], counts: Int[np.ndarray, "runs labels"]
) -> Float[np.ndarray, "runs labels"]:
    r"""Return the gradient of cross-entropy to the drawn labels' frequencies.

    .. math:: p - c / N

    Args:
        student: p.
        counts: How often each label was drawn, by run; N draws each.

    Returns:
        With respect to the student's logits [nats], by run; its mean is p - t.

    Example:
        >>> count_gradient(np.array([0.5, 0.5]), np.array([[1, 1]])).tolist()
        [[0.0, 0.0]]

    Source:
        arXiv:2503.16870 (random sampling); gradient derived.
    """
    return student - counts / counts.sum(1, keepdims=True)


def ratio_gradient(
    student: Float[np.ndarray, " labels"],
    teacher: Float[np.ndarray, " labels"],
    counts: Int[np.ndarray, "runs labels"],
    *,
    weight: float | int = 1.0,
) -> Float[np.ndarray, "runs labels"]:
    r"""Return the gradient of :math:`\lambda r - \log p` at drawn labels, r = p / t.

    .. math:: \frac{1}{N} \sum_i (\lambda r_i - 1)(e_{a_i} - p)

    Args:
        student: p.
        teacher: t, looked at where labels were drawn alone.
        counts: How often each label was drawn, by run.
        weight: lambda; 0 is cross-entropy, 1 is k3.

    Returns:
        With respect to the student's logits [nats], by run; its mean is p - t for every weight.

    Example:
        >>> p = np.array([0.5, 0.5])
        >>> ratio_gradient(p, p, np.array([[3, 1]])).tolist()
        [[0.0, 0.0]]

    Source:
        Derived.
    """
    return _scored(student, counts, weight * student / teacher - 1)


def log_ratio_gradient(
    student: Float[np.ndarray, " labels"],
    teacher: Float[np.ndarray, " labels"],
    counts: Int[np.ndarray, "runs labels"],
) -> Float[np.ndarray, "runs labels"]:
    r"""Return the gradient of half the squared log-ratio at drawn labels.

    .. math:: \frac{1}{N} \sum_i \log r_i \, (e_{a_i} - p)

    Args:
        student: p.
        teacher: t, looked at where labels were drawn alone.
        counts: How often each label was drawn, by run.

    Returns:
        With respect to the student's logits [nats], by run; its mean is not p - t, except at p = t.

    Example:
        >>> p = np.array([0.5, 0.5])
        >>> log_ratio_gradient(p, p, np.array([[3, 1]])).tolist()
        [[0.0, 0.0]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 4.6; gradient derived.
    """
    return _scored(student, counts, np.log(student / teacher))


def naive_gradient(
    student: Float[np.ndarray, " labels"],
    teacher: Float[np.ndarray, " labels"],
    counts: Int[np.ndarray, "runs labels"],
) -> Float[np.ndarray, "runs labels"]:
    r"""Return the gradient of the naive cross-entropy, the negative control.

    .. math:: \frac{1}{N} \sum_i t_{a_i} (p - e_{a_i})

    Args:
        student: p.
        teacher: t, looked at where labels were drawn alone.
        counts: How often each label was drawn, by run.

    Returns:
        With respect to the student's logits [nats], by run; its mean vanishes at t^2, not at t.

    Example:
        >>> t = np.array([0.5, 0.5])
        >>> naive_gradient(t, t, np.array([[1, 1]])).tolist()
        [[0.0, 0.0]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 4.2; gradient derived.
    """
    return _scored(student, counts, -teacher)


def control_weight(
    student: Float[np.ndarray, " labels"], teacher: Float[np.ndarray, " labels"]
) -> float:
    r"""Return the weight of :func:`ratio_gradient` at which its variance is least.

    .. math:: \lambda^* = \frac{E[r s]}{E[r^2 s]}, \qquad s = 1 - 2 p_a + \|p\|^2

    Args:
        student: p.
        teacher: t, above 0.

    Returns:
        Above 0; 1 where p = t.

    Example:
        >>> control_weight(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
        1.0

    Source:
        Derived.
    """
    ratio, size = student / teacher, 1 - 2 * student + student @ student
    return float((teacher * ratio * size).sum() / (teacher * ratio**2 * size).sum())


def truncated_gradients(
    student: Float[np.ndarray, " labels"], teacher: Float[np.ndarray, " labels"], head: int
) -> dict[str, Float[np.ndarray, " labels"]]:
    r"""Return the gradients of three losses that look at the teacher's largest labels alone.

    .. math:: a_K p - t 1_K, \qquad p - t 1_K / a_K, \qquad
              p_j - t_j \text{ in } K, \quad
              p_j \frac{\sum_K t - \sum_K p}{1 - \sum_K p} \text{ outside}

    Args:
        student: p.
        teacher: t.
        head: K, how many labels, in [1, labels).

    Returns:
        "raw", "renormalised" and "tail_bucket", with respect to the student's logits [nats].

    Example:
        >>> t = np.array([0.5, 0.25, 0.25])
        >>> truncated_gradients(t, t, 1)["renormalised"].tolist()
        [-0.5, 0.25, 0.25]

    Source:
        Derived.
    """
    kept = np.zeros(len(teacher), bool)
    kept[np.argsort(-teacher, kind="stable")[:head]] = True
    top = np.where(kept, teacher, 0.0)
    mass, own = top.sum(), student[kept].sum()
    outside = student * (mass - own) / (1 - own)
    return {
        "raw": mass * student - top,
        "renormalised": student - top / mass,
        "tail_bucket": np.where(kept, student - teacher, outside),
    }


def _scored(
    student: Float[np.ndarray, " labels"],
    counts: Int[np.ndarray, "runs labels"],
    weights: Float[np.ndarray, " labels"],
) -> Float[np.ndarray, "runs labels"]:
    """Return the mean over draws of weight times e_a - p."""
    shares = counts * weights / counts.sum(1, keepdims=True)
    return shares - shares.sum(1, keepdims=True) * student
