"""Risk of the best student that gets whole rows of probabilities: bounds at n queries.

The learner of the upper bounds keeps every row it is shown: its risk is the missing mass of the
inputs, and the tail that a truncated row leaves out.
"""

from __future__ import annotations

import math

from limbeck.checks import check_between
from limbeck.limits.bounds.arguments import Number, check_queries, check_sizes
from limbeck.limits.bounds.sampled_probabilities import missing_mass_probable


def soft_labels_lower(*, queries: Number, inputs: int) -> float:
    r"""Return the mean risk that no student can beat on every teacher, from soft labels.

    .. math:: \frac{S - 1}{2 e (n + 1)}

    At fewer than S - 1 queries it stays at its value there, as fewer rows never help.

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.

    Returns:
        The minimax risk is at least this [total variation]; 0 for one input.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        10 / (2 e 1000) = 1 / (200 e).

        >>> round(soft_labels_lower(queries=999, inputs=11), 7)
        0.0018394

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorem 5.1.
    """
    check_sizes("soft_labels_lower", inputs=inputs)
    check_queries("soft_labels_lower", queries)
    return (inputs - 1) / (2 * math.e * (max(queries, inputs - 1) + 1))


def soft_labels_upper(*, queries: Number, inputs: int, tail_mass: Number = 0.0) -> float:
    r"""Return a mean risk that the learner never exceeds, on any teacher and inputs.

    .. math:: \sum_s \rho (1 - \rho)^n + \tau \le \frac{S}{e n} + \tau

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        tail_mass: tau, the mean probability outside of a row's kept labels, in [0, 1); 0 for whole
            rows. It stands in the data.

    Returns:
        E R is at most this [total variation]; also the number to plan with.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        10 / (e 1000) = 1 / (100 e).

        >>> round(soft_labels_upper(queries=1000, inputs=10), 7)
        0.0036788

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorem 5.2 and lemma E.5; the tail is derived.
    """
    check_sizes("soft_labels_upper", inputs=inputs)
    check_queries("soft_labels_upper", queries)
    check_between("soft_labels_upper", 0.0, 1.0, tail_mass=tail_mass)
    return inputs / (math.e * queries) + tail_mass


def soft_labels_probable(
    *, queries: Number, inputs: int, confidence: Number = 0.95, tail_mass: Number = 0.0
) -> float:
    r"""Return a risk that the learner exceeds with probability delta at most.

    .. math:: \frac{4 S}{9 n} + \frac{3 \sqrt{S} \ln(1/\delta)}{n} + \tau

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        confidence: 1 - delta, in [0.9, 1).
        tail_mass: tau, as in :func:`soft_labels_upper`.

    Returns:
        R is at most this with that probability [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        S = 9, delta = 1/10: (4 + 9 ln 10) / 100.

        >>> round(soft_labels_probable(queries=100, inputs=9, confidence=0.9), 6)
        0.247233

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, (D.34); the tail is derived.
    """
    check_sizes("soft_labels_probable", inputs=inputs)
    check_between("soft_labels_probable", 0.0, 1.0, tail_mass=tail_mass)
    missing = missing_mass_probable(
        queries=queries, symbols=inputs, confidence=confidence, where="soft_labels_probable"
    )
    return missing + tail_mass
