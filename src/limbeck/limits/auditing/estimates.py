"""Estimates as an audit needs them: counted shares, exact means, bounds, dispersion."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from limbeck.estimates import Estimate
from limbeck.limits.auditing.result import UNIT
from limbeck.limits.distance.intervals import clopper_pearson_interval


WIDE = 0.1  # an interval wider than this says too little for a number to be printed


def exact(value: float, n: int, *, unit: str = UNIT, **settings: Any) -> Estimate:
    """Return a number that follows from the set without any uncertainty."""
    return Estimate(value, value, value, n, unit, "exact", settings)


def bounded(
    lower: float, upper: float, n: int, *, value: float | None = None, **settings: Any
) -> Estimate:
    """Return a number that is known to lie between two, and one within when they are near."""
    lower, upper = min(lower, upper), max(lower, upper)
    middle = 0.5 * (lower + upper) if value is None else min(max(value, lower), upper)
    status = "resolved" if upper - lower <= WIDE else "unresolved"
    return Estimate(middle, lower, upper, n, UNIT, status, {"kind": "bounds", **settings})


def share(hits: int, n: int, confidence: float, *, unit: str = UNIT, **settings: Any) -> Estimate:
    """Return a share with its Clopper-Pearson interval."""
    ends = clopper_pearson_interval(hits, n, confidence=confidence)
    settings = {"kind": "Clopper-Pearson", "confidence": confidence, **settings}
    return Estimate(hits / n, ends.lower, ends.upper, n, unit, "resolved", settings)


def mean(values: np.ndarray, weights: np.ndarray, confidence: float, **settings: Any) -> Estimate:
    """Return the mean of values in [0, 1] that stand for so many draws each, by Hoeffding."""
    n = int(weights.sum())
    value = float(values @ weights) / n
    half = float(np.sqrt(np.log(2 / (1 - confidence)) / (2 * n)))
    lower, upper = max(value - half, 0.0), min(value + half, 1.0)
    settings = {"kind": "Hoeffding", "confidence": confidence, **settings}
    return Estimate(value, lower, upper, n, UNIT, "resolved", settings)


def deviation(
    squares: float, freedom: int, confidence: float, factor: float, **settings: Any
) -> Estimate:
    """Return factor times the standard deviation of normal noise, from its sum of squares."""
    tail = (1 - confidence) / 2
    low, high = stats.chi2.ppf([1 - tail, tail], freedom)
    value, lower, upper = (factor * float(np.sqrt(squares / d)) for d in (freedom, low, high))
    lower, upper = min(lower, value, 1.0), min(max(upper, value), 1.0)
    settings = {"kind": "chi-square, normal noise", "confidence": confidence, **settings}
    return Estimate(min(value, 1.0), lower, upper, freedom, UNIT, "resolved", settings, raw=value)
