"""Exact expectations, effective sizes and closed forms against loops and the reference's digits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.tables.exact_risk import (
    expected_missing_mass,
    hard_label_risk,
    naive_limit_risk,
    soft_label_risk,
)
from limbeck.limits.tables.instances import (
    classic_instance,
    dirichlet_law,
    sampled_probability_instance_risk,
    soft_label_instance,
    zipf_law,
)
from limbeck.limits.tables.sizes import (
    censored_gain,
    distance_from_dirac,
    effective_labels,
    hard_label_asymptote,
    hard_label_size,
    row_randomness,
)


RHO = [0.5, 0.3, 0.2]
TEACHER = [[0.4, 0.3, 0.2, 0.1], [0.6, 0.25, 0.1, 0.05], [0.7, 0.1, 0.1, 0.1]]


@pytest.mark.parametrize(
    ("inputs", "labels", "n", "value"),
    [
        (20, 20, 20, 0.591020912434),
        (20, 20, 90, 0.529477336745),
        (20, 20, 200, 0.436396946866),
        (20, 20, 400, 0.333580934255),
        (100, 25, 100, 0.596138887239),
        (100, 25, 250, 0.590372607699),
        (100, 25, 600, 0.515036332842),
    ],
)
def test_hard_labels_on_instance_0(inputs, labels, n, value):
    law = classic_instance(inputs, labels)
    assert hard_label_risk(law.input_law, law.rows, n) == pytest.approx(value, abs=6e-13)


def plain_hard_label_risk(rho, rows, n):
    """The formula of section 2.7 as loops, with the deviation as a sum over all outcomes."""
    total = 0.0
    for r, row in zip(rho, rows, strict=True):
        uniform = sum(abs(p - 1 / len(row)) for p in row) / 2
        total += r * (1 - r) ** n * uniform
        for k in range(1, n + 1):
            weight = math.comb(n, k) * r**k * (1 - r) ** (n - k)
            off = sum(
                math.comb(k, c) * p**c * (1 - p) ** (k - c) * abs(c - k * p)
                for p in row
                for c in range(k + 1)
            )
            total += r * weight * off / (2 * k)
    return total


@pytest.mark.parametrize("n", [0, 1, 7, 30])
def test_hard_labels_are_those_of_plain_loops(n):
    law = dirichlet_law(4, 3, np.random.default_rng(n), concentration=0.7)
    right = plain_hard_label_risk(law.input_law.tolist(), law.rows.tolist(), n)
    assert hard_label_risk(law.input_law, law.rows, n) == pytest.approx(right, rel=1e-12)


def test_hard_labels_are_stable_at_many_draws():
    law = classic_instance(100, 25)
    for n in (10**5, 10**7):
        exact = hard_label_risk(law.input_law, law.rows, n)
        sharp = hard_label_asymptote(law.input_law, law.rows, n)
        assert exact == pytest.approx(sharp, rel=100 / n**0.5 / 25)
    sure = hard_label_risk([1.0, 0.0], [[1.0, 0.0], [0.5, 0.5]], 10**5)
    assert sure == 0


def test_leaving_out_rare_counts_changes_nothing(monkeypatch):
    law = classic_instance(20, 20)
    before = hard_label_risk(law.input_law, law.rows, 5000)
    monkeypatch.setattr("limbeck.limits.tables.exact_risk.LEFT_OUT", 600.0)
    assert hard_label_risk(law.input_law, law.rows, 5000) == pytest.approx(before, rel=1e-13)


@given(seed=st.integers(0, 10**6), n=st.integers(0, 200))
@settings(max_examples=15, deadline=None)
def test_order_of_inputs_and_labels_does_not_matter(seed, n):
    random = np.random.default_rng(seed)
    law = dirichlet_law(5, 4, random)
    at, label = random.permutation(5), random.permutation(4)
    for of in (hard_label_risk, soft_label_risk):
        right = of(law.input_law, law.rows, n)
        assert of(law.input_law[at], law.rows[at][:, label], n) == pytest.approx(right, abs=1e-14)
    hard, soft = (of(law.input_law, law.rows, n) for of in (hard_label_risk, soft_label_risk))
    assert 0 <= soft <= hard + 1e-15
    assert hard <= 1


@pytest.mark.parametrize(
    ("size", "exponent", "values"),
    [
        (1000, 1, (0.50058989, 0.20906493, 0.017133802, 1.4837157e-8)),
        (1000, 1.5, (0.18094045, 0.070957612, 0.020360004, 0.0014112481)),
        (2_000_000, 1.2, (0.48280418, 0.31278633, 0.19665845, 0.11752441)),
        (2_000_000, 1.5, (0.20193519, 0.093627379, 0.043176485, 0.019750921)),
        (2_000_000, 2, (0.068840196, 0.021842478, 0.006909321, 0.002184785)),
    ],
)
def test_missing_mass_of_zipf_inputs(size, exponent, values):
    law = zipf_law(size, exponent)
    for n, value in zip((100, 1000, 10_000, 100_000), values, strict=True):
        assert expected_missing_mass(law, n) == pytest.approx(value, rel=5e-8)


def test_largest_missing_mass_of_one_symbol():
    for n, value in ((20, 0.0179471182), (100, 0.0036605071)):
        x = 1 / (n + 1)
        law = [x, 1 - x]
        other = (1 - x) * x**n
        assert expected_missing_mass(law, n) - other == pytest.approx(value, abs=6e-11)


@pytest.mark.parametrize(
    ("labels", "value"),
    [(2, 0.15), (5, 0.3), (20, 0.4336956522), (25, 0.4457142857), (100, 0.4853883495)],
)
def test_what_the_naive_learner_keeps_on_instance_0(labels, value):
    law = classic_instance(3, labels)
    found = naive_limit_risk(law.input_law, law.rows)
    assert found == pytest.approx(value, abs=6e-11)
    assert found == pytest.approx((labels**2 - 1) / (2 * labels * (labels + 3)), abs=1e-14)


def test_the_naive_learner_is_right_on_rows_uniform_on_a_part():
    assert naive_limit_risk([0.5, 0.5], [[0.5, 0, 0.5], [0, 1, 0]]) == 0
    assert naive_limit_risk([1.0], [[0.5, 0.3, 0.2]]) > 0


@pytest.mark.parametrize(
    ("inputs", "labels", "n", "value"),
    [(20, 21, 42_000, 0.0012367188), (100, 101, 1_010_000, 0.0013223650)],
)
def test_sampled_probabilities_on_instance_2(inputs, labels, n, value):
    found = sampled_probability_instance_risk(inputs, labels, n)
    assert found == pytest.approx(value, abs=6e-11)


@pytest.mark.parametrize(
    ("inputs", "labels", "n", "rows", "value"),
    [
        (20, 21, 42_000, "sampled_probabilities", 1.5770247e-4),
        (100, 101, 1_010_000, "sampled_probabilities", 3.5523916e-5),
        (20, 21, 42_000, "dirac", 1.5849492e-4),
        (100, 101, 1_010_000, "dirac", 3.5702428e-5),
    ],
)
def test_soft_labels_on_instance_3(inputs, labels, n, rows, value):
    law = soft_label_instance(inputs, labels, n, rows=rows)
    assert soft_label_risk(law.input_law, law.rows, n) == pytest.approx(value, rel=5e-8)


def test_sizes_of_one_law():
    assert distance_from_dirac(TEACHER) == pytest.approx(0.6, abs=1e-14)
    assert row_randomness(TEACHER) == pytest.approx(1.0, abs=1e-14)
    assert hard_label_size(RHO, TEACHER) == pytest.approx(6.564060785221, abs=6e-13)
    assert effective_labels(RHO, TEACHER) == pytest.approx(3.334741070160, abs=6e-13)
    assert naive_limit_risk(RHO, TEACHER) == pytest.approx(0.183404067197, abs=6e-13)


@given(seed=st.integers(0, 10**6), inputs=st.integers(1, 9), labels=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_sizes_stay_in_their_ranges(seed, inputs, labels):
    law = dirichlet_law(inputs, labels, np.random.default_rng(seed), concentration=0.5)
    assert 0 <= hard_label_size(law.input_law, law.rows) <= inputs * (labels - 1) + 1e-9
    assert 1 <= effective_labels(law.input_law, law.rows) <= labels + 1e-9
    assert 0 <= distance_from_dirac(law.rows) <= row_randomness(law.rows) <= 1 + 1e-12


def test_gain_of_a_censored_teacher():
    row = zipf_law(500, 1.6)
    assert row[:20].sum() == pytest.approx(0.8966479105, abs=6e-11)
    assert censored_gain(row, 20) == pytest.approx(1.5378753184, abs=6e-11)
    assert censored_gain(row[::-1], 20) == pytest.approx(1.5378753184, abs=6e-11)
    assert censored_gain(row, 0) == pytest.approx(1.0, abs=1e-12)
    assert censored_gain([0.5, 0.3, 0.2], 2) == math.inf
    assert censored_gain([0.5, 0.3, 0.2], 3) == math.inf
    for head in (-1, 4):
        with pytest.raises(ArgumentError, match=r"`head` in \[0, 3\]"):
            censored_gain([0.5, 0.3, 0.2], head)


@pytest.mark.parametrize("of", [hard_label_risk, soft_label_risk])
def test_what_exact_risks_refuse(without_shape_hook, of):
    for n in (-1, 1.5):
        with pytest.raises(ArgumentError, match=f"`n` as a whole number >= 0; got {n}"):
            of([1.0], [[0.5, 0.5]], n)
    with pytest.raises(ShapeError, match="one row an input"):
        of([0.5, 0.5], [[0.5, 0.5]], 1)
    with pytest.raises(DataError, match="sum to 1"):
        of([0.5, 0.6], [[0.5, 0.5]] * 2, 1)
    with pytest.raises(DataError, match=r"got -0\.5"):
        of([1.5, -0.5], [[0.5, 0.5]] * 2, 1)


def test_without_draws_everything_is_missing():
    assert expected_missing_mass([1.0, 0.0], 0) == 1
    assert expected_missing_mass([1.0, 0.0], 3) == 0
    assert soft_label_risk([1.0], [[1.0, 0.0]], 0) == 0.5
    with pytest.raises(ArgumentError, match=r"`n` as a whole number >= 1; got 0"):
        hard_label_asymptote([1.0], [[0.5, 0.5]], 0)
