"""Laws to draw from: their entries, and that what is drawn has their probabilities."""

import numpy as np
import pytest
from scipy import stats

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.tables.dense import sampled_rows, total_variation
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import (
    classic_instance,
    dirichlet_law,
    hard_label_instance,
    sampled_probability_instance,
    sampled_probability_instance_risk,
    soft_label_instance,
    zipf_law,
)


def test_instance_0_prefers_label_s_mod_a_plus_1():
    law = classic_instance(5, 3)
    for s in range(1, 6):
        for a in range(1, 4):
            right = 0.5 / 3 + 0.5 * (a == s % 3 + 1)
            assert law.rows[s - 1, a - 1] == pytest.approx(right, abs=1e-15)
    assert law.input_law.tolist() == [0.2] * 5
    assert (law.rows**2).sum(1) == pytest.approx((3 + 3) / 12)  # (A + 3) / (4 A)


@pytest.mark.parametrize(("labels", "even"), [(4, 4), (5, 4)])
def test_instance_1(labels, even):
    law, tilt = hard_label_instance(3, labels, 75), 0.25 * (3 * even / 75) ** 0.5
    for j in range(even):
        sign = 1 if j % 2 == 0 else -1
        assert law.rows[:, j] == pytest.approx((1 + sign * tilt) / even, abs=1e-15)
    assert (law.rows[:, even:] == 0).all()


@pytest.mark.parametrize(("labels", "odd"), [(5, 5), (6, 5)])
def test_instance_2(labels, odd):
    law = sampled_probability_instance(4, labels, 39)
    rare = 4 / 40
    assert law.rows[0].tolist() == pytest.approx(
        [rare, 0, rare, 0, 1 - 2 * rare] + [0] * (labels - odd), abs=1e-15
    )


def test_instance_3():
    law = soft_label_instance(4, 5, 39)
    assert law.input_law.tolist() == pytest.approx([1 / 40] * 3 + [37 / 40])
    np.testing.assert_array_equal(law.rows, sampled_probability_instance(4, 5, 39).rows)
    assert soft_label_instance(4, 5, 3, rows="dirac").rows[:, -1].tolist() == [1] * 4


@pytest.mark.parametrize(("inputs", "labels"), [(3, 5), (3, 6), (2, 3)])
def test_the_risk_on_instance_2_is_that_of_all_sets_of_missed_labels(inputs, labels):
    n = 60
    law = sampled_probability_instance(inputs, labels, n)
    rare = np.flatnonzero((law.rows[0] > 0) & (law.rows[0] < 0.5))
    common, missed = int(law.rows[0].argmax()), (1 - 1 / (n + 1)) ** n
    total = 0.0
    for code in range(2 ** len(rare)):
        seen = np.zeros(labels, bool)
        seen[common] = True
        seen[[a for i, a in enumerate(rare) if code >> i & 1]] = True
        weight = np.prod([1 - missed if seen[a] else missed for a in rare])
        off = total_variation(sampled_rows(seen[None], law.rows[:1]), law.rows[:1])[0]
        total += weight * off
    found = sampled_probability_instance_risk(inputs, labels, n)
    assert found == pytest.approx(total, rel=1e-12)


def test_zipf():
    law = zipf_law(4, 2.0)
    assert law.tolist() == pytest.approx(np.array([144, 36, 16, 9]) / 205)
    assert zipf_law(3, 0).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("concentration", [0.001, 0.5, 20.0])
def test_dirichlet_rows_have_the_variance_of_their_law(concentration):
    law = dirichlet_law(40_000, 3, np.random.default_rng(1), concentration=concentration)
    assert np.isfinite(law.rows).all()
    mean, variance = 1 / 3, (1 / 3) * (2 / 3) / (3 * concentration + 1)
    error = 4 * (variance / 40_000) ** 0.5
    np.testing.assert_allclose(law.rows.mean(0), mean, atol=error)
    # The kurtosis of a bounded variable bounds the error of its variance.
    np.testing.assert_allclose(law.rows.var(0), variance, atol=4 * (variance / 40_000) ** 0.5)


def test_counts_sum_to_n_and_follow_the_law():
    law = dirichlet_law(3, 4, np.random.default_rng(2))
    counts = law.pair_counts(1000, np.random.default_rng(3), runs=400)
    assert counts.shape == (400, 3, 4)
    assert (counts.sum((1, 2)) == 1000).all()
    total = counts.sum(0)
    assert stats.chisquare(total.ravel(), law.pairs.ravel() * 400_000).pvalue > 1e-4
    # Multinomial, not just the right mean: variances of single cells.
    spread = counts.reshape(400, -1).var(0) / (1000 * law.pairs * (1 - law.pairs)).ravel()
    np.testing.assert_allclose(spread, 1, atol=5 * (2 / 400) ** 0.5)


def test_impossible_labels_and_inputs_are_never_drawn():
    rows = np.array([[1 / 3, 1 / 3, 1 / 3, 0], [0.1, 0.9, 0, 0], [0, 0, 1, 0]])
    law = FiniteLaw("edges", np.array([0.7, 0.3, 0.0]), rows)
    counts = law.pair_counts(10**9, np.random.default_rng(0), runs=200)
    assert not counts[:, law.pairs == 0].any()
    assert counts[:, law.pairs > 0].all()


def test_drawn_pairs_come_with_their_probabilities():
    law = classic_instance(4, 3)
    counts = law.draw(50, np.random.default_rng(0))
    pairs = counts.pairs
    assert counts.n == 50
    np.testing.assert_allclose(pairs.probabilities, law.rows[pairs.inputs, pairs.labels])
    again = law.draw(50, np.random.default_rng(0)).pairs
    np.testing.assert_array_equal(pairs.counts, again.counts)
    assert law.draw(0, np.random.default_rng(0)).n == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: classic_instance(0, 3), ArgumentError, "`inputs` >= 1"),
        (lambda: hard_label_instance(20, 20, 24), ArgumentError, r"S A / 16 = 25; got 24"),
        (lambda: hard_label_instance(2, 2, 0), ArgumentError, "got 0"),
        (lambda: hard_label_instance(2, 1, 9), ArgumentError, "`labels` >= 2"),
        (lambda: sampled_probability_instance(20, 21, 198), ArgumentError, "`n` >= 199; got 198"),
        (lambda: soft_label_instance(1, 3, 9), ArgumentError, "`inputs` >= 2"),
        (lambda: soft_label_instance(9, 3, 7), ArgumentError, "got 9 and 7"),
        (lambda: soft_label_instance(2, 3, 9, rows="diracs"), ArgumentError, "Did you mean dirac"),
        (lambda: zipf_law(0, 1.0), ArgumentError, "`size` >= 1"),
        (lambda: zipf_law(3, -1.0), ArgumentError, "`exponent` >= 0"),
        (lambda: FiniteLaw("x", np.ones(1), np.ones((1, 2))), DataError, "sum to 1; got 2"),
        (lambda: FiniteLaw("x", np.ones(1), np.ones((2, 1))), ShapeError, "one row an input"),
        (
            lambda: classic_instance(2, 2).pair_counts(-1, np.random.default_rng(0)),
            ArgumentError,
            "`n` as a whole number >= 0; got -1",
        ),
    ],
)
def test_what_is_refused(without_shape_hook, call, error, message):
    with pytest.raises(error, match=message):
        call()
