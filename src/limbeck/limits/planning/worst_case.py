"""Queries that a target error needs on the worst teacher over S inputs and A labels.

These invert the bounds of ``bounds_hard_labels``, ``bounds_sampled_probabilities`` and
``bounds_soft_labels``; ``plan_draws`` inverts those of several draws an input.
"""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError
from limbeck.limits.bounds.arguments import (
    LARGEST_DELTA,
    Number,
    check_confidence,
    check_domain,
    check_error,
    check_sizes,
)
from limbeck.limits.bounds.hard_labels import (
    hard_labels_lower_from,
    hard_labels_probable,
    hard_labels_probable_paper,
    hard_labels_sharp,
    hard_labels_upper,
    hard_labels_upper_paper,
)
from limbeck.limits.bounds.sampled_probabilities import (
    missing_mass_probable,
    sampled_probabilities_lower_from,
    sampled_probabilities_upper,
)
from limbeck.limits.bounds.soft_labels import soft_labels_upper
from limbeck.limits.planning.needs import Need, Needs, at_most


_TABLE = "tabular worst case: any teacher, any input law, independent queries, {} inputs"


def worst_case_needs(
    *,
    inputs: int,
    labels: int,
    error: Number,
    confidence: Number | None = None,
    tail_mass: Number = 0.0,
) -> Needs:
    """Return what each privilege needs for an error on the worst teacher.

    Args:
        inputs: S, at least 1.
        labels: A, at least 2.
        error: Target total variation, in (0, 1).
        confidence: None for the mean error; else the error is met with this probability, in
            [0.9, 1).
        tail_mass: Mean probability outside of the kept labels of a soft row, in [0, 1).

    Returns:
        A need a privilege, as from the three functions below; more in an answer never makes more
        queries necessary, which matters for errors above 0.4 or very few inputs and labels only.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> needs = worst_case_needs(inputs=10_000, labels=50, error=0.05)
        >>> round(needs["soft_labels"].planning)
        73576

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, with derived constants.
    """
    sizes = {"inputs": inputs, "error": error, "confidence": confidence}
    hard = hard_labels_need(labels=labels, **sizes)
    sampled = at_most(sampled_probabilities_need(labels=labels, **sizes), hard)
    soft = soft_labels_need(tail_mass=tail_mass, **sizes)
    return {
        "hard_labels": hard,
        "sampled_probabilities": sampled,
        "soft_labels": soft if tail_mass else at_most(soft, sampled),
    }


def hard_labels_need(
    *, inputs: int, labels: int, error: Number, confidence: Number | None = None
) -> Need:
    r"""Return the queries that an error needs when only labels come back.

    .. math:: n_{plan} = \frac{S (A - 1)}{2 \pi \varepsilon^2}, \quad
              n_{enough} = \frac{(\sqrt{S (A - 1)} + \sqrt{S - 1})^2}{4 \varepsilon^2}, \quad
              n_{never} = \frac{S A}{256 e \varepsilon^2}

    and, with probability 1 - delta and L = ln((S + 1)/delta),

    .. math:: n_{enough} = \left(\sqrt{S (A \ln 2 + L)/2} + \sqrt{(S \ln 2 + L)/2}\right)^2
              / \varepsilon^2

    Args:
        inputs: S, at least 1.
        labels: A, at least 2.
        error: epsilon, in (0, 1).
        confidence: None for the mean error, else 1 - delta in (0, 1).

    Returns:
        The need, in queries; ``published`` is the paper's own form. Too few is never claimed where
        the lower bound does not reach up to the error.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        4 / (4 * 0.01) = 100 for one input and five labels.

        >>> need = hard_labels_need(inputs=1, labels=5, error=0.1)
        >>> round(need.sufficient, 6), round(need.planning, 2)
        (100.0, 63.66)

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorems 3.1 and 3.2; sharp and enough derived.
    """
    where = "hard_labels_need"
    check_domain(where, inputs=inputs, labels=labels)
    check_error(where, error)
    # Each bound falls as the root of the queries: what it is at one query says what they must be.
    sizes = {"queries": 1, "inputs": inputs, "labels": labels}
    pairs = float(inputs) * labels
    if confidence is None:
        root = math.sqrt(pairs / 2) + math.sqrt(pairs / 2 + 16 / 9 * error * inputs)
        near_dirac = root**2 / (4 * error**2)
        published = min((hard_labels_upper_paper(**sizes) / error) ** 2, near_dirac)
        sufficient = (hard_labels_upper(**sizes) / error) ** 2
    else:
        sufficient = (hard_labels_probable(**sizes, confidence=confidence) / error) ** 2
        published = (hard_labels_probable_paper(**sizes, confidence=confidence) / error) ** 2
    impossible = pairs / (256 * math.e * error**2)
    if impossible < hard_labels_lower_from(inputs=inputs, labels=labels):
        impossible = 0.0
    return Need(
        planning=(hard_labels_sharp(**sizes) / error) ** 2,
        assumption=_TABLE.format(f"{inputs:,}"),
        basis="worst case",
        sufficient=sufficient,
        published=published,
        impossible=impossible,
    )


