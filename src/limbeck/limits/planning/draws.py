"""Queries that a target error needs when each visited input gets N draws of the teacher."""

from __future__ import annotations

import math

from limbeck.limits.bounds.arguments import (
    Number,
    check_confidence,
    check_domain,
    check_error,
    check_sizes,
)
from limbeck.limits.bounds.draws import probable_draws_sharp, probable_draws_upper
from limbeck.limits.planning.needs import Need, Needs


def draws_needs(
    *, inputs: int, labels: int, draws: int, error: Number, confidence: Number | None = None
) -> Needs:
    r"""Return the inputs to visit for an error, with N draws at each.

    Counts alone, where x = 1/sqrt(n) solves a quadratic, and draws with their probabilities:

    .. math:: \frac{S}{e n} + \sqrt{\frac{S A}{2 N n}} = \varepsilon, \qquad
              n = \frac{S + S A / N}{(e - 1) \varepsilon}

    Whoever has the probabilities may count all the same, so they never need more than counts do.
    With a confidence, the mean error is brought to delta epsilon, which is enough by Markov's
    inequality; no sharper bound is known here.

    Args:
        inputs: S, at least 1.
        labels: A, at least 2.
        draws: N, at least 1.
        error: epsilon, in (0, 1).
        confidence: None for the mean error, else 1 - delta in (0, 1).

    Returns:
        Needs of hard labels (counts) and sampled probabilities, in visited inputs.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (1 + 4/2) / ((e - 1) 0.1) = 17.46.

        >>> needs = draws_needs(inputs=1, labels=4, draws=2, error=0.1)
        >>> round(needs["sampled_probabilities"].sufficient, 2)
        17.46

    Source:
        Derived; see ``bounds_draws``.
    """
    where = "draws_needs"
    check_domain(where, inputs=inputs, labels=labels)
    check_sizes(where, draws=draws)
    check_error(where, error)
    goal = float(error)
    notes: tuple[str, ...] = ()
    if confidence is not None:
        check_confidence(where, confidence)
        goal *= 1 - confidence
        notes = ("enough with that probability by Markov's inequality: far too careful.",)
    pairs = float(inputs) * labels
    assumption = (
        f"tabular worst case: any teacher, any input law, {inputs:,} inputs, {draws:,} independent "
        "draws at each that is visited"
    )
    sharp_pairs = float(inputs) * (labels - 1)
    planned = _quadratic(inputs / math.e, sharp_pairs / (2 * math.pi * draws), error)
    enough = _quadratic(inputs / math.e, pairs / (2 * draws), goal)
    sizes = {"queries": 1, "inputs": inputs, "labels": labels, "draws": draws}
    return {
        "hard_labels": Need(planned, assumption, "worst case", sufficient=enough, notes=notes),
        "sampled_probabilities": Need(
            min(probable_draws_sharp(**sizes) / error, planned),
            assumption,
            "worst case",
            sufficient=min(probable_draws_upper(**sizes) / goal, enough),
            notes=notes,
        ),
    }


def _quadratic(unseen: float, variance: float, error: float) -> float:
    """Return n with unseen / n + sqrt(variance / n) = error."""
    # The root 1/sqrt(n) as a quotient of sums: nothing cancels for small errors.
    return ((math.sqrt(variance + 4 * unseen * error) + math.sqrt(variance)) / (2 * error)) ** 2
