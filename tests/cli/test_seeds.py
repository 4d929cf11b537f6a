"""Means over seeds."""

import json

import pytest

from limbeck.cli.seeds import aggregate
from limbeck.record import RunRecord


def _record(seed, accuracy, best=None):
    results = {"last": {"test": {"accuracy": accuracy, "cross_entropy": 1 - accuracy}}}
    if best is not None:
        results["best"] = {"validation": {"epoch": 3.0, "accuracy": best}}
    return RunRecord(kind="train", seed=seed, results=results)


def test_mean_and_interval_by_hand():
    found = aggregate([_record(0, 0.80), _record(1, 0.90), _record(2, 0.85), _record(3, 0.85)])
    estimate = found["last test accuracy"]
    # s^2 = (0.05^2 + 0.05^2) / 3, s = 0.0408248; t(0.975, 3) = 3.182446; / sqrt(4) = 0.0649609
    assert estimate.value == pytest.approx(0.85)
    assert estimate.lower == pytest.approx(0.85 - 0.0649609, abs=1e-6)
    assert estimate.upper == pytest.approx(0.85 + 0.0649609, abs=1e-6)
    assert (estimate.n, estimate.unit) == (4, "fraction")
    assert found["last test cross_entropy"].unit == "nats"


def test_only_what_all_runs_have_is_averaged():
    found = aggregate([_record(0, 0.8, 0.9), _record(1, 0.9)])
    assert set(found) == {"last test accuracy", "last test cross_entropy"}
    found = aggregate([_record(0, 0.8, 0.9), _record(1, 0.9, 0.9)])
    assert "best validation epoch" not in found
    assert found["best validation accuracy"].upper == pytest.approx(0.9)


def test_seeds_of_the_program(limbeck, recipe, tmp_path):
    out = tmp_path / "many"
    said, _ = limbeck("distill", recipe, "--out", out, "--seed", 3, "--seeds", 2)
    assert "2 seeds: mean and 95 % interval" in said
    assert sorted(path.name for path in out.iterdir()) == ["seed3", "seed4", "summary.json"]
    records = [RunRecord.open(out / name) for name in ("seed3", "seed4")]
    assert [record.seed for record in records] == [3, 4]
    assert records[0].curves != records[1].curves
    a, b = (record.results["last"]["test"]["accuracy"] for record in records)
    summary = json.loads((out / "summary.json").read_text())
    found = summary["results"]["last test accuracy"]
    assert found["value"] == pytest.approx((a + b) / 2)
    # for two runs: s / sqrt(2) = |a - b| / 2 and t(0.975, 1) = 12.7062047
    assert found["upper"] - found["value"] == pytest.approx(12.7062047 * abs(a - b) / 2)
    assert (found["n"], summary["seeds"]) == (2, [3, 4])
    assert f"{(a + b) / 2:.4f}" in said

    # Each of them is the run that its seed alone gives, and a repeated call finds them finished.
    alone = limbeck.json("distill", recipe, "--out", tmp_path / "alone", "--seed", 4)
    assert alone["record"]["curves"]["loss total"] == records[1].curves["loss total"]
    again = limbeck.json("distill", recipe, "--out", out, "--seed", 3, "--seeds", 2, "--resume")
    assert again == summary
