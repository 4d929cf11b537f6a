"""What a forecast says, and what its file holds."""

import json
from datetime import UTC, datetime, timedelta

import pytest

import limbeck as lb
from limbeck.checks import ArgumentError
from limbeck.estimates import Estimate
from limbeck.forecasting.result import Forecast, ForecastEntry, verdict_of


def gain(value, lower, upper, unit="points", status="resolved"):
    return Estimate(value, lower, upper, n=108, unit=unit, status=status)


def entry(teacher="big", points=2.0, outside=(), **changes):
    status = "unresolved" if outside else "resolved"
    given = {
        "layer": None,
        "accuracy": gain(points, points - 1.5, points + 1.5, status=status),
        "cross_entropy": gain(-0.125, -0.25, 0.5, "bits", status),
        "shares": {
            "accuracy": {"accuracy_gap": 0.75, "classes": -1.25, "cka": 0.5},
            "cross_entropy": {"accuracy_gap": 9.0},
        },
        "outside": tuple(outside),
        "figures": {"classes": 3.3219, "accuracy_gap": 12.0},
        "missing": (),
        "seconds": {"scores": 0.5, "bits": 3.0},
    }
    return ForecastEntry(teacher, **given | changes)


def forecast(*entries, warnings=()):
    return Forecast(entries, "kd", 108, {"rows": 9}, {"epochs": 60}, 10.0, warnings)


@pytest.mark.parametrize(
    ("lower", "upper", "status", "verdict"),
    [
        (0.01, 2.0, "resolved", "helps"),
        (0.0, 2.0, "resolved", "cannot tell"),
        (-1.0, 0.0, "resolved", "cannot tell"),
        (-1.0, -0.01, "resolved", "harms"),
        (-1.0, -0.5, "unresolved", "outside of what I have seen"),
        (0.5, 1.0, "unresolved", "outside of what I have seen"),
    ],
)
def test_verdicts(lower, upper, status, verdict):
    assert verdict_of(gain((lower + upper) / 2, lower, upper, status=status)) == verdict


def test_the_largest_share_decides():
    reason = entry().decided_by
    assert (reason.name, reason.share, reason.value, reason.unit) == (
        "classes",
        -1.25,
        3.3219,
        "log2",
    )
    assert str(reason) == "classes (number of classes), 3.32 log2: -1.25 points"
    none = entry(figures={"classes": 0.0}, shares={"accuracy": {"classes": 0.5}}).decided_by
    assert str(none) == "classes (number of classes), 0 log2: +0.50 points"
    unknown = entry(shares={"accuracy": {"cka": 0.0}}).decided_by
    assert str(unknown) == "cka (linear CKA of the two layers), unknown: +0.00 points"


def test_what_is_printed():
    far = entry(
        "far", 9.0, outside=("classes is 12, the grid's 3 to 4",), missing=("cka", "renyi"),
        layer="stage1",
    )  # fmt: skip
    said = str(forecast(far, entry("weak", -2.0), entry(), warnings=("mind this",))).splitlines()
    title = "expected gain of kd over a control without a teacher"
    assert said == [
        f"{title}, 90 % intervals, from 108 distillations",
        "big",
        "  accuracy       +2.00 [+0.50, +3.50] points: helps",
        "  cross-entropy  -0.12 [-0.25, +0.50] bits: cannot tell",
        "  decided by     classes (number of classes), 3.32 log2: -1.25 points",
        "weak",
        "  accuracy       -2.00 [-3.50, -0.50] points: harms",
        "  cross-entropy  -0.12 [-0.25, +0.50] bits: cannot tell",
        "  decided by     classes (number of classes), 3.32 log2: -1.25 points",
        "far (stage1)",
        "  accuracy       unresolved [+7.50, +10.50] points: outside of what I have seen",
        "  cross-entropy  unresolved [-0.25, +0.50] bits: outside of what I have seen",
        "  decided by     classes (number of classes), 3.32 log2: -1.25 points",
        "  outside        classes is 12, the grid's 3 to 4",
        "  not to be had  cka, renyi: taken as typical",
        "warning: mind this",
        "cost: 20.5 s (short control 10.0, scores 1.5, bits 9.0)",
    ]
    assert all(len(line) <= 100 for line in said)


def test_what_cost_next_to_nothing_is_not_listed():
    found = forecast(entry(seconds={"scores": 0.04, "bits": 0.06}))
    assert str(found).endswith("cost: 10.1 s (short control 10.0, bits 0.1)")


def test_one_entry_is_read_from_the_forecast_itself():
    one = entry(outside=("far",))
    found = forecast(one)
    assert found.accuracy is one.accuracy
    assert found.cross_entropy is one.cross_entropy
    assert found.figures is one.figures
    assert found.outside == ("far",)
    assert found.verdict == "outside of what I have seen"
    assert found.decided_by == one.decided_by
    assert found.seconds == {"short control": 10.0, "scores": 0.5, "bits": 3.0}
    several = forecast(one, entry())
    for name in ("accuracy", "cross_entropy", "figures", "outside", "verdict", "decided_by"):
        with pytest.raises(ArgumentError, match=r"one entry.*got 2\. Go through \.ranking"):
            getattr(several, name)


def test_the_file_is_the_record_and_plain_json(tmp_path):
    wide = entry("wide", accuracy=gain(1.0, -float("inf"), float("inf")))
    found = forecast(wide, entry())
    assert found.save(tmp_path / "deep" / "out") == tmp_path / "deep" / "out"
    held = json.loads(
        (tmp_path / "deep" / "out" / "forecast.json").read_text(), parse_constant=pytest.fail
    )
    assert held == found.to_dict()
    assert (held["kind"], held["format"], held["loss"], held["cells"]) == ("forecast", 1, "kd", 108)
    assert held["ranking"] == [1, 0]
    first, second = held["entries"]
    assert (first["gains"]["accuracy"]["lower"], first["gains"]["accuracy"]["value"]) == (None, 1.0)
    assert second["gains"]["cross_entropy"]["unit"] == "bits"
    assert second["verdicts"] == {"accuracy": "helps", "cross_entropy": "cannot tell"}
    assert second["decided_by"]["name"] == "classes"
    assert second["shares"]["accuracy"]["cka"] == 0.5
    assert held["seconds"] == {"short control": 10.0, "scores": 1.0, "bits": 6.0}
    assert held["settings"] == {"epochs": 60}
    assert held["versions"]["limbeck"] == lb.__version__
    assert held["hardware"]["cores"] > 0
    assert datetime.now(UTC) - datetime.fromisoformat(held["made"]) < timedelta(minutes=10)
    assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == ["forecast.json"]
