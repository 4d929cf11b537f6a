"""Bounds on the risk on a law that is known, or whose summary numbers are, at n queries.

Exact mean risks and missing masses stand in ``exact_risk``, the summary numbers in ``sizes``.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from limbeck.checks import check_between
from limbeck.limits.bounds.arguments import (
    Number,
    check_domain,
    check_queries,
    check_sizes,
)
from limbeck.limits.tables.laws import checked_law, checked_pair


def near_dirac_upper(*, queries: Number, inputs: int, labels: int, impurity: Number = 1.0) -> float:
    r"""Return the paper's bound on the mean risk of counting labels when rows are near one label.

    .. math:: \sqrt{\frac{\tilde\xi S A}{2 (n + 1)}} + \frac{4 S}{9 n}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        impurity: xi~, the largest sum over labels of min(pi, 1 - pi) among the rows: 0 where each
            has one label, never above 1.

    Returns:
        E R is at most this [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        sqrt(4 / (2 * 50)) + 4 / (9 * 49).

        >>> round(near_dirac_upper(queries=49, inputs=1, labels=4), 6)
        0.20907

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, (D.16) and lemma E.1.
    """
    check_domain("near_dirac_upper", inputs=inputs, labels=labels)
    check_queries("near_dirac_upper", queries)
    check_between("near_dirac_upper", 0.0, 1.0, impurity=impurity)
    rows = math.sqrt(impurity * float(inputs) * labels / (2 * (queries + 1)))
    return rows + 4 * inputs / (9 * queries)


def spread_upper(*, queries: Number, spread: Number, input_law: Float[np.ndarray, " S"]) -> float:
    r"""Return a mean risk that counting labels never exceeds on a law.

    .. math:: \tfrac12 \sqrt{\frac{D_1}{n}} + \tfrac12 \sum_s \sqrt{\frac{\rho (1 - \rho)}{n}}

    Args:
        queries: n, at least 1.
        spread: D1, as from ``sizes.hard_label_size``, at least 0.
        input_law: rho, probabilities of the inputs.

    Returns:
        E R is at most this [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.
        DataError: If the law is no probability distribution.

    Example:
        sqrt(2/100)/2 + (1/2 + 1/2)/20.

        >>> round(spread_upper(queries=100, spread=2.0, input_law=np.full(2, 0.5)), 6)
        0.120711

    Source:
        Derived, as the bound for every law in ``bounds_hard_labels``.
    """
    check_queries("spread_upper", queries)
    check_between("spread_upper", 0.0, math.inf, spread=spread)
    rho = checked_law("spread_upper", "input_law", input_law)
    inputs_alone = float(np.sqrt(rho * (1 - rho)).sum())
    return (math.sqrt(spread) + inputs_alone) / (2 * math.sqrt(queries))


def probable_draws_instance(
    *,
    queries: Number,
    draws: int,
    input_law: Float[np.ndarray, " S"],
    rows: Float[np.ndarray, "S A"],
) -> float:
    r"""Return a mean risk that N draws an input with their probabilities never exceed, on a law.

    .. math:: \sum_{s,a} \rho \pi \left(1 - \rho (1 - (1 - \pi)^N)\right)^n

    Args:
        queries: n, visited inputs, at least 1.
        draws: N, at least 1.
        input_law: rho, probabilities of the inputs.
        rows: pi, a teacher's row an input.

    Returns:
        The mean mass of the unseen pairs [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.
        DataError: If the law or a row is no probability distribution.

    Example:
        One input, two even labels, two draws: 1 * (1/4).

        >>> probable_draws_instance(
        ...     queries=1, draws=2, input_law=np.ones(1), rows=np.array([[0.5, 0.5]])
        ... )
        0.25

    Source:
        Derived.
    """
    check_queries("probable_draws_instance", queries)
    check_sizes("probable_draws_instance", draws=draws)
    rho, rows = checked_pair("probable_draws_instance", input_law, rows)
    seen = rho[:, None] * (1 - (1 - rows) ** draws)
    return float((rho[:, None] * rows * (1 - seen) ** queries).sum())
