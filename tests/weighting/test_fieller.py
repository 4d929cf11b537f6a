"""Fieller's interval against a fine grid of the values that it may hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.weighting.theory.fieller import Ratio, fieller, weight_estimate


GRID = np.linspace(0, 1, 20001)


def allowed(ratio, z=1.96):
    """Which values of the grid are within z standard errors."""
    top, bottom, var_top, covariance, var_bottom = ratio
    spread = var_top - 2 * GRID * covariance + GRID**2 * var_bottom
    return (top - GRID * bottom) ** 2 <= z**2 * spread


@st.composite
def ratios(draw):
    var_top, var_bottom = draw(st.floats(0.01, 4)), draw(st.floats(0.01, 4))
    share = draw(st.floats(-0.95, 0.95))
    top, bottom = draw(st.floats(-5, 5)), draw(st.floats(-5, 5))
    return Ratio(top, bottom, var_top, share * math.sqrt(var_top * var_bottom), var_bottom)


@given(ratios())
@settings(max_examples=300, deadline=None)
def test_it_is_the_hull_of_what_is_allowed(ratio):
    low, high, bounded = fieller(ratio)
    inside = GRID[allowed(ratio)]
    clear = abs(ratio.bottom**2 - 1.96**2 * ratio.var_bottom) > 1e-6
    if clear:
        assert bounded == (ratio.bottom**2 > 1.96**2 * ratio.var_bottom)
    if len(inside):
        assert low == pytest.approx(inside[0], abs=1e-4)
        assert high == pytest.approx(inside[-1], abs=1e-4)
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Ratio(2.0, 4.0, 0.0, 0.0, 0.0), (0.5, 0.5, True)),
        (Ratio(8.0, 4.0, 0.01, 0.0, 0.01), (1.0, 1.0, True)),
        (Ratio(-8.0, 4.0, 0.01, 0.0, 0.01), (0.0, 0.0, True)),
        # The outside of (-0.33, 1.03): none of [0, 1], so nothing is known.
        (Ratio(-1.0, 1.0, 0.01, 0.0, 1.0), (0.0, 1.0, False)),
        # The outside of (-0.397, 0.675), and its mirror image.
        (Ratio(1.0, -0.5, 0.01, 0.0, 1.0), (0.675, 1.0, False)),
        (Ratio(1.0, 0.5, 0.01, 0.0, 1.0), (0.397, 1.0, False)),
    ],
)
def test_by_hand(ratio, expected):
    low, high, bounded = fieller(ratio)
    assert (low, high, bounded) == pytest.approx(expected, abs=1e-3)
    inside = GRID[allowed(ratio)]
    if len(inside):
        assert (low, high) == pytest.approx((inside[0], inside[-1]), abs=1e-4)


def test_the_estimate_keeps_what_was_not_clipped():
    found = weight_estimate(Ratio(8.0, 4.0, 0.01, 0, 0.01), 2.0, n=9, settings={"kappa": 0.0})
    assert (found.value, found.lower, found.upper, found.raw) == (1.0, 1.0, 1.0, 2.0)
    assert (found.n, found.unit, found.status) == (9, "fraction", "resolved")
    assert found.settings == {"interval": "Fieller", "level": 0.95, "kappa": 0.0}


def test_an_estimate_lies_in_its_interval():
    found = weight_estimate(Ratio(1.0, 0.2, 0.01, 0, 1.0), 0.05, n=9, settings={})
    assert found.status == "unresolved"
    assert found.lower <= found.value <= found.upper
