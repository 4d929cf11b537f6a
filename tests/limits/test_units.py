"""Means over dependent records: what is estimated, and whether the guarantee holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.distance.betting import betting_interval, betting_ratio_interval
from limbeck.limits.distance.units import Units, group_mean, record_mean, unbounded_mean, units_of


def drawn(generator, groups):
    """Long sequences with small values and short ones with large: means of 0.35 and 0.575."""
    long = generator.random(groups) < 0.5
    sizes = np.where(long, 8, 2).astype(float)
    hits = generator.binomial(1, np.where(long, 0.2, 0.95)) * sizes
    return Units(hits, sizes)


def test_sums_and_sizes():
    values, counts = np.array([0.2, 0.4, 1.0, 0.0]), np.array([1, 2, 1, 3])
    plain = units_of(values, counts)
    assert plain.sums.tolist() == [0.2, 0.4, 0.4, 1, 0, 0, 0]
    assert plain.equal
    grouped = units_of(values, counts, np.array([1, 0, 1, 0]))
    assert grouped.sums == pytest.approx([0.8, 1.2])
    assert grouped.sizes.tolist() == [5, 2]
    assert not grouped.equal
    assert grouped.mean == pytest.approx(plain.mean) == pytest.approx(2 / 7)


@pytest.mark.parametrize("groups", [None, np.array([0, 1])])
def test_counts_beyond_memory_are_refused(groups):
    with pytest.raises(DataError, match="at most 10,000,000 draws"):
        units_of(np.zeros(2), np.array([2**62, 2**62]), groups)


def test_which_interval_it_is():
    equal = Units(np.array([1.0, 3.0, 0.0] * 20), np.full(60, 4.0))
    bounds, what = record_mean(equal, equal, confidence=0.9)
    assert (bounds, what) == (betting_interval(equal.sums / 4, confidence=0.9), "betting")
    found = drawn(np.random.default_rng(0), 200)
    bounds, what = record_mean(found, found, confidence=0.9, longest=20)
    assert bounds == betting_ratio_interval(found.sums, found.sizes, 20, confidence=0.9)
    assert what == "betting, for groups of at most 20 records"
    bounds, what = record_mean(found, found, confidence=0.9)
    radius = math.sqrt(math.log(20) / 2 * (found.sizes**2).sum()) / found.sizes.sum()
    assert bounds == pytest.approx((found.mean - radius, found.mean + radius))
    assert what == "Hoeffding, for groups of these sizes"


def test_hoeffding_for_these_lengths_covers_their_mean():
    """Given the lengths, the truth is the mean of what tokens of such sequences have."""
    generator, missed = np.random.default_rng(1), 0
    for _ in range(400):
        found = drawn(generator, 40)
        mean = float(
            (np.where(found.sizes == 8, 0.2, 0.95) * found.sizes).sum() / found.sizes.sum()
        )
        low, high = record_mean(found, found, confidence=0.8)[0]
        missed += not low <= mean <= high
    assert missed / 400 <= 0.2 + 3 * math.sqrt(0.16 / 400)


@pytest.mark.parametrize("interval", ["betting", "empirical_bernstein", "hoeffding"])
def test_the_mean_over_groups_is_another_number(interval):
    generator, missed = np.random.default_rng(2), 0
    for _ in range(100):
        found = drawn(generator, 60)
        low, high = group_mean(found, found, confidence=0.9, interval=interval)[0]
        missed += not low <= 0.575 <= high
    assert missed <= 10 + 3 * 3
    many = drawn(generator, 4000)
    low, high = group_mean(many, many, confidence=0.9, interval=interval)[0]
    assert low > 0.35  # the mean over tokens lies outside
    assert record_mean(many, many, confidence=0.9, longest=8)[0].upper < 0.575


def test_censored_records_widen_only_their_side():
    values = np.random.default_rng(3).random(300)
    low, high = units_of(values * 0.8, np.ones(300, int)), units_of(values, np.ones(300, int))
    bounds, _ = record_mean(low, high, confidence=0.95)
    assert bounds.lower == betting_interval(values * 0.8).lower
    assert bounds.upper == betting_interval(values).upper


def test_unbounded_means_by_hand_and_by_the_normal_law():
    generator, missed = np.random.default_rng(4), 0
    for _ in range(400):
        sizes = generator.integers(1, 6, 30).astype(float)
        shared = generator.normal(1.0, 1.0, 30)  # the tokens of a group move together
        found = unbounded_mean(Units(shared * sizes, sizes), confidence=0.9, unit="nats")
        missed += not found.lower <= 1 <= found.upper
    # The ratio's error is a linearisation: a little below its level at 30 groups.
    assert missed / 400 <= 0.12 + 3 * math.sqrt(0.09 / 400)
    one = unbounded_mean(Units(np.array([2.0, 0.0]), np.ones(2)), confidence=0.95, unit="nats")
    assert one.settings["standard_error"] == pytest.approx(1)
    assert one.upper == pytest.approx(1 + 12.7062047)  # Student's t of 1 degree
    assert one.settings["kind"] == "approximate"


def test_unbounded_means_that_are_not_resolved():
    single = unbounded_mean(
        Units(np.array([2.0]), np.ones(1)), confidence=0.9, unit="nats", least=0.0
    )
    assert (single.status, single.lower, single.upper) == ("unresolved", 0, math.inf)
    endless = unbounded_mean(Units(np.full(3, np.inf), np.ones(3)), confidence=0.9, unit="nats")
    assert (endless.status, endless.value, endless.upper) == ("unresolved", math.inf, math.inf)
    cut = unbounded_mean(
        Units(np.array([-1.0, -3.0]), np.ones(2)), confidence=0.9, unit="nats", least=0.0
    )
    assert (cut.value, cut.lower, cut.raw) == (0, 0, -2)
    heavy = unbounded_mean(
        Units(np.r_[np.zeros(99), 50.0], np.ones(100)), confidence=0.9, unit="nats"
    )
    assert heavy.settings["heaviest"] > 0.9


def test_wrong_arguments_are_refused():
    found = Units(np.ones(2), np.ones(2))
    for function in (record_mean, group_mean):
        with pytest.raises(ArgumentError, match="expected `interval` to be one of betting"):
            function(found, found, confidence=0.9, interval="normal")
        with pytest.raises(ArgumentError, match="`confidence` between 0 and 1"):
            function(found, found, confidence=90.0)
    unequal = Units(np.ones(2), np.array([1.0, 4.0]))
    with pytest.raises(ArgumentError, match="no group above `largest` = 3"):
        record_mean(unequal, unequal, confidence=0.9, longest=3)
