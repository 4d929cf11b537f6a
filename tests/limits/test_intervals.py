"""Intervals for bounded means against the reference's table, scipy, and their own promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.distance.intervals import (
    clopper_pearson_interval,
    empirical_bernstein_interval,
    hoeffding_interval,
)


MEANS = (hoeffding_interval, empirical_bernstein_interval)


@pytest.mark.parametrize(
    ("copies", "bernstein", "hoeffding"),
    [(10, 0.1659704077, 0.1358101516), (100, 0.0258635320, 0.0429469408)],
)
def test_the_table_of_the_reference(copies, bernstein, hoeffding):
    x = np.repeat([0.0, 0.5], [9 * copies, copies])
    assert empirical_bernstein_interval(x).upper == pytest.approx(0.05 + bernstein, abs=1e-10)
    assert hoeffding_interval(x).upper == pytest.approx(0.05 + hoeffding, abs=1e-10)
    high = 1 - x  # mean 0.95: the lower end is not cut off
    assert empirical_bernstein_interval(high).lower == pytest.approx(0.95 - bernstein, abs=1e-10)
    assert hoeffding_interval(high).lower == pytest.approx(0.95 - hoeffding, abs=1e-10)


def test_clopper_pearson_of_the_reference():
    low, high = clopper_pearson_interval(3, 100)
    assert (low, high) == pytest.approx((0.0062299715, 0.0851760530), abs=1e-10)
    assert clopper_pearson_interval(3, 100, side="upper") == pytest.approx((0, 0.0757107938))
    assert clopper_pearson_interval(0, 100, side="upper") == pytest.approx((0, 0.0295130496))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 23), (500, 1000)])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_clopper_pearson_against_scipy(k, n, confidence):
    for side, other in (("two-sided", "two-sided"), ("lower", "greater"), ("upper", "less")):
        theirs = stats.binomtest(k, n, alternative=other).proportion_ci(confidence, method="exact")
        ours = clopper_pearson_interval(k, n, confidence=confidence, side=side)
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_clopper_pearson_covers_every_probability():
    n = 12
    ends = [clopper_pearson_interval(k, n, confidence=0.9) for k in range(n + 1)]
    for p in np.linspace(0.01, 0.99, 99):
        inside = [low <= p <= high for low, high in ends]
        assert stats.binom.pmf(np.arange(n + 1), n, p)[inside].sum() >= 0.9


@pytest.mark.parametrize("interval", MEANS)
def test_both_cover(interval):
    generator = np.random.default_rng(3)
    for n in (8, 60, 500):
        for x, mean in (
            (generator.random((400, n)) < 0.1, 0.1),
            (generator.beta(0.3, 3, (400, n)), 0.3 / 3.3),
        ):
            ends = np.array([interval(row.astype(float)) for row in x])
            inside = (ends[:, 0] <= mean) & (mean <= ends[:, 1])
            assert inside.mean() >= 0.95


def test_one_side_is_nearer():
    x = np.repeat([0.0, 1.0], 50)
    low, high = hoeffding_interval(x)
    one = math.sqrt(math.log(20) / 200)
    assert hoeffding_interval(x, side="upper") == pytest.approx((0, 0.5 + one))
    assert hoeffding_interval(x, side="lower") == pytest.approx((0.5 - one, 1))
    assert high - 0.5 == pytest.approx(math.sqrt(math.log(40) / 200)) == 0.5 - low


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.5, 0.99))
@settings(max_examples=100, deadline=None)
def test_they_hold_the_mean_and_mirror(values, confidence):
    x = np.array(values)
    for interval in MEANS:
        low, high = interval(x, confidence=confidence)
        assert 0 <= low <= x.mean() + 1e-12
        assert x.mean() - 1e-12 <= high <= 1
        assert interval(1 - x, confidence=confidence) == pytest.approx((1 - high, 1 - low))
        wider = interval(x, confidence=(1 + confidence) / 2)
        assert wider.lower <= low
        assert wider.upper >= high


@pytest.mark.parametrize("interval", MEANS)
def test_wrong_arguments_are_refused(interval):
    with pytest.raises(DataError, match="expected at least one value; got none"):
        interval(np.zeros(0))
    for wrong in (np.array([0.5, 1.5]), np.array([-0.1]), np.array([np.nan])):
        with pytest.raises(DataError, match=r"expected values in \[0, 1\]"):
            interval(wrong)
    for confidence in (0.0, 1.0, 95.0, math.nan):
        with pytest.raises(ArgumentError, match=r"Give 0\.95 for 95 %"):
            interval(np.zeros(3), confidence=confidence)
    assert interval(np.array([1 + 1e-12, -1e-12])).upper <= 1


def test_wrong_counts_are_refused():
    for k, n in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ArgumentError, match="Count again"):
            clopper_pearson_interval(k, n)
