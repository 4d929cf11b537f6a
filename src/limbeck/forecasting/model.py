"""The regression behind a forecast, with conformal intervals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesRegressor, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from limbeck.forecasting.grid import Grid, Outcome, own_grid


LEVEL = 0.9
MARGIN = 0.1  # of a figure's range in the grid, beyond which a case lies outside
#: By how well they forecast teachers that were left out of the grid (docs/results/forecast.md).
FIGURES = (
    "labels_per_class",
    "unlabelled_share",
    "teacher_accuracy",
    "early_accuracy",
    "accuracy_gap",
    "teacher_cross_entropy",
    "cross_entropy_gap",
    "teacher_entropy",
    "teacher_knows",
    "student_knows",
)
PILOT_FIGURES = ("pilot_accuracy", "pilot_cross_entropy")


@dataclass(frozen=True)
class Gain:
    """What is expected of one case [points or bits].

    Attributes:
        value: The gain over the control.
        lower: Lower end of the 90 % interval.
        upper: Upper end.
        shares: What each figure adds, beside a case that has the grid's median in its place.
        outside: Why the case lies outside of the grid, each a sentence; empty if it does not.
    """

    value: float
    lower: float
    upper: float
    shares: Mapping[str, float]
    outside: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GainModel:
    """A regression of a gain on figures, and how wrong it was for data that it had not seen.

    Attributes:
        names: The figures.
        regression: Fitted to the whole grid.
        misses: Gain less forecast of every cell, by a fit without the cell's data set: whoever asks
            comes with data of their own.
        medians: Of each figure over the grid.
        ranges: Least and largest value of each figure.
    """

    names: tuple[str, ...]
    regression: Any
    misses: Float[np.ndarray, " cells"]
    medians: Float[np.ndarray, " names"]
    ranges: Float[np.ndarray, "2 names"]

    def predict(self, figures: Mapping[str, float]) -> Gain:
        """Return what is expected where these figures were found; absent ones count as typical."""
        row = np.array([figures.get(name, np.nan) for name in self.names])
        value = self._at(row)
        lower, upper = self._interval(value)
        shares = {}
        for place, name in enumerate(self.names):
            typical = row.copy()
            typical[place] = self.medians[place]
            shares[name] = value - self._at(typical)
        reach = MARGIN * np.ptp(self.ranges, axis=0)
        beyond = (row < self.ranges[0] - reach) | (row > self.ranges[1] + reach)
        outside = tuple(
            f"{name} is {row[at]:.3g}, the grid's {self.ranges[0, at]:.3g} to "
            f"{self.ranges[1, at]:.3g}"
            for at, name in enumerate(self.names)
            if beyond[at]
        )
        return Gain(value, lower, upper, shares, outside)

    def _at(self, row: np.ndarray) -> float:
        return float(self.regression.predict(row[None])[0])

    def _interval(self, value: float) -> tuple[float, float]:
        below, above = conformal(self.misses)
        return value + min(below, 0.0), value + max(above, 0.0)


def fitted(
    grid: Grid, method: str, outcome: Outcome, names: Sequence[str], regression: Any | None = None
) -> GainModel:
    """Fit a model to a grid.

    Args:
        grid: The cells.
        method: Whose gain.
        outcome: Which gain.
        names: Figures to take.
        regression: A scikit-learn estimator; None takes the default.
    """
    rows, gains = grid.figures(names, method), grid.gains(method, outcome)
    estimator = default_regression() if regression is None else regression
    known = None if regression is not None else grid.misses.get(_key(method, outcome, names))
    if known is None:
        known = gains - left_out(estimator, rows, gains, grid.data_sets)
    misses = np.asarray(known)
    with np.errstate(all="ignore"):
        medians = np.nanmedian(rows, axis=0)
        ranges = np.stack([np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)])
    return GainModel(tuple(names), _fit(estimator, rows, gains), misses, medians, ranges)


def left_out(
    estimator: Any,
    rows: Float[np.ndarray, "cells names"],
    gains: Float[np.ndarray, " cells"],
    groups: Int[np.ndarray, " cells"],
) -> Float[np.ndarray, " cells"]:
    """Return the forecast of every cell by a fit without any cell of its group."""
    found = np.empty(len(gains))
    for group in np.unique(groups):
        theirs = groups == group
        found[theirs] = _fit(estimator, rows[~theirs], gains[~theirs]).predict(rows[theirs])
    return found


def conformal(misses: Float[np.ndarray, " cells"], level: float = LEVEL) -> tuple[float, float]:
    """Return by how much to widen a forecast downwards and upwards: quantiles of what it missed.

    Each side leaves out (1 - level) / 2, with the finite-sample correction of split conformal
    prediction; infinite where there are too few cells.
    """
    ordered, n = np.sort(misses), len(misses)
    rank = int(np.ceil((n + 1) * (1 + level) / 2))
    if rank > n:
        return -np.inf, np.inf
    return float(ordered[n - rank]), float(ordered[rank - 1])


def _fit(estimator: Any, rows: np.ndarray, gains: np.ndarray) -> Any:
    """Return a fitted copy of an estimator."""
    with warnings.catch_warnings():
        # A length at its bound says that the gain is flat there, which is no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fresh: Any = clone(estimator)
        return fresh.fit(rows, gains)


def default_regression() -> Any:
    """Return the regression that forecasts are made with: the mean of a smooth one and of trees."""
    kernel = ConstantKernel(1.0) * RBF(3.0) + WhiteKernel(0.3)
    smooth = make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        GaussianProcessRegressor(kernel, normalize_y=True, random_state=0),
    )
    trees = make_pipeline(
        SimpleImputer(strategy="median"),
        ExtraTreesRegressor(150, min_samples_leaf=2, random_state=0),
    )
    return VotingRegressor([("smooth", smooth), ("trees", trees)])


def with_misses(grid: Grid) -> Grid:
    """Return a grid that knows what its forecasts missed, which takes a minute to find out."""
    found = {}
    for method in grid.methods:
        for outcome in get_args(Outcome):
            for names in (FIGURES, FIGURES + PILOT_FIGURES):
                model = fitted(grid, method, outcome, names)
                found[_key(method, outcome, names)] = model.misses.tolist()
    return replace(grid, misses=found)


def _key(method: str, outcome: Outcome, names: Sequence[str]) -> str:
    return " ".join((method, outcome, *names))


@lru_cache(maxsize=16)
def model_for(method: str, outcome: Outcome, *, with_pilot: bool) -> GainModel:
    """Return the model of limbeck's own grid."""
    names = FIGURES + PILOT_FIGURES if with_pilot else FIGURES
    return fitted(own_grid(), method, outcome, names)
