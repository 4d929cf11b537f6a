"""The betting interval against its definition in plain loops, and against its promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.distance.betting import betting_ends, betting_interval, betting_ratio_interval
from limbeck.limits.distance.intervals import empirical_bernstein_interval, hoeffding_interval


CAP = 0.75
LAWS = {
    "a coin": (lambda g, size: (g.random(size) < 0.3).astype(float), 0.3),
    "a rare one": (lambda g, size: (g.random(size) < 0.02).astype(float), 0.02),
    "nearly always": (lambda g, size: (g.random(size) < 0.97).astype(float), 0.97),
    "even": (lambda g, size: g.random(size), 0.5),
    "skewed": (lambda g, size: g.beta(0.2, 4, size), 0.2 / 4.2),
    "narrow": (lambda g, size: 0.6 + 0.02 * g.random(size), 0.61),
    "zero or little": (lambda g, size: 0.1 * (g.random(size) < 0.2), 0.02),
}


def shuffled(values, seed=0):
    """Return values as the interval bets on them."""
    return values[np.random.default_rng(seed).permutation(len(values))]


def refutes(values, m, confidence, sign):
    """Say by plain loops whether the capital against a mean ends at 2/delta or above."""
    n, goal = len(values), 2 / (1 - confidence)
    capital, total, squares = 1.0, 0.0, 0.0
    for t, x in enumerate(values, 1):
        variance = (0.25 + squares) / t
        bet = math.sqrt(2 * math.log(goal) / (n * variance))
        bet = min(bet, CAP / m if sign > 0 else CAP / (1 - m))
        capital *= 1 + sign * bet * (x - m)
        total += x
        squares += (x - (0.5 + total) / (t + 1)) ** 2
    return capital >= goal


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [2, 9, 60])
def test_it_is_the_set_of_its_definition(law, n):
    x = LAWS[law][0](np.random.default_rng(n), n)
    low, high = betting_interval(x, confidence=0.8)
    order, step = shuffled(x), 1e-6
    for end, sign in ((low, 1), (high, -1)):
        outside, inside = end - sign * step, end + sign * step
        if 0 < outside < 1:
            assert refutes(order, outside, 0.8, sign)
        if 0 < inside < 1 and end != x.mean():
            assert not refutes(order, inside, 0.8, sign)


@pytest.mark.parametrize("n", [8, 40, 300, 2000])
@pytest.mark.parametrize("law", LAWS)
def test_it_covers(law, n):
    draw, mean = LAWS[law]
    runs = max(60, 24_000 // n)
    x = draw(np.random.default_rng(list(LAWS).index(law) + n), (runs, n))
    low, high = betting_ends(x, np.ones_like(x), 0.05, "two-sided", 0)  # 90 %
    missed = ((mean < low) | (mean > high)).mean()
    assert missed <= 0.1 + 3 * math.sqrt(0.09 / runs)


def test_its_promise_is_not_empty():
    """At the level of 50 % it must miss sometimes: the tests of coverage can fail."""
    x = (np.random.default_rng(1).random((2000, 200)) < 0.5).astype(float)
    low, high = betting_ends(x, np.ones_like(x), 0.25, "two-sided", 0)
    missed = ((low > 0.5) | (high < 0.5)).mean()
    assert 0.05 < missed < 0.5


def test_point_masses():
    assert betting_interval(np.zeros(400)).lower == 0
    assert betting_interval(np.ones(400)).upper == 1
    for n in (10, 1000):
        upper = betting_interval(np.zeros(n), side="upper").upper
        # No bet can beat 1 - delta^(1/n), the end of Clopper and Pearson.
        assert 1 - 0.05 ** (1 / n) <= upper <= 1
    assert upper < 1.5 * math.log(20) / 1000 / CAP
    low, high = betting_interval(np.full(2000, 0.5))
    assert low < 0.5 < high
    assert high - low < 0.02


def test_a_larger_sample_and_less_confidence_narrow_it():
    x = np.random.default_rng(0).beta(2, 5, 4000)
    widths = [np.diff(betting_interval(x[:n]))[0] for n in (40, 400, 4000)]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
    assert np.diff(betting_interval(x, confidence=0.5))[0] < widths[2]


def test_widths_at_small_variance():
    """Where values vary little, it is far narrower than what knows no variance or pays for it."""
    x = np.random.default_rng(5).beta(2, 18, 1000)
    width, bernstein, hoeffding = (
        np.diff(interval(x))[0]
        for interval in (betting_interval, empirical_bernstein_interval, hoeffding_interval)
    )
    assert bernstein > 2 * width
    assert hoeffding > 4 * width


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_invariants(values):
    x = np.array(values)
    low, high = betting_interval(x)
    assert 0 <= low <= x.mean() + 1e-12
    assert x.mean() - 1e-12 <= high <= 1
    # One bound is that side of the two-sided interval with twice the delta.
    assert betting_interval(x, confidence=0.975, side="lower").lower == pytest.approx(low)
    assert betting_interval(x, confidence=0.975, side="upper").upper == pytest.approx(high)
    assert betting_interval(x, side="lower").upper == 1
    assert betting_interval(x, side="upper").lower == 0


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("law", LAWS)
def test_it_covers_on_sorted_files(law, seed):
    """Outside of its promise, which is about independent draws in their order; files are sorted."""
    draw, mean = LAWS[law]
    x = np.sort(draw(np.random.default_rng(seed + 50), (60, 600)))
    low, high = betting_ends(x, np.ones_like(x), 0.05, "two-sided", seed)
    missed = ((mean < low) | (mean > high)).mean()
    assert missed <= 0.1 + 3 * math.sqrt(0.09 / 60)


def test_order_and_seed_hardly_matter():
    x = np.random.default_rng(2).beta(1, 4, 500)
    low, high = betting_interval(x)
    for other in (np.sort(x), np.sort(x)[::-1].copy()):
        assert betting_interval(other) == pytest.approx((low, high), abs=0.03 * (high - low))
    for seed in (1, 2, 3):
        assert betting_interval(x, seed=seed) == pytest.approx((low, high), abs=0.03 * (high - low))
    assert betting_interval(1 - x) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_a_mean_that_the_bets_refute_is_taken_in():
    """At little confidence early luck can refute the sample's own mean: an estimate needs it."""
    x = np.random.default_rng(8).beta(0.2, 4, (800, 100))
    low, high = betting_ends(x, np.ones_like(x), 0.9, "two-sided", 0)
    mean = x.mean(1)
    assert (low <= mean + 1e-12).all()
    assert (high >= mean - 1e-12).all()
    assert (np.abs(low - mean) < 1e-12).sum() > 1
    assert (np.abs(high - mean) < 1e-12).sum() > 1