def sampled_probabilities_need(
    *, inputs: int, labels: int, error: Number, confidence: Number | None = None
) -> Need:
    r"""Return the queries that an error needs when each label comes with its probability.

    .. math:: n_{plan} = n_{enough} = \frac{S A}{e \varepsilon}, \qquad
              n_{never} = \frac{S (A - 1)}{4 e \varepsilon} - 1

    and, with probability 1 - delta,

    .. math:: n_{enough} = \frac{\frac49 S A + 3 \sqrt{S A} \ln(1/\delta)}{\varepsilon}

    Args:
        inputs: S, at least 1.
        labels: A, at least 2.
        error: epsilon, in (0, 1).
        confidence: None for the mean error, else 1 - delta in [0.9, 1).

    Returns:
        The need, in queries. Too few is never claimed where the lower bound does not reach up to
        the error.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        10 / (0.1 e) = 36.79.

        >>> round(sampled_probabilities_need(inputs=2, labels=5, error=0.1).planning, 2)
        36.79

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorem 4.1; enough derived.
    """
    where = "sampled_probabilities_need"
    check_domain(where, inputs=inputs, labels=labels)
    check_error(where, error)
    impossible = float(inputs) * (labels - 1) / (4 * math.e * error) - 1
    first = sampled_probabilities_lower_from(inputs=inputs, labels=labels)
    if impossible < first or inputs * labels == 2:
        impossible = 0.0
    return Need(
        planning=sampled_probabilities_upper(queries=1, inputs=inputs, labels=labels) / error,
        assumption=_TABLE.format(f"{inputs:,}"),
        basis="worst case",
        sufficient=_missing_mass_queries(where, inputs * labels, error, confidence),
        impossible=impossible,
    )


def soft_labels_need(
    *,
    inputs: int,
    error: Number,
    confidence: Number | None = None,
    tail_mass: Number = 0.0,
) -> Need:
    r"""Return the queries that an error needs when whole rows, or their heads, come back.

    .. math:: n_{plan} = n_{enough} = \frac{S}{e (\varepsilon - \tau)}, \qquad
              n_{never} = \frac{S - 1}{2 e \varepsilon} - 1

    and, with probability 1 - delta,

    .. math:: n_{enough} = \frac{\frac49 S + 3 \sqrt{S} \ln(1/\delta)}{\varepsilon - \tau}

    Of a single input one query shows the only row.

    Args:
        inputs: S, at least 1.
        error: epsilon, in (0, 1).
        confidence: None for the mean error, else 1 - delta in [0.9, 1).
        tail_mass: tau, mean probability outside of the kept labels, in [0, 1); 0 for whole rows.

    Returns:
        The need, in queries; "not reachable" where the tail alone is the error.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        10 / (0.1 e) = 36.79; a tail of 0.05 takes twice as many.

        >>> round(soft_labels_need(inputs=10, error=0.1).planning, 2)
        36.79
        >>> round(soft_labels_need(inputs=10, error=0.1, tail_mass=0.05).planning, 2)
        73.58

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorems 5.1 and 5.2; the tail is derived.
    """
    where = "soft_labels_need"
    check_sizes(where, inputs=inputs)
    check_error(where, error)
    impossible = (inputs - 1) / (2 * math.e * error) - 1
    if impossible < inputs - 1:
        impossible = 0.0
    head = error - check_tail_mass(where, tail_mass)
    assumption = _TABLE.format(f"{inputs:,}")
    if tail_mass:
        assumption += f"; rows cut to their head, which leaves out {tail_mass:g} on average"
    if head <= 0:
        note = (
            f"the mass outside of the kept labels, {tail_mass:g}, is no less than the error: keep "
            "more labels, or sample from the tail."
        )
        if confidence is not None:
            check_confidence(where, confidence, least=1 - LARGEST_DELTA)
        return Need(
            planning=None,
            assumption=assumption,
            basis="worst case",
            impossible=impossible,
            status="not reachable",
            notes=(note,),
        )
    sufficient = _missing_mass_queries(where, inputs, head, confidence)
    return Need(
        planning=1.0 if inputs == 1 else soft_labels_upper(queries=1, inputs=inputs) / head,
        assumption=assumption,
        basis="worst case",
        sufficient=1.0 if inputs == 1 else sufficient,
        impossible=impossible,
    )


def check_tail_mass(where: str, tail_mass: Number) -> float:
    """Return the tail mass; raise ArgumentError unless it is in [0, 1)."""
    if not 0 <= tail_mass < 1:
        raise ArgumentError(
            f"{where}: expected `tail_mass` in [0, 1); got {tail_mass}. It is the mean probability "
            "outside of the kept labels."
        )
    return float(tail_mass)


def _missing_mass_queries(
    where: str, symbols: int, error: float, confidence: Number | None
) -> float:
    if confidence is None:
        return soft_labels_upper(queries=1, inputs=symbols) / error
    bound = missing_mass_probable(queries=1, symbols=symbols, confidence=confidence, where=where)
    return bound / error
