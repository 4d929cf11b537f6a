"""What the demo says of its forecasts."""

from __future__ import annotations

from limbeck.cli.demo_forecast import LOSSES, clear, forecast_sentence
from limbeck.estimates import Estimate
from limbeck.forecasting.grid import own_grid
from limbeck.forecasting.result import Forecast, ForecastEntry
from limbeck.record import RunRecord
from limbeck.report.comparison import compare


TITLES = {"kd": "KD", "itrd": "ITRD"}


def runs(kind, *accuracies):
    return [
        RunRecord(
            kind=kind, seed=seed, status="finished", results={"last": {"test": {"accuracy": one}}}
        )
        for seed, one in enumerate(accuracies)
    ]


def expected(loss, value, lower, upper, status):
    gain = Estimate(value, lower, upper, 108, "points", status)
    entry = ForecastEntry("t", None, gain, gain, {}, (), {}, (), {})
    return Forecast((entry,), loss, 108, {}, {}, 1.0)


FORECASTS = {
    "kd": expected("kd", 3.0, 1.04, 6.0, "resolved"),
    "itrd": expected("itrd", 9.9, -1.0, 20.0, "unresolved"),
}


def test_the_sentence_has_forecast_and_what_came():
    groups = {"control": runs("train", 0.5, 0.5), "kd": runs("distill", 0.54, 0.55)}
    groups["itrd"] = runs("distill", 0.4, 0.4)
    said = forecast_sentence(FORECASTS, compare(groups, control="control"), TITLES)
    # t of one degree of freedom is 12.706; 4.5 -+ 12.706 * 0.5.
    assert "KD +3.0 [+1.0, +6.0] (helps), came +4.5 [-1.9, +10.9]; " in said
    assert "ITRD [-1.0, +20.0] (outside of what I have seen), came -10.0 [-10.0, -10.0]." in said
    assert "9.9" not in said


def test_one_seed_has_no_number():
    groups = {"control": runs("train", 0.5), "kd": runs("distill", 0.75)}
    comparison = compare(groups, control="control")
    said = forecast_sentence({"kd": FORECASTS["kd"]}, comparison, TITLES)
    assert said.endswith("(helps), came one seed, no interval.")


def test_only_earlier_forecasts_are_cleared(tmp_path):
    clear(tmp_path)  # nothing there
    for name in ("kd/forecast.json", "kd/notes.txt", "forecast.json"):
        path = tmp_path / "forecast" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    clear(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*.*"))
    assert left == ["forecast.json", "notes.txt"]


def test_limbecks_own_grid_has_the_losses():
    assert set(LOSSES) <= set(own_grid().methods)
