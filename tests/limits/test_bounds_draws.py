"""Bounds with several draws an input and on known laws, against plain loops over counts."""

import math

import numpy as np
import pytest
from scipy import stats

from limbeck.checks import ArgumentError
from limbeck.limits.bounds.draws import (
    counted_draws_sharp,
    counted_draws_upper,
    probable_draws_sharp,
    probable_draws_upper,
)
from limbeck.limits.bounds.hard_labels import hard_labels_sharp, hard_labels_upper
from limbeck.limits.bounds.instance import (
    near_dirac_upper,
    probable_draws_instance,
    spread_upper,
)
from limbeck.limits.bounds.sampled_probabilities import sampled_probabilities_upper
from limbeck.limits.tables.sizes import hard_label_size, row_randomness


def laws(count, seed):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        inputs, labels = generator.integers(1, 7), generator.integers(2, 7)
        rho = generator.dirichlet(np.full(inputs, generator.choice([0.2, 1, 10])))
        rows = generator.dirichlet(np.full(labels, generator.choice([0.1, 1, 5])), inputs)
        yield rho / rho.sum(), rows / rows.sum(axis=1, keepdims=True)


def counted_risk(rho, rows, n, draws):
    """Exact mean risk of counting, by a loop over visits and over label counts."""
    total = 0.0
    for mass, row in zip(rho, rows, strict=True):
        total += mass * (1 - mass) ** n * np.abs(row - 1 / len(row)).sum() / 2
        for visits in range(1, n + 1):
            k = visits * draws
            away = 0.0
            for p in row:
                counts = np.arange(k + 1)
                away += (stats.binom.pmf(counts, k, p) * np.abs(counts / k - p)).sum()
            total += mass * stats.binom.pmf(visits, n, mass) * away / 2
    return total


def test_counting_several_draws_keeps_to_its_bound():
    for rho, rows in laws(12, 5):
        inputs, labels = rows.shape
        for n, draws in ((3, 1), (8, 3), (15, 4)):
            risk = counted_risk(rho, rows, n, draws)
            sizes = {"queries": n, "inputs": int(inputs), "labels": int(labels), "draws": draws}
            assert risk <= counted_draws_upper(**sizes)
            if draws == 1:
                size = hard_label_size(rho, rows)
                assert risk <= spread_upper(queries=n, spread=size, input_law=rho) + 1e-12
                impure = row_randomness(rows)
                del sizes["draws"]
                assert risk <= near_dirac_upper(**sizes, impurity=impure) + 1e-12


def test_draws_with_probabilities_keep_to_their_bounds():
    """The sum over pairs by simulation, and the two bounds over 300 laws."""
    for rho, rows in laws(300, 6):
        inputs, labels = rows.shape
        for n, draws in ((1, 1), (5, 3), (50, 10), (400, 4)):
            exact = sum(
                r * p * (1 - r * (1 - (1 - p) ** draws)) ** n
                for r, row in zip(rho, rows, strict=True)
                for p in row
            )
            found = probable_draws_instance(queries=n, draws=draws, input_law=rho, rows=rows)
            assert found == pytest.approx(exact, rel=1e-9, abs=1e-15)
            sizes = {"queries": n, "inputs": int(inputs), "labels": int(labels), "draws": draws}
            assert exact <= probable_draws_sharp(**sizes) <= probable_draws_upper(**sizes)


def test_the_unseen_pairs_of_drawn_inputs_are_those_of_the_formula():
    generator = np.random.default_rng(1)
    rho, rows, n, draws, runs = (
        np.array([0.6, 0.4]),
        np.array([[0.7, 0.3], [0.1, 0.9]]),
        2,
        2,
        40_000,
    )
    visits = generator.multinomial(n, rho, size=runs)
    first = generator.binomial(visits * draws, rows[:, 0])
    seen = np.stack([first > 0, first < visits * draws], axis=2)
    missing = (rho[:, None] * rows * ~seen).sum(axis=(1, 2))
    found = probable_draws_instance(queries=n, draws=draws, input_law=rho, rows=rows)
    assert abs(missing.mean() - found) <= 4 * missing.std() / math.sqrt(runs)


def test_one_draw_is_the_plain_query_and_many_draws_are_rows():
    sizes = {"queries": 200, "inputs": 10, "labels": 6}
    unseen = 10 / (200 * math.e)
    assert counted_draws_sharp(**sizes, draws=1) - unseen == pytest.approx(
        hard_labels_sharp(**sizes)
    )
    assert probable_draws_sharp(**sizes, draws=1) - unseen == pytest.approx(
        sampled_probabilities_upper(**sizes)
    )
    for bound in (counted_draws_sharp, counted_draws_upper, probable_draws_sharp):
        assert bound(**sizes, draws=10**12) == pytest.approx(unseen, rel=1e-4)
    # 2 S A / N leaves with four times the draws half of the noise
    noise = [counted_draws_upper(**sizes, draws=n) - unseen for n in (3, 12)]
    assert noise[0] == pytest.approx(2 * noise[1])


def test_the_bound_of_a_law_is_within_that_of_all_laws():
    for rho, rows in laws(50, 9):
        size = hard_label_size(rho, rows)
        inputs, labels = rows.shape
        everywhere = hard_labels_upper(queries=40, inputs=int(inputs), labels=int(labels))
        assert spread_upper(queries=40, spread=size, input_law=rho) <= everywhere + 1e-12
    even = np.full(8, 1 / 8)
    worst = hard_label_size(even, np.full((8, 5), 0.2))
    assert spread_upper(queries=40, spread=worst, input_law=even) == pytest.approx(
        hard_labels_upper(queries=40, inputs=8, labels=5)
    )


def test_near_dirac_rows_cost_what_is_left_beside_the_label():
    sizes = {"queries": 99, "inputs": 4, "labels": 9}
    least = near_dirac_upper(**sizes, impurity=0.0)
    assert least == pytest.approx(4 * 4 / (9 * 99))
    full, half = (near_dirac_upper(**sizes, impurity=x) - least for x in (1.0, 0.25))
    assert full == pytest.approx(2 * half)
    with pytest.raises(ArgumentError, match="`impurity` in"):
        near_dirac_upper(**sizes, impurity=2.0)
    with pytest.raises(ArgumentError, match="`draws` >= 1; got 0"):
        counted_draws_upper(**sizes, draws=0)
