"""The grid that limbeck ships: whole, and in step with the regression that is fitted to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from limbeck.forecasting.grid import own_grid
from limbeck.forecasting.model import FIGURES, PILOT_FIGURES, fitted


def test_the_grid_has_every_figure_of_every_cell():
    grid = own_grid()
    assert len(grid.rows) >= 60
    for method in grid.methods:
        assert np.isfinite(grid.figures(FIGURES + PILOT_FIGURES, method)).all()


@pytest.mark.parametrize("names", [FIGURES, FIGURES + PILOT_FIGURES])
def test_what_was_missed_is_of_this_regression(names):
    grid = own_grid()
    kept = fitted(grid, "kd", "accuracy", names).misses
    anew = fitted(replace(grid, misses={}), "kd", "accuracy", names).misses
    np.testing.assert_allclose(kept, anew, atol=0.05)
