"""Risk of the best student that gets each sampled label with its probability: bounds at n queries.

The learner of the upper bounds keeps the teacher's numbers and shares what is left among labels it
has not seen: its risk is at most the missing mass of the pairs (input, label).
"""

from __future__ import annotations

import math

from limbeck.limits.bounds.arguments import (
    LARGEST_DELTA,
    Number,
    check_confidence,
    check_domain,
    check_queries,
)


def sampled_probabilities_lower(*, queries: Number, inputs: int, labels: int) -> float:
    r"""Return the mean risk that no student can beat on every teacher, from sampled probabilities.

    .. math:: \frac{S (A - 1)}{4 e (n + 1)}

    At fewer queries than :func:`sampled_probabilities_lower_from` it stays at its value there.

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2. With two labels one number tells the row, and the bound is that of
            soft labels, which is never below the formula; 0 for one input.

    Returns:
        The minimax risk is at least this [total variation, in [0, 1]].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        100 / (4 e 1000) = 1 / (40 e).

        >>> round(sampled_probabilities_lower(queries=999, inputs=10, labels=11), 7)
        0.009197

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorem 4.1, there for odd A. Even A is derived: in
        three of the labels two, drawn at random, have mass S/(n + 1); the others stay pairs.
    """
    check_domain("sampled_probabilities_lower", inputs=inputs, labels=labels)
    check_queries("sampled_probabilities_lower", queries)
    if inputs == 1 and labels == 2:
        return 0.0
    at = max(float(queries), sampled_probabilities_lower_from(inputs=inputs, labels=labels))
    return float(inputs) * (labels - 1) / (4 * math.e * (at + 1))


def sampled_probabilities_lower_from(*, inputs: int, labels: int) -> float:
    r"""Return the number of queries from which :func:`sampled_probabilities_lower` falls.

    .. math:: \frac{S B}{2} - 1, \qquad B = A - 1 \text{ for odd } A, \; A \text{ for even } A > 2

    There the light labels of the proof take all of a row's mass. It is S - 1 for two labels.

    Args:
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        n, a real number of at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> sampled_probabilities_lower_from(inputs=10, labels=11)
        49.0

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorem 4.1; even A derived.
    """
    check_domain("sampled_probabilities_lower_from", inputs=inputs, labels=labels)
    if labels == 2:
        return float(inputs - 1)
    return max(inputs * (labels - labels % 2) / 2 - 1, 0.0)


def sampled_probabilities_upper(*, queries: Number, inputs: int, labels: int) -> float:
    r"""Return a mean risk that the learner never exceeds, on any teacher and inputs.

    .. math:: \sum_{s,a} p (1 - p)^n \le \frac{S A}{e n}, \qquad p = \rho(s) \pi^*(a|s)

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        E R is at most this [total variation]; also the number to plan with.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        200 / (e 1000) = 1 / (5 e).

        >>> round(sampled_probabilities_upper(queries=1000, inputs=10, labels=20), 7)
        0.0735759

    Source:
        Derived: the residual of a row is the mass of its unseen labels. Sharper than theorem 4.4 of
        Zhao and Zhu (2023), arXiv:2310.07838, whose printed (4.8) has slips.
    """
    check_domain("sampled_probabilities_upper", inputs=inputs, labels=labels)
    check_queries("sampled_probabilities_upper", queries)
    return float(inputs) * labels / (math.e * queries)


def sampled_probabilities_probable(
    *, queries: Number, inputs: int, labels: int, confidence: Number = 0.95
) -> float:
    r"""Return a risk that the learner exceeds with probability delta at most.

    .. math:: \frac{4 S A}{9 n} + \frac{3 \sqrt{S A} \ln(1/\delta)}{n}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        confidence: 1 - delta, in [0.9, 1).

    Returns:
        R is at most this with that probability [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        S A = 9, delta = 1/10: (4 + 9 ln 10) / 100.

        >>> round(
        ...     sampled_probabilities_probable(queries=100, inputs=3, labels=3, confidence=0.9), 6
        ... )
        0.247233

    Source:
        Derived, with lemma E.7 of arXiv:2310.07838 (Rajaraman et al. 2020) on the pairs.
    """
    check_domain("sampled_probabilities_probable", inputs=inputs, labels=labels)
    where = "sampled_probabilities_probable"
    return missing_mass_probable(
        queries=queries, symbols=inputs * labels, confidence=confidence, where=where
    )


def missing_mass_probable(
    *,
    queries: Number,
    symbols: int,
    confidence: Number = 0.95,
    where: str = "missing_mass_probable",
) -> float:
    r"""Return a missing mass that n draws exceed with probability delta at most.

    .. math:: \frac{4 k}{9 n} + \frac{3 \sqrt{k} \ln(1/\delta)}{n}

    Args:
        queries: n, at least 1.
        symbols: k, how many there are, at least 1.
        confidence: 1 - delta, in [0.9, 1).
        where: The caller, for messages.

    Returns:
        The mass of unseen symbols is at most this with that probability.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> round(missing_mass_probable(queries=100, symbols=9, confidence=0.9), 6)
        0.247233

    Source:
        Rajaraman et al. (2020), lemma A.2; lemma E.7 of arXiv:2310.07838.
    """
    check_queries(where, queries)
    check_confidence(where, confidence, least=1 - LARGEST_DELTA)
    spread = 3 * math.sqrt(symbols) * math.log(1 / (1 - confidence))
    return (4 * float(symbols) / 9 + spread) / queries
