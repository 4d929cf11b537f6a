"""Queries that a target error needs on a law that is known: an input law and a teacher's rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from limbeck.limits.bounds.arguments import (
    LARGEST_DELTA,
    Number,
    check_confidence,
    check_error,
)
from limbeck.limits.bounds.instance import spread_upper
from limbeck.limits.planning.needs import Need, Needs, least_queries
from limbeck.limits.planning.worst_case import hard_labels_need
from limbeck.limits.tables.exact_risk import expected_missing_mass, soft_label_risk
from limbeck.limits.tables.laws import checked_pair
from limbeck.limits.tables.sizes import hard_label_size


_KNOWN = "known law: this input law and these rows, independent queries"


def law_needs(
    *,
    input_law: Float[np.ndarray, " S"],
    rows: Float[np.ndarray, "S A"],
    error: Number,
    confidence: Number | None = None,
) -> Needs:
    r"""Return what each privilege needs for an error on a known law.

    .. math:: n_1 = \frac{D_1}{2 \pi \varepsilon^2}, \qquad
              \sum_{s,a} p (1 - p)^{n_2} \le \varepsilon, \qquad
              \sum_s \rho (1 - \rho)^{n_3} \mathrm{TV}(\text{Uniform}, \pi) \le \varepsilon

    to plan with. Enough is n_1 by the bound with D1, n_2, and n_3 without its last factor, so for
    any row at unseen inputs. With a confidence, enough is the least of the bound for every law, of
    the mean plus 3 sqrt(k) ln(1/delta)/n for k symbols, and of Markov's inequality.

    Args:
        input_law: rho, probabilities of the inputs.
        rows: pi, a teacher's row an input.
        error: epsilon, in (0, 1).
        confidence: None for the mean error, else 1 - delta in [0.9, 1).

    Returns:
        A need a privilege. Nothing is impossible by a bound that speaks of the worst teacher.

    Raises:
        ArgumentError: If a number is outside of its range.
        DataError: If the law or a row is no probability distribution.

    Example:
        Two inputs, even rows of two labels: D1 = 2, and 2 / (2 pi 0.01) = 31.8.

        >>> needs = law_needs(input_law=np.full(2, 0.5), rows=np.full((2, 2), 0.5), error=0.1)
        >>> round(needs["hard_labels"].planning, 1), needs["sampled_probabilities"].sufficient
        (31.8, 9.0)

    Source:
        Derived; see ``bounds_instance`` and ``exact_risk``.
    """
    where = "law_needs"
    check_error(where, error)
    if confidence is not None:
        check_confidence(where, confidence, least=1 - LARGEST_DELTA)
    rho, pi = checked_pair(where, input_law, rows)
    pairs = (rho[:, None] * pi).reshape(-1)
    pairs = pairs[pairs > 0]

    def unseen_pairs(n: int) -> float:
        return expected_missing_mass(pairs, n)

    def unseen_inputs(n: int) -> float:
        return expected_missing_mass(rho, n)

    def with_uniform(n: int) -> float:
        return soft_label_risk(rho, pi, n)

    return {
        "hard_labels": _hard_labels(rho, pi, error, confidence),
        "sampled_probabilities": _missing(
            unseen_pairs, unseen_pairs, len(pairs), error, confidence
        ),
        "soft_labels": _missing(
            with_uniform, unseen_inputs, int((rho > 0).sum()), error, confidence
        ),
    }


def _hard_labels(
    rho: Float[np.ndarray, " S"],
    pi: Float[np.ndarray, "S A"],
    error: Number,
    confidence: Number | None,
) -> Need:
    spread = hard_label_size(rho, pi)
    at_one = spread_upper(queries=1, spread=spread, input_law=rho)
    goal = float(error) if confidence is None else error * (1 - confidence)
    sufficient = (at_one / goal) ** 2
    if confidence is not None:
        any_law = hard_labels_need(
            inputs=int((rho > 0).sum()), labels=pi.shape[1], error=error, confidence=confidence
        ).sufficient
        sufficient = min(sufficient, math.inf if any_law is None else any_law)
    return Need(
        planning=spread / (2 * math.pi * error**2),
        assumption=_KNOWN + "; the planning number holds where inputs are seen several times",
        basis="known law",
        sufficient=sufficient,
    )


def _missing(
    planned: Callable[[int], float],
    bounded: Callable[[int], float],
    symbols: int,
    error: Number,
    confidence: Number | None,
) -> Need:
    sufficient = least_queries(bounded, error)
    if confidence is not None:
        delta = 1 - confidence
        spread = 3 * math.sqrt(symbols) * math.log(1 / delta)
        found = (
            least_queries(lambda n: bounded(n) + spread / n, error),
            least_queries(bounded, error * delta),
        )
        sufficient = min((n for n in found if n is not None), default=None)
    planning = least_queries(planned, error)
    return Need(
        planning=None if planning is None else float(planning),
        assumption=_KNOWN,
        basis="known law",
        sufficient=None if sufficient is None else float(sufficient),
    )
