"""Least squares of a learning curve, and the profiles that its intervals are read from.

The curve is floor + scale * n^-exponent with floor and scale at or above 0. Repeats of a size enter
by their mean and their scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Groups:
    """Measurements by size.

    Attributes:
        sizes: Numbers of queries, increasing.
        means: Mean error at each.
        repeats: How many measurements.
        squares: Sum of squared deviations from the mean.
        weights: One over the variance of a measurement, up to a factor.
    """

    sizes: Float[np.ndarray, " g"]
    means: Float[np.ndarray, " g"]
    repeats: Float[np.ndarray, " g"]
    squares: Float[np.ndarray, " g"]
    weights: Float[np.ndarray, " g"]

    @classmethod
    def of(cls, sizes: Float[np.ndarray, " n"], errors: Float[np.ndarray, " n"]) -> Groups:
        """Return the groups of measurements, weighted by their means."""
        found, place = np.unique(sizes, return_inverse=True)
        repeats = np.bincount(place).astype(np.float64)
        means = np.bincount(place, errors) / repeats
        squares = np.bincount(place, (errors - means[place]) ** 2)
        weights = 1 / np.maximum(means, 1e-12) ** 2
        return cls(found, means, repeats, squares, weights)

    def weighted(self, curve: Float[np.ndarray, " g"]) -> Groups:
        """Return the same with deviations relative to a curve."""
        return replace(self, weights=1 / np.maximum(curve, 1e-12) ** 2)

    @property
    def scatter(self) -> float:
        """Misfit that no curve can remove: the scatter of repeats."""
        return float(self.weights @ self.squares)


class Fit(NamedTuple):
    """The best curve and its weighted sum of squares."""

    floor: float
    scale: float
    exponent: float
    misfit: float


def best_fit(groups: Groups, exponents: Float[np.ndarray, " b"]) -> Fit:
    """Return the best curve with an exponent in the range of those given."""
    b = _refined(lambda b: _solved(groups, b)[2], exponents, 1)
    floor, scale, misfit = _solved(groups, b)
    return Fit(float(floor[0]), float(scale[0]), float(b[0]), float(misfit[0]))


def profile_exponent(groups: Groups, exponents: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return the least misfit at each exponent."""
    return _solved(groups, exponents)[2]


def profile_floor(
    groups: Groups, floors: Float[np.ndarray, " k"], exponents: Float[np.ndarray, " b"]
) -> Float[np.ndarray, " k"]:
    """Return the least misfit at each floor, over scales and exponents."""
    b = _refined(lambda b: _at_floor(groups, floors, b), exponents, len(floors))
    return _at_floor(groups, floors, b)


def profile_size(
    groups: Groups,
    error: float,
    sizes: Float[np.ndarray, " k"],
    exponents: Float[np.ndarray, " b"],
) -> Float[np.ndarray, " k"]:
    """Return the least misfit of the curves that reach an error at each size."""
    b = _refined(lambda b: _at_size(groups, error, sizes, b), exponents, len(sizes))
    return _at_size(groups, error, sizes, b)


def endpoints(
    misfit: Callable[[np.ndarray], np.ndarray],
    start: float,
    low: float,
    high: float,
    limit: float,
) -> tuple[float, float]:
    """Return the least and the largest value in [low, high] whose misfit is within a limit."""
    grid = np.unique(np.concatenate([np.linspace(low, high, 400), [start]]))
    found = np.flatnonzero(misfit(grid) <= limit)
    if not found.size:
        return start, start
    inside = grid[[found[0], found[-1]]]
    outside = grid[[max(found[0] - 1, 0), min(found[-1] + 1, len(grid) - 1)]]
    for _ in range(30):
        middle = (outside + inside) / 2
        within = misfit(middle) <= limit
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return min(float(inside[0]), start), max(float(inside[1]), start)


# In the three functions below the last axis of what is summed are the groups, and b holds an
# exponent for each curve; further axes in front are further choices of exponents.


def _solved(
    groups: Groups, b: Float[np.ndarray, "*k"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return floor, scale and misfit of the best curve at each exponent."""
    w, y = groups.repeats * groups.weights, groups.means
    x = groups.sizes ** -b[..., None]
    total, wx, wxx = w.sum(), (w * x).sum(-1), (w * x * x).sum(-1)
    wy, wxy = (w * y).sum(), (w * x * y).sum(-1)
    bottom = np.maximum(total * wxx - wx**2, 1e-300)
    scale = (total * wxy - wx * wy) / bottom
    floor = (wy - scale * wx) / total
    scale, floor = np.where(floor < 0, wxy / wxx, scale), np.maximum(floor, 0.0)
    floor, scale = np.where(scale < 0, wy / total, floor), np.maximum(scale, 0.0)
    misfit = (w * (y - floor[..., None] - scale[..., None] * x) ** 2).sum(-1) + groups.scatter
    return floor, scale, misfit


def _at_floor(
    groups: Groups, floors: Float[np.ndarray, " k"], b: Float[np.ndarray, "*choices k"]
) -> Float[np.ndarray, "*choices k"]:
    w = groups.repeats * groups.weights
    x = groups.sizes ** -b[..., None]
    rest = groups.means - floors[:, None]
    scale = np.maximum((w * x * rest).sum(-1) / (w * x * x).sum(-1), 0.0)
    return (w * (rest - scale[..., None] * x) ** 2).sum(-1) + groups.scatter


def _at_size(
    groups: Groups,
    error: float,
    sizes: Float[np.ndarray, " k"],
    b: Float[np.ndarray, "*choices k"],
) -> Float[np.ndarray, "*choices k"]:
    # Curves through (size, error) are linear in how far their floor lies below the error; written
    # by the floor itself, numbers as large as size^b would cancel.
    w = groups.repeats * groups.weights
    rise = (sizes[:, None] / groups.sizes) ** b[..., None] - 1
    above = groups.means - error
    bottom = (w * rise * rise).sum(-1)
    gap = np.where(bottom > 0, (w * rise * above).sum(-1) / np.maximum(bottom, 1e-300), 0.0)
    gap = np.clip(gap, 0.0, error)
    return (w * (above - gap[..., None] * rise) ** 2).sum(-1) + groups.scatter


def _refined(
    misfit: Callable[[np.ndarray], np.ndarray], exponents: Float[np.ndarray, " b"], count: int
) -> Float[np.ndarray, " k"]:
    """Return the exponent of the least misfit for each of ``count`` curves: grid, then golden."""
    if len(exponents) == 1:
        return np.full(count, exponents[0])
    scores = misfit(np.repeat(exponents[:, None], count, axis=1))
    best = scores.argmin(axis=0)
    low = exponents[np.maximum(best - 1, 0)]
    high = exponents[np.minimum(best + 1, len(exponents) - 1)]
    for _ in range(30):
        step = _GOLDEN * (high - low)
        left, right = misfit(np.stack([high - step, low + step]))
        low, high = (
            np.where(left < right, low, high - step),
            np.where(left < right, low + step, high),
        )
    middle = (low + high) / 2
    return np.where(misfit(middle) <= scores.min(axis=0), middle, exponents[best])
