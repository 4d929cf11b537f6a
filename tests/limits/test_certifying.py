"""From readings to certificates: numbers, kinds, bounds, and what is said where nothing can be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.distance.betting import betting_interval
from limbeck.limits.distance.certificate import FILE_NAME
from limbeck.limits.distance.certifying import (
    Circumstances,
    IntervalSettings,
    certificate_of,
    kl_at_least,
)
from limbeck.limits.distance.readings import Readings


def readings(log_ratio, **given):
    """Return readings of sampled probabilities."""
    ratio = np.asarray(log_ratio, float)
    tv = np.maximum(-np.expm1(ratio), 0.0)
    n = len(ratio)
    fields = {
        "low": tv,
        "high": tv,
        "log_ratio": ratio,
        "kl": np.full(n, np.nan),
        "counts": np.ones(n, int),
        "groups": None,
        "positions": np.full(n, -1),
    }
    return Readings(**fields | given)


def test_total_variation_and_both_meters_of_kl():
    ratio = np.random.default_rng(0).normal(-0.05, 0.4, 500)
    found = certificate_of(readings(ratio))
    tv = np.maximum(1 - np.exp(ratio), 0)
    assert found.total_variation.value == pytest.approx(tv.mean())
    assert (found.total_variation.lower, found.total_variation.upper) == betting_interval(tv)
    assert found.agreement.value == pytest.approx(1 - tv.mean())
    assert found.agreement.lower == pytest.approx(1 - found.total_variation.upper)
    k3, k1 = np.exp(ratio) - 1 - ratio, -ratio
    for name, terms in (("kl_k3", k3), ("kl_k1", k1)):
        assert found[name].value == pytest.approx(terms.mean())
        error = terms.std(ddof=1) / math.sqrt(500)
        assert found[name].settings["standard_error"] == pytest.approx(error)
        assert found[name].settings["kind"] == "approximate"
    assert found.kl.value == found["kl_k3"].value  # the steadier one near the teacher
    assert found.total_variation.settings["kind"] == "guarantee"
    assert found.at_most == pytest.approx(betting_interval(tv, side="upper").upper)
    assert found.at_most < found.total_variation.upper
    assert found.privilege == "sampled_probabilities"
    assert (found.records, found.units, found.unit) == (500, 500, "record")


def test_far_from_the_teacher_k1_is_taken():
    ratio = np.r_[np.full(380, -0.5), np.full(20, 3.0)]  # r = 20 now and then
    found = certificate_of(readings(ratio))
    errors = {name: found[name].settings["standard_error"] for name in ("kl_k3", "kl_k1")}
    assert errors["kl_k1"] < errors["kl_k3"]
    assert found.kl.value == found["kl_k1"].value


@pytest.mark.parametrize("tv", [0.05, 0.4, 0.9])
def test_the_least_kl_is_reached_by_nobody(tv):
    """On two labels the smallest KL for a total variation, by a fine grid, is not below it."""
    least = min(
        t * math.log(t / p) + (1 - t) * math.log((1 - t) / (1 - p))
        for p in np.linspace(1e-6, 1 - tv - 1e-6, 4001)
        for t in [p + tv]
    )
    assert kl_at_least(tv) <= least
    assert kl_at_least(tv) > 0.3 * least
    assert kl_at_least(0.0) == 0
    assert kl_at_least(1.0) == math.inf


def test_rows_are_exact():
    n = 200
    tv, kl = np.linspace(0, 0.4, n), np.linspace(0, 0.3, n)
    found = certificate_of(
        readings(np.full(n, -0.1), low=tv, high=tv, kl=kl), IntervalSettings(interval="hoeffding")
    )
    assert found.privilege == "soft_labels"
    assert found.total_variation.value == pytest.approx(0.2)
    assert found.kl.value == pytest.approx(0.15)
    assert "kl_k3" not in found.estimates
    assert found.total_variation.settings["interval"] == "hoeffding"
    radius = math.sqrt(math.log(40) / (2 * n))
    assert found.total_variation.upper == pytest.approx(0.2 + radius)


def test_counts_are_records():
    few = certificate_of(readings([-0.3, 0.2], counts=np.array([300, 100])))
    many = certificate_of(readings([-0.3] * 300 + [0.2] * 100))
    assert few.records == 400
    assert few.total_variation.to_dict() == many.total_variation.to_dict()
    assert few.kl.to_dict() == many.kl.to_dict()


def test_censored_records_bracket():
    ratio = np.r_[np.full(90, -0.2), np.full(10, np.nan)]
    low = np.maximum(-np.expm1(np.nan_to_num(ratio)), 0)
    high = np.where(np.isnan(ratio), 0.5, low)
    found = certificate_of(readings(ratio, low=low, high=high))
    assert found.total_variation.status == "unresolved"
    assert found.total_variation.lower == betting_interval(low).lower
    assert found.total_variation.upper == betting_interval(high).upper
    assert found.kl is None
    assert any("10.0% of the records are censored" in text for text in found.warnings)
    assert "unresolved" in str(found)


def test_sequences_of_one_length_and_of_several():
    generator = np.random.default_rng(0)
    ratio = -generator.random(240) * 0.4
    equal = readings(
        ratio,
        groups=np.repeat(np.arange(60), 4),
        positions=np.tile(np.arange(4), 60),
        unit="sequence",
    )
    found = certificate_of(equal)
    tv = np.maximum(-np.expm1(ratio), 0).reshape(60, 4).mean(1)
    assert (found.total_variation.lower, found.total_variation.upper) == (
        pytest.approx(betting_interval(tv))
    )
    assert (found.units, found.records) == (60, 240)
    assert "total_variation_per_group" not in found.estimates
    whole = np.maximum(-np.expm1(ratio.reshape(60, 4).sum(1)), 0)
    response = found["response_total_variation"]
    assert response.value == pytest.approx(whole.mean())
    assert (response.lower, response.upper) == pytest.approx(betting_interval(whole))
    k3 = (np.exp(ratio) - 1 - ratio).reshape(60, 4).sum(1)
    assert found["response_kl"].value == pytest.approx(k3.mean())
    sizes = generator.integers(1, 5, 100)
    groups = np.repeat(np.arange(100), sizes)
    places = np.concatenate([np.arange(size) for size in sizes])
    ratio = -generator.random(len(groups)) * 0.4
    uneven = readings(ratio, groups=groups, positions=places, unit="sequence")
    fixed, free = certificate_of(uneven), certificate_of(uneven, IntervalSettings(longest=4))
    for one in (fixed, free):
        tv = np.maximum(-np.expm1(ratio), 0)
        assert one.total_variation.value == pytest.approx(tv.mean())
        means = np.bincount(groups, tv) / sizes
        assert one["total_variation_per_group"].value == pytest.approx(means.mean())
    assert "of these sizes" in fixed.total_variation.settings["interval"]
    assert "at most 4 records" in free.total_variation.settings["interval"]
    with pytest.raises(ArgumentError, match="no group above"):
        certificate_of(uneven, IntervalSettings(longest=3))


def test_whole_responses_need_every_token():
    ratio, groups = np.full(6, -0.1), np.array([0, 0, 0, 1, 1, 1])
    whole = np.array([0, 1, 2, 5, 4, 6])
    fine = readings(ratio, groups=groups, positions=whole, unit="sequence")
    assert fine.whole_responses()
    gap = readings(ratio, groups=groups, positions=np.array([0, 1, 3, 5, 4, 6]), unit="sequence")
    twice = readings(ratio, groups=groups, positions=np.array([0, 1, 1, 5, 4, 6]), unit="sequence")
    unknown = readings(ratio, groups=groups, positions=np.full(6, -1), unit="sequence")
    inputs = readings(ratio, groups=groups, positions=whole, unit="input")
    hidden = readings(
        np.r_[ratio[:5], np.nan], groups=groups, positions=whole, unit="sequence",
        low=np.zeros(6), high=np.ones(6),
    )  # fmt: skip
    for other in (gap, twice, unknown, inputs, hidden):
        assert not other.whole_responses()
        assert "response_kl" not in certificate_of(other).estimates


def test_responses_multiply():
    """Enumerate all responses of two tokens: the product's total variation, to rounding."""
    t = np.array([0.7, 0.3])
    p = np.array([0.4, 0.6])
    exact = 0.5 * sum(abs(t[a] * t[b] - p[a] * p[b]) for a in (0, 1) for b in (0, 1))
    times = {(0, 0): 49, (0, 1): 21, (1, 0): 21, (1, 1): 9}  # as often as the teacher says them
    tokens = [a for pair, count in times.items() for a in pair * count]
    ratio = np.log(p / t)[tokens]
    found = certificate_of(
        readings(
            ratio,
            groups=np.repeat(np.arange(100), 2),
            positions=np.tile([0, 1], 100),
            unit="sequence",
        )
    )
    assert found["response_total_variation"].value == pytest.approx(exact)
    kl = float(t @ np.log(t / p))
    assert found["response_kl"].value == pytest.approx(2 * kl)
    assert found.total_variation.value == pytest.approx(0.3)


