"""Weights that follow the step or the learning rate."""

import math

import pytest

from limbeck.checks import ArgumentError
from limbeck.weighting.controlling.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    WithLearningRate,
)


def test_linear_and_cosine_hit_their_ends_and_their_middle():
    for kind in (Linear, Cosine):
        for start, end in ((0.9, 0.1), (0.0, 1.0), (0.75, 0.0)):
            weight = kind(start, end, steps=200)
            assert weight(0, 0.1) == start
            assert weight(100, 0.1) == pytest.approx((start + end) / 2, rel=1e-14)
            assert weight(200, 0.1) == end
            assert weight(10**9, 0.1) == end
            values = [weight(step, 0.1) for step in range(250)]
            assert values == sorted(values, reverse=start > end)
            assert all(0.0 <= value <= 1.0 for value in values)


def test_cosine_and_linear_between():
    assert Linear(0.8, 0.4, steps=10)(3, 0.1) == pytest.approx(0.8 - 0.3 * 0.4)
    expected = 0.4 + 0.5 * 0.4 * (1 + math.cos(0.3 * math.pi))
    assert Cosine(0.8, 0.4, steps=10)(3, 0.1) == pytest.approx(expected, rel=1e-14)


def test_the_falling_rule_of_the_authors():
    weight, value = Exponential(0.7, factor=0.9, steps_per_epoch=7), 0.7
    for epoch in range(20):
        for step in (7 * epoch, 7 * epoch + 6):
            assert weight(step, 0.1) == pytest.approx(value, rel=1e-13)
        value *= 0.9


@pytest.mark.parametrize("maximum", [0.9, 1.0])
def test_the_rising_rule_of_the_authors_never_overshoots(maximum):
    weight, value, theirs = Exponential(0.3, 1.047, 5, maximum), 0.3, []
    for epoch in range(60):
        theirs.append(value)
        assert weight(5 * epoch, 0.1) == pytest.approx(min(value, maximum), rel=1e-13)
        assert weight(5 * epoch, 0.1) <= maximum
        value = value * 1.047 if value <= maximum else value
    assert max(theirs) > maximum
    assert weight(5 * 60, 0.1) == maximum
    assert weight(10**9, 0.1) == maximum


def test_exponential_edges():
    assert Exponential(0.0, factor=1.5, steps_per_epoch=1)(10, 0.1) == 0.0
    assert Exponential(0.5, factor=1.0, steps_per_epoch=1)(10**6, 0.1) == 0.5
    assert Exponential(0.5, factor=0.5, steps_per_epoch=1)(10**6, 0.1) == 0.0
    assert Exponential(0.9, factor=2.0, steps_per_epoch=3, maximum=0.9)(0, 0.1) == 0.9


def test_the_weight_of_the_shrinkage_law_falls_with_the_learning_rate():
    weight = WithLearningRate(noise_floor=9 / 320, teacher_excess=0.022708333333, reference=0.05)
    assert weight(0, 0.05) == pytest.approx(0.553278688525, abs=1e-11)
    noise = 9 / 320 / 16
    assert weight(5, 0.05 / 16) == pytest.approx(noise / (noise + 0.022708333333), rel=1e-13)
    rates = [0.4, 0.1, 0.025, 1e-6, 0.0]
    values = [weight(0, rate) for rate in rates]
    assert values == sorted(values, reverse=True)
    assert values[-1] == 0.0


def test_no_noise_and_a_perfect_teacher():
    assert WithLearningRate(0.0, 0.0, reference=0.1)(0, 0.1) == 0.0
    assert WithLearningRate(0.1, 0.0, reference=0.1)(0, 0.1) == 1.0
    assert WithLearningRate(0.0, 0.1, reference=0.1)(0, 0.1) == 0.0


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Constant(1.1), "weight"),
        (lambda: Constant(math.nan), "weight"),
        (lambda: Linear(-0.1, 0.5, 10), "start"),
        (lambda: Linear(0.1, 1.5, 10), "end"),
        (lambda: Linear(0.1, 0.5, 0), "steps"),
        (lambda: Cosine(1.1, 0.5, 10), "start"),
        (lambda: Cosine(0.1, -0.5, 10), "end"),
        (lambda: Cosine(0.1, 0.5, 0), "steps"),
        (lambda: Exponential(1.2, 0.9, 10), "start"),
        (lambda: Exponential(0.5, 0.0, 10), "factor"),
        (lambda: Exponential(0.5, 0.9, 0), "steps_per_epoch"),
        (lambda: Exponential(0.5, 1.1, 10, 0.4), "maximum"),
        (lambda: Exponential(0.5, 1.1, 10, 1.4), "maximum"),
        (lambda: WithLearningRate(-0.1, 0.1, 0.1), "noise_floor"),
        (lambda: WithLearningRate(0.1, -0.1, 0.1), "teacher_excess"),
        (lambda: WithLearningRate(math.inf, 0.1, 0.1), "noise_floor"),
        (lambda: WithLearningRate(0.1, 0.1, 0.0), "reference"),
    ],
)
def test_arguments_outside_of_their_range(make, name):
    with pytest.raises(ArgumentError, match=f"expected `{name}`"):
        make()
