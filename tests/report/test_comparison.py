"""Means, paired differences and verdicts, against scipy and numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from limbeck.checks import ArgumentError
from limbeck.record import RunRecord
from limbeck.report import compare, mean_estimate, paired_difference


def record(
    seed: int, accuracy: float | None, *, status: str = "finished", **metrics: float
) -> RunRecord:
    found = metrics if accuracy is None else {"accuracy": accuracy, **metrics}
    return RunRecord(
        kind="distill",
        status=status,
        seed=seed,
        results={"last": {"test": found}},
        time={"seconds": 2.0 + seed},
    )


def group(values: dict[int, float]) -> list[RunRecord]:
    return [record(seed, value) for seed, value in values.items()]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_of_a_mean_is_that_of_scipy(level):
    values = [0.81, 0.84, 0.79, 0.9, 0.77]
    found = mean_estimate(values, unit="fraction", level=level)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert found.value == pytest.approx(np.mean(values), abs=1e-15)
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.n, found.unit, found.status) == (5, "fraction", "resolved")
    assert found.settings["level"] == level


def test_interval_by_hand():
    # The squares sum to 8, so s = sqrt(8 / 3); t_{3, 0.975} = 3.182446.
    found = mean_estimate([-2.0, 0.0, 0.0, 2.0], unit="nats")
    half = 3.182446 * math.sqrt(8 / 3) / 2
    assert (found.lower, found.value, found.upper) == pytest.approx((-half, 0.0, half), abs=1e-5)


def test_one_seed_has_no_interval():
    found = mean_estimate([0.9], unit="fraction")
    assert found.status == "unresolved"
    assert (found.lower, found.upper, found.n) == (-math.inf, math.inf, 1)
    assert "0.9" not in str(found)
    alone = paired_difference({3: 0.9}, {3: 0.5}, unit="fraction")
    assert (alone.verdict, alone.wins, alone.pairs) == ("unresolved", 1, 1)


def test_seeds_without_spread_have_an_interval_without_width():
    found = mean_estimate([0.5, 0.5, 0.5], unit="fraction")
    assert (found.lower, found.value, found.upper) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf, 1.0]])
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(ArgumentError, match="finite number"):
        mean_estimate(values, unit="fraction")


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_levels_outside_of_0_and_1_are_refused(level):
    with pytest.raises(ArgumentError, match="level"):
        mean_estimate([1.0, 2.0], unit="nats", level=level)


def test_paired_interval_is_that_of_scipy_and_narrower_than_unpaired():
    rng = np.random.default_rng(0)
    hard = rng.normal(0.8, 0.1, 8)  # what both share, seed by seed
    method, control = hard + 0.02 + rng.normal(0, 0.005, 8), hard
    found = paired_difference(
        dict(enumerate(method)), dict(enumerate(control)), unit="fraction"
    ).estimate
    paired = stats.ttest_rel(method, control).confidence_interval(0.95)
    assert (found.lower, found.upper) == pytest.approx((paired.low, paired.high), abs=1e-12)
    unpaired = stats.ttest_ind(method, control).confidence_interval(0.95)
    assert found.upper - found.lower < (unpaired.high - unpaired.low) / 5


def test_pairs_are_made_by_seed_and_not_by_order():
    control = {0: 0.1, 1: 0.5, 2: 0.9}
    method = {2: 0.92, 0: 0.11, 1: 0.53}
    found = paired_difference(method, control, unit="fraction")
    assert found.estimate.value == pytest.approx(0.02)
    assert found.estimate.upper < 0.05  # the differences are 0.01, 0.03 and 0.02
    assert (found.wins, found.pairs) == (3, 3)


def test_seeds_that_only_one_side_has_are_left_out_and_named():
    groups = {"control": group({0: 0.5, 1: 0.6}), "kd": group({0: 0.6, 1: 0.8, 7: 0.0})}
    found = compare(groups, control="control")
    difference = found.row("kd").difference
    assert difference is not None
    assert (difference.pairs, difference.wins) == (2, 2)
    assert difference.estimate.value == pytest.approx(0.15)
    assert found.row("kd").estimate.n == 3
    assert any("2 of its 3 seeds" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("gains", "verdict", "wins"),
    [
        ((0.03, 0.02, 0.04), "better", 3),  # 0.03 +- 4.3027 * 0.01 / sqrt 3 = 0.0248
        ((-0.03, -0.02, -0.04), "worse", 0),
        ((0.03, -0.02, 0.04), "inconclusive", 2),
        ((0.03, 0.005, 0.04), "inconclusive", 3),  # all pairs won and still not enough
        ((0.0, 0.0, 0.0), "inconclusive", 0),
    ],
)
def test_verdict(gains, verdict, wins):
    control = {0: 0.5, 1: 0.6, 2: 0.55}
    method = {seed: control[seed] + gain for seed, gain in enumerate(gains)}
    found = paired_difference(method, control, unit="fraction")
    assert (found.verdict, found.wins, found.pairs) == (verdict, wins, 3)


def test_less_is_better_for_losses():
    groups = {
        "control": [record(seed, None, cross_entropy=0.5 + 0.01 * seed) for seed in range(3)],
        "kd": [record(seed, None, cross_entropy=0.3 + 0.012 * seed) for seed in range(3)],
    }
    difference = compare(groups, control="control", metric="cross_entropy").row("kd").difference
    assert difference is not None
    assert difference.estimate.value < 0
    assert (difference.verdict, difference.wins) == ("better", 3)
    assert difference.estimate.unit == "nats"


def test_comparison_keeps_order_values_and_seconds():
    groups = {"b": group({1: 0.7, 0: 0.6}), "a": group({0: 0.5, 1: 0.5})}
    found = compare(groups)
    assert [row.name for row in found.rows] == ["b", "a"]
    assert found.row("b").values == {0: 0.6, 1: 0.7}
    assert found.row("b").seconds == 2.5
    assert found.row("b").difference is None
    assert any("a: all 2 seeds gave the same accuracy" in text for text in found.warnings)
    assert not any(text.startswith("b:") for text in found.warnings)


def test_runs_that_did_not_finish_do_not_count():
    groups = {
        "control": group({0: 0.5, 1: 0.6}),
        "kd": [record(0, 0.9), record(1, 0.1, status="interrupted"), record(2, None)],
    }
    found = compare(groups, control="control")
    assert found.row("kd").values == {0: 0.9}
    assert any(
        "seed 1: the run is interrupted; left out of test accuracy." in text
        for text in found.warnings
    )
    why = "kd, seed 2: the run is finished but has no test accuracy (last); left out of"
    assert any(why in text for text in found.warnings)


def test_a_missing_result_is_named():
    def warned(results):
        odd = RunRecord(kind="distill", status="finished", seed=1, results=results)
        return compare({"kd": [record(0, 0.5), odd]}).warnings

    (only,) = warned({"last": {"validation": {"accuracy": 0.5}}})
    assert only == (
        "kd, seed 1: the run is finished but has no test accuracy (last), only validation "
        "accuracy; left out of test accuracy."
    )
    (infinite,) = warned({"last": {"test": {"accuracy": math.inf}}})
    assert infinite == "kd, seed 1: its test accuracy is inf; left out of test accuracy."


def test_a_seed_twice_is_refused():
    with pytest.raises(ArgumentError, match="seed 4 twice"):
        compare({"kd": [record(4, 0.5), record(4, 0.6)]})


def test_unknown_control_and_absent_metric_are_refused():
    groups = {"control": group({0: 0.5})}
    with pytest.raises(ArgumentError, match="Did you mean control"):
        compare(groups, control="contol")
    with pytest.raises(ArgumentError, match="no run has it"):
        compare(groups, metric="mse")


def test_without_seeds_in_common_there_is_no_difference():
    found = compare({"control": group({0: 0.5}), "kd": group({1: 0.6})}, control="control")
    assert found.row("kd").difference is None
    with pytest.raises(ArgumentError, match="seeds in common"):
        paired_difference({1: 0.6}, {0: 0.5}, unit="fraction")


def test_equal_differences_conclude_nothing():
    """Two seeds that differ by the same single row of 60 have no scatter to judge by."""
    found = paired_difference({0: 38 / 60, 1: 37 / 60}, {0: 37 / 60, 1: 36 / 60}, unit="fraction")
    assert (found.wins, found.pairs) == (2, 2)
    assert found.verdict == "inconclusive"
