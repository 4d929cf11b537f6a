"""A learning curve measured at a few sizes: its floor, its exponent, and the size for a target."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy import stats

from limbeck.checks import DataError, ShapeError, check_between, check_positive
from limbeck.estimates import Estimate
from limbeck.limits.bounds.arguments import Number, check_confidence, check_error
from limbeck.limits.planning.needs import PlanStatus
from limbeck.limits.planning.pilot_profile import (
    Groups,
    best_fit,
    endpoints,
    profile_exponent,
    profile_floor,
    profile_size,
)


REACH = 100  # times the largest pilot: no number is given beyond
EXPONENTS = (0.05, 2.0)
MISFIT = 0.01  # p-value of a curve that does not fit
FARTHEST = 1e18
PRECISION = 1e-6  # relative, of a measurement at best


@dataclass(frozen=True)
class Needed:
    """Queries that a measured curve needs for a target.

    Attributes:
        queries: With its interval; infinite ends where the data allow it.
        status: "resolved", "unresolved" (the interval is all there is) or "not reachable".
        reason: In words.
    """

    queries: Estimate
    status: PlanStatus
    reason: str


@dataclass(frozen=True)
class CurveFit:
    r"""The fit of a learning curve, :math:`R(n) = R_0 + C n^{-\beta}`.

    Attributes:
        floor: R_0, the error that no number of queries removes [total variation].
        scale: C.
        exponent: beta; "exact" where it was given.
        noise: Relative standard deviation of one measurement, lack of fit included.
        misfit: p-value of the curve against the scatter of repeats; 1 without repeats.
        confidence: Of the intervals, which are profiles with an F threshold.
        largest: Size of the largest pilot.
        n: Number of measurements.
        groups: The measurements.
        limit: Misfit up to which a value belongs to an interval.
    """

    floor: Estimate
    scale: float
    exponent: Estimate
    noise: float
    misfit: float
    confidence: float
    largest: float
    n: int
    groups: Groups = field(repr=False)
    limit: float = field(repr=False)

    def error_at(self, queries: Number) -> float:
        """Return the fitted error at n queries [total variation]."""
        check_positive("CurveFit.error_at", queries=queries)
        return self.floor.value + self.scale * float(queries) ** -self.exponent.value

    def needed(self, error: Number) -> Needed:
        """Return the queries that bring the error down to a target, with their interval.

        No number is given where the floor's interval holds the target, where the interval of the
        queries has no upper end within 100 times the largest pilot, or where the curve does not
        fit.

        Args:
            error: Target total variation, in (0, 1).

        Returns:
            The queries and whether they may be used.

        Raises:
            ArgumentError: If the target is outside of its range.
        """
        check_error("CurveFit.needed", error)
        if error < self.floor.lower or (error == self.floor.lower > 0):
            reason = (
                f"the measured floor, {_interval(self.floor)}, is above the error: no number of "
                "queries of this kind reaches it with this student."
            )
            return Needed(self._estimate(math.inf, math.inf, math.inf), "not reachable", reason)
        value = math.inf
        if error > self.floor.value and self.scale > 0:
            exponent = self.exponent.value
            value = (self.scale / (error - self.floor.value)) ** (1 / exponent)
        lower, upper = self._ends(error, value)
        value = min(max(value, lower), upper)
        if self.misfit < MISFIT:
            reason = (
                f"the curve does not fit its repeats (p = {self.misfit:.1g}): leave the exponent "
                "free, or drop the smallest size."
            )
            return Needed(self._estimate(value, lower, upper), "unresolved", reason)
        if upper > REACH * self.largest:
            reason = (
                f"the interval of the queries, {lower:,.4g} to {upper:,.4g}, has no upper end "
                f"within {REACH} times the largest pilot; the floor is in {_interval(self.floor)}. "
                "Measure at larger sizes, or more often."
            )
            return Needed(self._estimate(value, lower, upper), "unresolved", reason)
        reason = f"{value:,.4g} queries, in [{lower:,.4g}, {upper:,.4g}]"
        return Needed(self._estimate(value, lower, upper, resolved=True), "resolved", reason)

    def _ends(self, error: Number, value: float) -> tuple[float, float]:
        goal, exponents, farthest = float(error), self._exponents(), math.log(FARTHEST)
        lower, upper = endpoints(
            lambda logs: profile_size(self.groups, goal, np.exp(logs), exponents),
            math.log(min(max(value, 1.0), FARTHEST)),
            0.0,
            farthest,
            self.limit,
        )
        return math.exp(lower), math.inf if upper >= farthest else math.exp(upper)

    def _exponents(self) -> Float[np.ndarray, " b"]:
        if self.exponent.status == "exact":
            return np.array([self.exponent.value])
        return np.linspace(*EXPONENTS, 79)

    def _estimate(
        self, value: float, lower: float, upper: float, *, resolved: bool = False
    ) -> Estimate:
        settings = {"interval": "profile", "confidence": self.confidence}
        status = "resolved" if resolved else "unresolved"
        return Estimate(value, lower, upper, self.n, "queries", status, settings)


def fit_curve(
    sizes: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " m"],
    *,
    exponent: Number | None = None,
    confidence: Number = 0.95,
) -> CurveFit:
    r"""Fit a floor, a scale and an exponent to errors measured at a few numbers of queries.

    .. math:: R(n) = R_0 + C n^{-\beta}, \qquad R_0, C \ge 0

    by least squares with errors relative to the curve. Intervals hold every value whose best fit is
    worse than the best of all by less than an F quantile (profile).

    Args:
        sizes: Numbers of queries, at least 3 different ones; repeats of a size are repeats.
        errors: Measured at them [total variation], in [0, 1]; each size needs one above 0.
        exponent: beta: 1/2 for hard labels and 1 otherwise by the theory of finite domains, or None
            to fit it, in [0.05, 2].
        confidence: Of the intervals, in (0, 1).

    Returns:
        The fit.

    Raises:
        ShapeError: If there is not one error a size.
        DataError: If numbers are out of range, or too few for the curve.
        ArgumentError: If an option is outside of its range.

    Example:
        0.1 + 2/n at three sizes needs n = 100 for 0.12.

        >>> sizes = np.array([20.0, 40.0, 200.0])
        >>> fit = fit_curve(sizes, 0.1 + 2 / sizes, exponent=1)
        >>> round(fit.floor.value, 6), round(fit.needed(0.12).queries.value, 3)
        (0.1, 100.0)

    Source:
        Least squares with profile intervals (Bates and Watts 1988, chapter 6).
    """
    where = "fit_curve"
    check_confidence(where, confidence)
    if exponent is not None:
        check_between(where, *EXPONENTS, exponent=exponent)
    groups = _groups(where, sizes, errors, parameters=2 + (exponent is None))
    exponents = np.linspace(*EXPONENTS, 79) if exponent is None else np.array([float(exponent)])
    for _ in range(3):  # errors are relative to the fitted curve, which is fitted with them
        fit = best_fit(groups, exponents)
        groups = groups.weighted(fit.floor + fit.scale * groups.sizes**-fit.exponent)
    fit = best_fit(groups, exponents)
    free = exponent is None
    freedom = len(sizes) - 2 - free
    quantile = float(stats.f.ppf(confidence, 1, freedom))
    limit = fit.misfit * (1 + quantile / freedom) + PRECISION**2
    most = float(groups.means.max()) * 2

    ends = endpoints(
        lambda floors: profile_floor(groups, floors, exponents), fit.floor, 0.0, most, limit
    )
    count = int(groups.repeats.sum())
    settings = {"interval": "profile", "confidence": float(confidence)}
    floor = Estimate(fit.floor, *ends, count, "total variation", "resolved", settings)
    return CurveFit(
        floor=floor,
        scale=fit.scale,
        exponent=_exponent(groups, fit.exponent, limit, count, settings, free=free),
        noise=math.sqrt(fit.misfit / freedom),
        misfit=_misfit(groups, fit.misfit, free=free),
        confidence=float(confidence),
        largest=float(groups.sizes.max()),
        n=count,
        groups=groups,
        limit=limit,
    )


def _groups(
    where: str, sizes: Float[np.ndarray, " n"], errors: Float[np.ndarray, " m"], parameters: int
) -> Groups:
    n, r = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if n.ndim != 1 or n.shape != r.shape:
        raise ShapeError(
            f"{where}: expected one error a size; got shapes {n.shape} and {r.shape}. Repeat the "
            "size of repeats."
        )
    if not (np.isfinite(n).all() and (n >= 1).all()):
        raise DataError(f"{where}: expected sizes >= 1; got {n.tolist()}. Count queries.")
    if not ((r >= 0) & (r <= 1)).all():
        raise DataError(
            f"{where}: expected errors in [0, 1] (total variation); got {r.tolist()}. Measure them "
            "on held-out inputs."
        )
    groups = Groups.of(n, r)
    if len(groups.sizes) < 3 or len(n) <= parameters:
        raise DataError(
            f"{where}: expected at least 3 sizes and {parameters + 1} measurements for "
            f"{parameters} parameters; got {len(groups.sizes)} sizes and {len(n)} measurements. "
            "Repeat each size a few times, or fix the exponent."
        )
    if not (groups.means > 0).all():
        raise DataError(
            f"{where}: expected an error above 0 at each size; got zeros at "
            f"{groups.sizes[groups.means <= 0].tolist()}. There the target is reached: leave them "
            "out, or test on more inputs."
        )
    return groups


def _exponent(
    groups: Groups,
    best: float,
    limit: float,
    count: int,
    settings: dict[str, object],
    *,
    free: bool,
) -> Estimate:
    if not free:
        return Estimate(best, best, best, count, "1", "exact", {"given": True})

    ends = endpoints(lambda b: profile_exponent(groups, b), best, *EXPONENTS, limit)
    return Estimate(best, *ends, count, "1", "resolved", settings)


def _misfit(groups: Groups, total: float, *, free: bool) -> float:
    """Return the p-value of lack of fit against the scatter of repeats."""
    within = int((groups.repeats - 1).sum())
    between = len(groups.sizes) - 2 - free
    if within < 1 or between < 1 or groups.scatter <= 0:
        return 1.0
    ratio = max(total - groups.scatter, 0.0) / between / (groups.scatter / within)
    return float(stats.f.sf(ratio, between, within))


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.lower:.4g}, {estimate.upper:.4g}]"