def test_a_label_that_the_student_excludes():
    ratio = np.r_[np.full(99, -0.1), -np.inf]
    found = certificate_of(readings(ratio))
    assert (found.kl.status, found.kl.upper) == ("unresolved", math.inf)
    assert any("probability 0 to a label" in text for text in found.warnings)
    assert found.total_variation.status == "resolved"
    assert (
        json.loads(json.dumps(found.to_dict(), allow_nan=False))["estimates"]["kl"]["upper"] is None
    )


def test_heavy_tails_are_told():
    found = certificate_of(readings(np.r_[np.full(999, -0.01), 6.0]))
    assert any("its interval is likely too narrow" in text for text in found.warnings)
    assert not certificate_of(readings(np.tile([-0.1, 0.08], 200))).warnings


def test_text_dictionary_and_file(tmp_path):
    about = Circumstances(
        student="small", left_out={"with an index outside of the data": 3}, warnings=["mind"],
        settings={"tokens": True},
    )  # fmt: skip
    found = certificate_of(readings(np.full(300, -0.5)), None, about)
    text = str(found)
    for part in (
        "small: 300 records, sampled_probabilities",
        "total variation",
        "0.393 [",
        "acceptance rate as a draft",
        "guarantee",
        "approximate",
        "total variation at most",
        "left out: 3 with an index outside of the data",
        "KL at least",
        "scope: the teacher is taken for the truth",
        "warning: mind",
    ):
        assert part in text
    assert found.save(tmp_path / "deep") == tmp_path / "deep"
    saved = json.loads((tmp_path / "deep" / FILE_NAME).read_text())
    assert saved == json.loads(json.dumps(found.to_dict()))
    assert saved["kind"] == "certificate"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [FILE_NAME]
    with pytest.raises(ArgumentError, match="Did you mean kl"):
        found["kl_"]


