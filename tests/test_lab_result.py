"""Checks that can fail: each kind, what is not a number, and how far a short run may widen them."""

import json
import math

import pytest

from limbeck.checks import ArgumentError
from limbeck.lab_result import (
    KINDS,
    LabCurve,
    LabResult,
    LabSettings,
    compare,
    standard_error,
    widened,
)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("absolute", 10.9, 11.1),
        ("absolute", 9.1, 8.9),
        ("relative", 19.9, 20.1),
        ("relative", 0.1, -0.1),
        ("at_most", 10.9, 11.1),
        ("at_most", -100.0, 11.01),
        ("at_least", 9.1, 8.9),
        ("at_least", 100.0, 8.99),
    ],
)
def test_each_kind_passes_and_fails(kind, right, wrong):
    assert compare("x", right, 10.0, 1.0, kind).passed
    assert not compare("x", wrong, 10.0, 1.0, kind).passed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_passes(kind, number):
    assert not compare("x", number, 1.0, 5.0, kind).passed
    assert not compare("x", 1.0, number, 5.0, kind).passed


def test_relative_is_a_share_of_the_predicted_number():
    assert not compare("x", 0.0, -10.0, 0.5, "relative").passed
    assert compare("x", -12.0, -10.0, 0.25, "relative").passed
    assert not compare("x", 1e-9, 0.0, 0.25, "relative").passed


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_bad_tolerance_is_refused(tolerance):
    with pytest.raises(ArgumentError, match="expected `tolerance` >= 0; got"):
        compare("x", 1.0, 1.0, tolerance)


def test_an_unknown_kind_is_refused(without_shape_hook):
    with pytest.raises(ArgumentError, match="Did you mean relative"):
        compare("x", 1.0, 1.0, 0.1, "relativ")


def test_only_a_short_run_widens_and_only_so_far():
    assert widened(0.02, 0.1, quick=False) == 0.02
    assert widened(0.02, 0.001, quick=True) == 0.02
    assert widened(0.02, 0.01, quick=True) == 0.04
    assert widened(0.02, 1.0, quick=True) == pytest.approx(0.06)
    assert widened(0.02, math.nan, quick=True) == 0.02


def test_standard_error_of_chains():
    import numpy as np

    assert standard_error(np.array([1.0, 2.0, 3.0, 6.0])) == pytest.approx(math.sqrt(14 / 3 / 4))
    assert standard_error(np.array([1.0])) == 0.0


def test_a_result_without_checks_has_not_passed():
    assert not LabResult("x", (), (), {}, 0.0).passed


def test_one_failure_fails_the_result_and_json_has_no_nan():
    good, bad = compare("a", 1.0, 1.0, 0.0), compare("b", math.nan, 1.0, 1.0)
    curve = LabCurve("t", "x", "y", (0.0,), (math.nan,), (1.0,), {"o": (math.inf,)})
    result = LabResult("x", (good, bad), (curve,), {"seed": 0}, 0.1, ("remark",))
    assert not result.passed
    assert result.failures == (bad,)
    assert LabResult("x", (good,), (), {}, 0.0).passed
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["checks"][1]["measured"] is None
    assert plain["curves"][0]["measured"] == [None]
    assert plain["curves"][0]["others"] == {"o": [None]}
    assert (plain["passed"], plain["remarks"]) == (False, ["remark"])


def test_a_negative_seed_is_refused():
    with pytest.raises(ArgumentError, match="expected `seed` >= 0; got -1"):
        LabSettings(seed=-1)
