"""What the planner foresees of privilege.py's errors, and what answers of one kind are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from limbeck import plan
from limbeck.checks import DataError
from limbeck.estimates import Estimate
from limbeck.limits.planning.pilot import THEORY
from limbeck.limits.planning.pilot_curve import EXPONENTS, CurveFit, fit_curve
from limbeck.limits.planning.pilot_profile import endpoints, profile_size
from limbeck.limits.planning.prices import PAIRS, break_even
from limbeck.report.comparison import mean_estimate
from limbeck.teacher_record import PRIVILEGES, Privilege


Errors = Mapping[tuple[str, int], Sequence[float]]  # by privilege and budget, one a seed
Pair = tuple[Privilege, Privilege]  # better, poorer
Points = Sequence[tuple[int, float]]  # budgets, rising, with their errors
PILOTS = 3  # the smallest budgets are the planner's pilot


def pilot(errors: Errors, privilege: str, budgets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and errors of the pilot, one a run."""
    pairs = [(n, error) for n in budgets[:PILOTS] for error in errors[privilege, n]]
    return np.array([n for n, _ in pairs], float), np.array([error for _, error in pairs])


def planners_fit(privilege: str, sizes: np.ndarray, errors: np.ndarray) -> CurveFit:
    """Return the fit of ``plan(pilot=...)``: with the theory's exponent unless it is excluded."""
    fit = fit_curve(sizes, errors, exponent=THEORY[privilege])
    if fit.n <= PILOTS:
        return fit
    free = fit_curve(sizes, errors)
    within = free.exponent.lower <= THEORY[privilege] <= free.exponent.upper
    return fit if within else free


def foreseen(fit: CurveFit, size: float) -> tuple[float, float, float]:
    """Return the error of a fitted curve at a size, with its profile interval [total variation].

    The interval holds every error for which some curve through it fits the pilot hardly worse than
    the best; it is of the curve and leaves out the noise of the runs that it is compared with.
    """
    given = fit.exponent.status == "exact"
    exponents = np.array([fit.exponent.value]) if given else np.linspace(*EXPONENTS, 40)
    value, at = fit.error_at(size), np.array([float(size)])

    def misfit(levels: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        return np.array([profile_size(fit.groups, e, at, exponents)[0] for e in levels.tolist()])

    most = min(1.0, 1.5 * float(fit.groups.means.max()))
    lower, upper = endpoints(misfit, min(value, most), 0.0, most, fit.limit)
    return value, min(lower, value), max(upper, value)


def predictions(errors: Errors, privilege: Privilege, budgets: Sequence[int]) -> dict[str, Any]:
    """Return the planner's fit of the pilot, and how it fares at the larger budgets.

    Of each it tells the error foreseen with its interval, the mean measured, whether this lies
    within, and what ``limbeck.plan`` would have advised for the measured error.
    """
    data = pilot(errors, privilege, budgets)
    fit = planners_fit(privilege, *data)
    at = []
    for size in budgets[PILOTS:]:
        measured = float(np.mean(errors[privilege, size]))
        value, lower, upper = foreseen(fit, size)
        advised = getattr(plan(error=measured, pilot={privilege: data}), privilege).to_dict()
        keys = ("status", "planning", "interval")
        at.append(
            {
                "queries": size,
                "foreseen": value,
                "interval": [lower, upper],
                "measured": measured,
                "inside": lower <= measured <= upper,
                "foreseen_over_measured": value / measured,
                "planner_for_measured_error": {key: advised[key] for key in keys},
            }
        )
    return {
        "pilot_queries": list(budgets[:PILOTS]),
        "pilot_runs": fit.n,
        "floor": fit.floor.to_dict(),
        "scale": fit.scale,
        "exponent": fit.exponent.to_dict(),
        "exponent_of_theory": THEORY[privilege],
        "misfit_p": fit.misfit,
        "at": at,
    }


def crossing(points: Points, error: float) -> float:
    """Return where a measured curve comes down to an error, straight between points in logarithms.

    Infinite where it does not; 0 where it is there at its first point.
    """
    above = None
    for size, value in points:
        if value <= error:
            if above is None:
                return 0.0
            before, higher = above
            share = math.log(higher / error) / math.log(higher / value)
            return before * (size / before) ** share
        above = size, value
    return math.inf


def worth(errors: Errors, pair: Pair, budgets: Sequence[int], labels: int) -> dict[str, Any]:
    """Return how many answers of the poorer kind do what one of the better kind does.

    The error is that of the better kind at the pilot's largest budget; a seed's two curves are
    compared with each other. Beside it stand the planner's ratio by the pilot alone and the one of
    the worst case over finite domains.
    """
    better, poorer = pair
    at, last = budgets[PILOTS - 1], budgets[-1]
    error = float(np.mean(errors[better, at]))
    means = [(n, float(np.mean(errors[poorer, n]))) for n in budgets]
    seeds = zip(*(errors[poorer, n] for n in budgets), strict=True)
    curves = [list(zip(budgets, values, strict=True)) for values in seeds]
    ratios = [
        crossing(curve, goal) / at for curve, goal in zip(curves, errors[better, at], strict=True)
    ]
    ratio = crossing(means, error) / at
    try:
        data = {one: pilot(errors, one, budgets) for one in pair}
        planned = plan(error=error, pilot=data).break_even[f"{better}/{poorer}"]
    except DataError:
        planned = None
    return {
        "better": better,
        "poorer": poorer,
        "queries_of_better": at,
        "error": error,
        "ratio": ratio if 0 < ratio < math.inf else None,
        "at_least": last / at if ratio == math.inf else None,
        "at_most": budgets[0] / at if ratio == 0 else None,
        "ratio_over_seeds": _geometric(ratios),
        "planner_by_pilot": planned,
        "worst_case": break_even(labels=labels, error=error)[pair],
    }


def _geometric(ratios: Sequence[float]) -> dict[str, Any] | None:
    """Return the geometric mean with its t-interval; None where a ratio is not known."""
    if not all(0 < ratio < math.inf for ratio in ratios):
        return None
    logs = mean_estimate([math.log(ratio) for ratio in ratios], unit="log")
    lower, upper = (math.exp(end) if end < 700 else math.inf for end in (logs.lower, logs.upper))
    kind = {"method": "t-interval of logarithms over seeds"}
    return Estimate(math.exp(logs.value), lower, upper, logs.n, "1", logs.status, kind).to_dict()


def summarised(errors: Errors, budgets: Sequence[int], labels: int) -> dict[str, Any]:
    """Return measured means, predictions by privilege and the worth of answers by pair."""
    return {
        "measured": [
            {
                "privilege": one,
                "queries": n,
                "total_variation": mean_estimate(errors[one, n], unit="total variation").to_dict(),
            }
            for one in PRIVILEGES
            for n in budgets
        ],
        "predictions": {one: predictions(errors, one, budgets) for one in PRIVILEGES},
        "worth": [worth(errors, pair, budgets, labels) for pair in PAIRS],
    }