def sequences(generator, runs, groups):
    """Tokens that share their sequence's probability, which goes with its length; truth 0.35."""
    # Long ones (8 tokens, 0.2) and short ones (2 tokens, 0.95), equally often: (1.6 + 1.9) / 10.
    long = generator.random((runs, groups)) < 0.5
    sizes = np.where(long, 8, 2)
    hard = generator.random((runs, groups)) < np.where(long, 0.2, 0.95)
    return np.where(hard, sizes, 0).astype(float), sizes.astype(float), 0.35


@pytest.mark.parametrize("groups", [10, 60, 400])
def test_the_ratio_covers_dependent_tokens_of_unequal_sequences(groups):
    runs = max(60, 12_000 // groups)
    sums, sizes, mean = sequences(np.random.default_rng(groups), runs, groups)
    low, high = betting_ends(sums / 10, sizes / 10, 0.05, "two-sided", 0)
    missed = ((mean < low) | (mean > high)).mean()
    assert missed <= 0.1 + 3 * math.sqrt(0.09 / runs)


def test_tokens_taken_for_independent_do_not_cover():
    """What the ratio is for: all tokens of a sequence agree here, so tokens say the same again."""
    sums, sizes, mean = sequences(np.random.default_rng(9), 200, 60)
    missed = 0
    for s, n in zip(sums, sizes, strict=True):
        tokens = np.repeat(s / n, n.astype(int))
        low, high = betting_interval(tokens, confidence=0.9)
        missed += not low <= mean <= high
    assert missed > 40


def test_the_ratio_is_the_set_of_its_definition():
    generator = np.random.default_rng(4)
    sizes = generator.integers(1, 7, 80).astype(float)
    sums = sizes * generator.random(80) * 0.4
    low, high = betting_ratio_interval(sums, sizes, 8, confidence=0.9)
    order = np.random.default_rng(0).permutation(80)

    def wealth(m, sign):
        capital, total, weight, squares, goal = 1.0, 0.0, 0.0, 0.0, 20.0
        for t, place in enumerate(order, 1):
            s, w = sums[place] / 8, sizes[place] / 8
            if sign < 0:
                s = w - s
            bet = math.sqrt(2 * math.log(goal) / (80 * (0.25 + squares) / t))
            capital *= 1 + min(bet, CAP / m) * (s - m * w)
            total, weight = total + s, weight + w
            squares += (s - (0.5 + total) / (1 + weight) * w) ** 2
        return capital

    assert wealth(low - 1e-6, 1) >= 20 > wealth(low + 1e-6, 1)
    assert wealth(1 - high - 1e-6, -1) >= 20 > wealth(1 - high + 1e-6, -1)
    assert low < sums.sum() / sizes.sum() < high


def test_a_larger_limit_costs_width():
    generator = np.random.default_rng(4)
    sizes = generator.integers(1, 7, 200).astype(float)
    sums = sizes * generator.random(200)
    widths = [np.diff(betting_ratio_interval(sums, sizes, most))[0] for most in (6, 12, 60)]
    assert widths == sorted(widths)


def test_wrong_groups_are_refused():
    one = np.ones(2)
    with pytest.raises(DataError, match="one size above 0"):
        betting_ratio_interval(np.zeros(0), np.zeros(0), 3)
    with pytest.raises(DataError, match="one size above 0"):
        betting_ratio_interval(one, np.array([1.0, 0.0]), 3)
    with pytest.raises(ArgumentError, match="no group above `largest` = 3; got one of 4"):
        betting_ratio_interval(one, np.array([1.0, 4.0]), 3)
    with pytest.raises(DataError, match="between 0 and its group's size"):
        betting_ratio_interval(np.array([1.0, 2.5]), np.array([1.0, 2.0]), 3)
