"""Calibration and agreement over seeds."""

import pytest
from scipy import stats

from limbeck.record import RunRecord
from limbeck.report.calibrated import agreed, pooled, section
from limbeck.report.pictures import PAGE


TITLES, COLOURS = {"kd": "KD", "plain": "Plain"}, {"kd": 0, "plain": 1}


def bins(*given):
    return [
        {"rows": rows, "confidence": sure if rows else None, "accuracy": right if rows else None}
        for rows, sure, right in given
    ]


def run(seed, error=0.1, given=((0, 0, 0), (4, 0.75, 0.5)), status="finished", **details):
    details = {"part": "test", "calibration": {"error": error, "bins": bins(*given)}, **details}
    return RunRecord(kind="distill", seed=seed, status=status, details=details)


def test_errors_have_their_interval_over_seeds():
    errors = [0.02, 0.04, 0.09]
    groups = {"kd": [run(seed, error) for seed, error in enumerate(errors)], "plain": [run(0, 0.5)]}
    groups["kd"].append(run(3, 0.9, status="failed"))
    found = section(groups, TITLES, COLOURS)
    interval = stats.ttest_1samp(errors, 0.0).confidence_interval(0.95)
    assert interval.low < 0  # as no error is: the interval is cut off there
    ends = f"[0.0, {100 * interval.high:.1f}]"
    assert found["rows"] == [
        {"name": "KD", "error": "5.0 %", "ends": ends},
        {"name": "Plain", "error": "50.0 %", "ends": "one seed, no interval"},
    ]
    assert "over 2 equally wide bins" in found["definition"]
    assert "1706.04599" in found["definition"]


def test_bins_are_pooled_by_their_rows():
    first = bins((0, 0, 0), (3, 0.6, 1 / 3), (1, 0.9, 1.0))
    second = bins((0, 0, 0), (1, 0.4, 1.0), (0, 0, 0))
    assert pooled([first, second]) == [
        (pytest.approx(2 / 3), pytest.approx(0.55), pytest.approx(0.5), 4),
        (1.0, 0.9, 1.0, 1),
    ]


def test_the_figure_is_accuracy_by_confidence_in_percent():
    groups = {"kd": [run(0, given=((2, 0.4, 0.5), (6, 0.8, 1.0)))]}
    found = section(groups, TITLES, COLOURS)["figure"]
    (axes,) = found["picture"].draw(PAGE).axes
    diagonal, line = axes.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert list(line.get_xdata()) == pytest.approx([40.0, 80.0])
    assert list(line.get_ydata()) == pytest.approx([50.0, 100.0])
    sizes = axes.collections[0].get_sizes()
    assert sizes[1] == pytest.approx(3 * sizes[0])  # as rows
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("mean confidence [%]", "accuracy [%]")
    assert found["rows"] == [
        ["KD", "0.500", "2", "0.4000", "0.5000"],
        ["KD", "1.000", "6", "0.8000", "1.0000"],
    ]


def test_agreement_stands_with_its_teacher_and_interval():
    values = [(0.9, 0.125), (0.8, 0.375)]
    group = [
        run(seed, agreement={"teacher": {"rows": 50, "same_class": same, "kl": kl}})
        for seed, (same, kl) in enumerate(values)
    ]
    (row,) = agreed({"kd": group, "plain": [run(0)]}, TITLES)
    assert (row["name"], row["same"], row["kl"], row["rows"]) == ("KD", "85.0 %", "0.25", "50")
    interval = stats.ttest_1samp([0.125, 0.375], 0.0).confidence_interval(0.95)
    ends = f"[{interval.low:.4g}, {interval.high:.4g}]".replace("-", "−")
    assert row["kl_ends"] == ends
    both = {one: {"rows": 9, "same_class": 1.0, "kl": 0.0} for one in ("teacher 0", "teacher 1")}
    names = [row["name"] for row in agreed({"kd": [run(0, agreement=both)]}, TITLES)]
    assert names == ["KD, teacher 0", "KD, teacher 1"]


def test_old_records_have_no_such_section():
    old = {"kd": [RunRecord(kind="train", seed=0, status="finished")]}
    assert section(old, TITLES, COLOURS) is None
    assert agreed(old, TITLES) == []
