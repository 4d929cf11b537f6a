"""The regression of a gain: fits without a data set, intervals, shares, and what lies outside."""

import math

import numpy as np
import pytest
from helpers.forecasts import gain_model
from scipy.special import betaln
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression

from limbeck.forecasting import model
from limbeck.forecasting.grid import Grid, Row
from limbeck.forecasting.model import conformal, fitted, left_out, model_for


SEEN = []


class Noting(BaseEstimator):
    """Notes which cells it is fitted to and asked for; a cell's first figure is its number."""

    def fit(self, rows, gains):
        SEEN.append({"fitted": rows[:, 0].tolist()})
        return self

    def predict(self, rows):
        SEEN[-1]["asked"] = rows[:, 0].tolist()
        return rows[:, 0]


def cells(count=24, sets=6, seed=0):
    """Return a grid whose gains are a line of two figures with noise."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        figures = {"classes": float(random.normal()), "steps": float(random.normal())}
        pilots = {"kd": {"pilot_accuracy": float(random.normal())}}
        gain = 2.0 * figures["classes"] - figures["steps"] + float(random.normal())
        gains = {"kd": {"accuracy": gain, "cross_entropy": -gain}}
        name = (f"data {number % sets}", str(number))
        made.append(Row(name, f"teacher {number % 2}", figures, pilots, gains, gains))
    return Grid(made, {})


def test_no_cell_of_the_group_is_in_the_fit():
    SEEN.clear()
    groups = np.array([0, 1, 0, 2, 1, 0])
    rows = np.arange(6.0)[:, None]
    found = left_out(Noting(), rows, np.zeros(6), groups)
    np.testing.assert_array_equal(found, np.arange(6.0))
    assert sorted(map(tuple, (one["asked"] for one in SEEN))) == [(0, 2, 5), (1, 4), (3,)]
    for one in SEEN:
        assert sorted(one["fitted"] + one["asked"]) == list(range(6))


def test_misses_by_least_squares_cell_by_cell():
    grid = cells()
    found = fitted(grid, "kd", "accuracy", ["classes", "steps"], LinearRegression())
    table = np.array([[1.0, r.figures["classes"], r.figures["steps"]] for r in grid.rows])
    gains = np.array([row.gains["kd"]["accuracy"] for row in grid.rows])
    for number, row in enumerate(grid.rows):
        others = [at for at, one in enumerate(grid.rows) if one.name[0] != row.name[0]]
        line = np.linalg.lstsq(table[others], gains[others], rcond=None)[0]
        assert found.misses[number] == pytest.approx(gains[number] - table[number] @ line)
    line = np.linalg.lstsq(table, gains, rcond=None)[0]
    case = found.predict({"classes": 0.5, "steps": -1.0})
    assert case.value == pytest.approx(line @ [1.0, 0.5, -1.0])
    middle = np.median(table, axis=0)
    assert case.shares["classes"] == pytest.approx(line[1] * (0.5 - middle[1]))
    assert case.shares["steps"] == pytest.approx(line[2] * (-1.0 - middle[2]))
    np.testing.assert_allclose(found.ranges, [table[:, 1:].min(0), table[:, 1:].max(0)])
    lower, upper = sorted(found.misses)[0], sorted(found.misses)[23]  # 24 cells: place 24
    assert case.lower == pytest.approx(case.value + lower)
    assert case.upper == pytest.approx(case.value + upper)


@pytest.mark.parametrize(("count", "level", "place"), [(40, 0.9, 39), (99, 0.9, 95), (19, 0.8, 18)])
def test_coverage_is_that_of_order_statistics(count, level, place):
    """A new miss lies between places n + 1 - k and k with probability (2 k - n - 1) / (n + 1)."""
    assert place == math.ceil((count + 1) * (1 + level) / 2)
    random = np.random.default_rng(3)
    covered = []
    for _ in range(4000):
        lower, upper = conformal(random.normal(size=count), level)
        covered.append(norm.cdf(upper) - norm.cdf(lower))
    expected = (2 * place - count - 1) / (count + 1)
    assert expected >= level
    # What lies between two order statistics is Beta(a, b) with a = 2 k - n - 1, a + b = n + 1.
    a, b = 2 * place - count - 1, 2 * (count + 1 - place)
    variance = np.exp(betaln(a + 2, b) - betaln(a, b)) - expected**2
    assert np.mean(covered) == pytest.approx(expected, abs=4 * math.sqrt(variance / 4000))


def test_sides_are_those_of_the_misses():
    """Of 99 misses those at places 5 and 95 are the ends, also where they are skewed."""
    misses = np.arange(99.0)[::-1] ** 2
    assert conformal(misses, 0.9) == (16.0, 94.0**2)
    assert conformal(np.arange(19.0), 0.9) == (0.0, 18.0)
    assert conformal(np.arange(18.0), 0.9) == (-np.inf, np.inf)


def test_the_forecast_lies_inside_its_interval():
    """Where the regression was always too low, the interval begins at its value."""
    one = gain_model({"classes": 1.0})
    for misses, ends in (
        (np.linspace(1, 2, 99), (0.0, 1 + 94 / 98)),
        (np.linspace(-2, -1, 99), (-2 + 4 / 98, 0.0)),
    ):
        skewed = model.GainModel(one.names, one.regression, misses, one.medians, one.ranges)
        found = skewed.predict({"classes": 5.0})
        assert (found.lower, found.upper) == pytest.approx((5.0 + ends[0], 5.0 + ends[1]))


def test_what_lies_outside_is_named():
    """The ranges are -50 to 50: a tenth of 100 beyond is still inside."""
    one = gain_model({"classes": 1.0, "steps": 1.0}, limit=50.0)
    assert one.predict({"classes": 60.0, "steps": -60.0}).outside == ()
    assert one.predict({}).outside == ()
    assert one.predict({"classes": 60.5, "steps": 0.0}).outside == (
        "classes is 60.5, the grid's -50 to 50",
    )
    assert len(one.predict({"classes": 61.0, "steps": -61.0}).outside) == 2


def test_unknown_figures_count_as_typical():
    """Medians stand in for what a cell or a case does not have."""
    grid = cells()
    figures = [dict(row.figures) for row in grid.rows]
    middle = float(np.median([one["steps"] for one in figures]))
    found = fitted(grid, "kd", "accuracy", ["classes", "steps"])
    known = found.predict({"classes": 1.0, "steps": middle})
    unknown = found.predict({"classes": 1.0})
    assert unknown.value == pytest.approx(known.value)
    assert unknown.shares["steps"] == pytest.approx(0.0, abs=1e-9)
    assert unknown.shares["classes"] != pytest.approx(0.0, abs=1e-3)


def test_models_of_the_grid_that_ships(monkeypatch):
    monkeypatch.setattr(model, "own_grid", cells)
    monkeypatch.setattr(model, "FIGURES", ("classes", "steps"))
    monkeypatch.setattr(model, "PILOT_FIGURES", ("pilot_accuracy",))
    model_for.cache_clear()
    try:
        plain = model_for("kd", "cross_entropy", with_pilot=False)
        piloted = model_for("kd", "cross_entropy", with_pilot=True)
        assert model_for("kd", "cross_entropy", with_pilot=True) is piloted
    finally:
        model_for.cache_clear()
    assert plain.names == ("classes", "steps")
    assert piloted.names == ("classes", "steps", "pilot_accuracy")
    up, down = (plain.predict({"classes": x, "steps": 0.0}).value for x in (1.0, -1.0))
    assert up < down  # the gain in cross-entropy is the negative one