@given(
    st.lists(st.floats(-6, 3), min_size=1, max_size=40),
    st.sampled_from(["betting", "empirical_bernstein", "hoeffding"]),
)
@settings(max_examples=60, deadline=None)
def test_every_estimate_is_consistent(ratios, interval):
    found = certificate_of(readings(ratios), IntervalSettings(interval=interval))
    for one in found.estimates.values():
        assert one.lower <= one.value <= one.upper
        assert not math.isnan(one.value)
    assert found.total_variation.lower >= 0
    assert found.total_variation.upper <= 1
    assert found.at_most <= found.total_variation.upper + 1e-12
    json.dumps(found.to_dict(), allow_nan=False)


def test_wrong_settings_are_refused_before_anything_runs():
    for wrong, what in (
        ({"confidence": 95.0}, "`confidence` between 0 and 1"),
        ({"interval": "bettin"}, "Did you mean betting"),
        ({"longest": 0}, "`longest` >= 1"),
        ({"seed": -1}, "`seed` >= 0"),
    ):
        with pytest.raises(ArgumentError, match=what):
            IntervalSettings(**wrong)


def test_wrong_readings_are_refused(without_shape_hook):
    with pytest.raises(ShapeError, match="one number a record"):
        readings([0.1, 0.2], counts=np.ones(3, int))
    with pytest.raises(DataError, match="at least one record"):
        readings([])
    with pytest.raises(ArgumentError, match="`unit` to be one of"):
        readings([0.1], unit="token")
