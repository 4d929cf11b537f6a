"""Figures of the laboratory: axes that a curve asks to be logarithmic."""

import pytest
from matplotlib.figure import Figure

from limbeck.lab_result import LabCurve
from limbeck.report import lab


def scales(curve):
    axes = Figure().subplots()
    lab._draw(axes, curve.to_dict())
    return axes.get_xscale(), axes.get_yscale()


@pytest.mark.parametrize(("log", "expected"), [(False, "linear"), (True, "log")])
def test_a_curve_may_ask_for_logarithms(log, expected):
    grid, values = (1.0, 2.0, 5.0), (1.0, 0.5, 0.2)
    assert scales(LabCurve("t", "x", "y", grid, values, log=log)) == (expected, expected)


def test_logarithms_leave_out_what_is_not_positive():
    grid, values = (1.0, 2.0, 5.0), (1.0, 0.5, 0.0)
    curve = LabCurve("t", "x", "y", grid, values, None, {"o": (0.0, 0.0, 0.0)}, log=True)
    assert scales(curve) == ("log", "log")
    result = {"case": "c", "checks": [], "curves": [curve.to_dict()]}
    assert "<svg" in lab.lab_svg(result)
    zeros = LabCurve("t", "x", "y", (0.0, 1.0), (0.0, 0.0), log=True)
    assert scales(zeros) == ("linear", "linear")


def test_records_without_the_field_are_drawn_as_before():
    curve = LabCurve("t", "x", "y", (1.0, 2.0), (1.0, 0.5)).to_dict()
    del curve["log"]
    axes = Figure().subplots()
    lab._draw(axes, curve)
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
