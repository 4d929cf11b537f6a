"""A certificate of a table without its teacher, and whether new inputs come from another law."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from limbeck.checks import DataError
from limbeck.estimates import Estimate
from limbeck.limits.distance.betting import betting_interval
from limbeck.limits.distance.intervals import (
    CONFIDENCE,
    Bounds,
    Side,
    checked_tail,
    checked_values,
    clopper_pearson_interval,
)


def residual_certificate(
    residuals: Float[np.ndarray, " m"],
    *,
    whole_rows: bool = False,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    r"""Bound the risk of a table of teacher answers, from inputs without labels and no teacher.

    .. math:: R \le \mathbb E_{s \sim \rho}[x(s)], \qquad
              x(s) = 1 - \sum_{a\ \mathrm{seen\ at}\ s} \pi^*(a|s)

    x is 1 for an input that the table never saw. Holds for tables of
    squared error of log-probabilities (seen labels are exact) and of whole rows; not for networks.

    Args:
        residuals: x of fresh inputs, independent of the data that the table was built from, in
            [0, 1]. Inputs of another law certify the risk under that law.
        whole_rows: The table holds whole rows, so that x can be nothing but 0 or 1: the bound is
            then Clopper and Pearson's, otherwise the betting bound.
        confidence: Of the upper end, in (0, 1).
        seed: As of :func:`limbeck.limits.distance.betting.betting_interval`.

    Returns:
        The mean of x and its one-sided upper bound [fraction]; the lower end is 0, since the risk
        may be smaller than x.

    Raises:
        DataError: If there are no values, they leave [0, 1], or are not 0 or 1 for whole rows.
        ArgumentError: If the confidence is out of range.

    Example:
        None of 100 fresh inputs is new to a table of whole rows: 1 - 0.05^(1/100).

        >>> print(residual_certificate(np.zeros(100), whole_rows=True))
        0.000 [0.000, 0.030] fraction

    Source:
        Derived, from theorem 4.4 of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    x = checked_values("residual_certificate", residuals)
    bounds = _mean_interval(x, whole_rows, confidence, "upper", seed)
    value = float(x.mean())
    return Estimate(
        value,
        0.0,
        max(bounds.upper, value),  # they differ by rounding where the bound is the mean
        n=len(x),
        unit="fraction",
        status="resolved",
        settings={
            "meaning": "bounds the risk of the table under the law of these inputs",
            "interval": "Clopper-Pearson" if whole_rows else "betting",
            "kind": "guarantee",
            "side": "upper",
            "confidence": confidence,
        },
    )


def shift_check(
    reference: Float[np.ndarray, " m"],
    deployment: Float[np.ndarray, " k"],
    *,
    whole_rows: bool = False,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    r"""Say how much more of the deployment inputs is unknown than of the reference inputs.

    .. math:: \Delta = \mathbb E_{\mathrm{deployment}}[x] - \mathbb E_{\mathrm{reference}}[x]

    with x as in :func:`residual_certificate`, or 1 for inputs never seen and 0 for others. The ends
    are those of two separate intervals, each of which may miss with probability delta/2.

    Args:
        reference: x of inputs of the law that the data came from, in [0, 1].
        deployment: x of inputs of the law that the student will meet, in [0, 1].
        whole_rows: x can be nothing but 0 or 1.
        confidence: 1 - delta, in (0, 1).
        seed: As of :func:`limbeck.limits.distance.betting.betting_interval`.

    Returns:
        Delta [fraction] in [-1, 1]; above 0 the student meets more that it never saw. An interval
        above 0 shows a shift; one that holds 0 shows none, which does not rule it out.

    Raises:
        DataError: If there are no values, or they leave [0, 1].
        ArgumentError: If the confidence is out of range.

    Example:
        >>> print(shift_check(np.zeros(400), np.ones(400), whole_rows=True))
        1.000 [0.978, 1.000] fraction

    Source:
        Derived.
    """
    checked_tail("shift_check", confidence, "two-sided")
    each = (1 + confidence) / 2
    old, new = (checked_values("shift_check", part) for part in (reference, deployment))
    (old_low, old_high), (new_low, new_high) = (
        _mean_interval(part, whole_rows, each, "two-sided", seed) for part in (old, new)
    )
    value = float(new.mean() - old.mean())
    return Estimate(
        value,
        min(new_low - old_high, value),
        max(new_high - old_low, value),
        n=len(old) + len(new),
        unit="fraction",
        status="resolved",
        settings={
            "meaning": "unknown share of the deployment inputs less that of the reference inputs",
            "interval": "two separate intervals",
            "kind": "guarantee",
            "confidence": confidence,
        },
    )


def _mean_interval(
    values: Float[np.ndarray, " n"], binary: bool, confidence: float, side: Side, seed: int
) -> Bounds:
    if not binary:
        return betting_interval(values, confidence=confidence, side=side, seed=seed)
    # Said by the caller, not read off the sample: choosing by it would take the better of two.
    if not ((values == 0) | (values == 1)).all():
        raise DataError(
            "residual_certificate: expected 0 or 1 for every input of a table of whole rows; got "
            "another number. Leave `whole_rows` out."
        )
    successes = int(values.sum())
    return clopper_pearson_interval(successes, len(values), confidence=confidence, side=side)
