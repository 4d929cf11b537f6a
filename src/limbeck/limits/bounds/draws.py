"""Mean risk when each visited input gets N draws of the teacher: bounds at n inputs.

Whoever holds the weights can draw several labels at each input and store those in place of whole
rows. S inputs, A labels; one query is one visited input.
"""

from __future__ import annotations

import math

from limbeck.limits.bounds.arguments import (
    Number,
    check_domain,
    check_queries,
    check_sizes,
)


def counted_draws_upper(*, queries: Number, inputs: int, labels: int, draws: int) -> float:
    r"""Return a mean risk that counting N draws an input never exceeds.

    .. math:: \frac{S}{e n} + \sqrt{\frac{S A}{2 N (n + 1)}}

    Args:
        queries: n, visited inputs, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        draws: N, at least 1.

    Returns:
        E R is at most this [total variation]; it says nothing where it is above 1.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        1/(49 e) + sqrt(4 / (2 * 2 * 50)).

        >>> round(counted_draws_upper(queries=49, inputs=1, labels=4, draws=2), 6)
        0.148929

    Source:
        Derived: lemmas E.3 and E.8 of Zhao and Zhu (2023), arXiv:2310.07838, with N n_s draws.
    """
    _check("counted_draws_upper", queries, inputs, labels, draws)
    spread = math.sqrt(float(inputs) * labels / (2 * draws * (queries + 1)))
    return inputs / (math.e * queries) + spread


def counted_draws_sharp(*, queries: Number, inputs: int, labels: int, draws: int) -> float:
    r"""Return the mean risk to plan with when N draws an input are counted, inputs seen often.

    .. math:: \frac{S}{e n} + \sqrt{\frac{S (A - 1)}{2 \pi N n}}

    Args:
        queries: n, visited inputs, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        draws: N, at least 1.

    Returns:
        The risk of unseen inputs, and that of N n hard labels [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        1/(100 e) + sqrt(2 / (4 pi 100)).

        >>> round(counted_draws_sharp(queries=100, inputs=1, labels=3, draws=2), 6)
        0.043573

    Source:
        Derived from the sharp constant of hard labels; asymptotic.
    """
    _check("counted_draws_sharp", queries, inputs, labels, draws)
    spread = math.sqrt(float(inputs) * (labels - 1) / (2 * math.pi * draws * queries))
    return inputs / (math.e * queries) + spread


def probable_draws_upper(*, queries: Number, inputs: int, labels: int, draws: int) -> float:
    r"""Return a mean risk that N draws an input with their probabilities never exceed.

    .. math:: \sum_{s,a} \rho \pi^* \left(1 - \rho (1 - (1 - \pi^*)^N)\right)^n
              \le \frac{S + S A / N}{(e - 1) n}

    Args:
        queries: n, visited inputs, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        draws: N, at least 1.

    Returns:
        E R is at most this [total variation]; it says nothing where it is above 1.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (1 + 4/2) / ((e - 1) 100).

        >>> round(probable_draws_upper(queries=100, inputs=1, labels=4, draws=2), 6)
        0.017459

    Source:
        Derived: 1 - (1 - x)^N >= (1 - 1/e) min(1, N x), and x exp(-c x n) <= 1/(c e n).
    """
    _check("probable_draws_upper", queries, inputs, labels, draws)
    return (inputs + float(inputs) * labels / draws) / ((math.e - 1) * queries)


def probable_draws_sharp(*, queries: Number, inputs: int, labels: int, draws: int) -> float:
    r"""Return the mean risk to plan with when N draws an input come with their probabilities.

    .. math:: \frac{S}{e n} + \frac{S A}{e N n}

    Args:
        queries: n, visited inputs, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        draws: N, at least 1.

    Returns:
        A risk that no law was seen to exceed [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (1 + 4/2) / (100 e).

        >>> round(probable_draws_sharp(queries=100, inputs=1, labels=4, draws=2), 6)
        0.011036

    Source:
        Confirmed on random laws only; the proved form is :func:`probable_draws_upper`.
    """
    _check("probable_draws_sharp", queries, inputs, labels, draws)
    return (inputs + float(inputs) * labels / draws) / (math.e * queries)


def _check(where: str, queries: Number, inputs: int, labels: int, draws: int) -> None:
    check_domain(where, inputs=inputs, labels=labels)
    check_queries(where, queries)
    check_sizes(where, draws=draws)
