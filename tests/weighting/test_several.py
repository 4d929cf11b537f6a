"""Weights of several teachers against fractions, optimality conditions and a grid."""

import itertools
import math
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.weighting.theory import several
from limbeck.weighting.theory.several import teacher_loss_weights, teacher_weights


QUICK = settings(max_examples=80, deadline=None, derandomize=True)


def four_points(*teachers):
    """Moments of squared error, a = (1, 1, 2, 2), b = (2, 0, 3, 1), optimum 1."""
    rows = [(1, 2), (1, 0), (2, 3), (2, 1)]
    g = [a * (a - b) for a, b in rows]
    h = [[a * (a * theta - b) for a, b in rows] for theta in teachers]
    hbar = [sum(row) / 4 for row in h]
    tr_gh = np.array([float(sum(map(lambda x, y: x * y, g, row)) / Q(4)) for row in h])
    tr_hh, products = (np.zeros((len(h), len(h))) for _ in range(2))
    for j, k in itertools.product(range(len(h)), repeat=2):
        mean = sum(x * y for x, y in zip(h[j], h[k], strict=True)) / Q(4)
        tr_hh[j, k], products[j, k] = float(mean - hbar[j] * hbar[k]), float(hbar[j] * hbar[k])
    return 2.5, tr_gh, tr_hh, products


def approx(values):
    return pytest.approx(np.array(values, dtype=float), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("batch", "kappa"), [(1, 0), (1, 8), (4, 8), (64, 1e4)])
@pytest.mark.parametrize(
    ("teachers", "weights"),
    [((Q(6, 5), Q(4, 5)), (Q(1, 2), Q(1, 2))), ((Q(6, 5), Q(9, 10)), (Q(1, 3), Q(2, 3)))],
)
def test_opposite_biases_cancel(teachers, weights, batch, kappa):
    found = teacher_weights(*four_points(*teachers), batch_size=batch, kappa=kappa)
    assert found.weights == approx(weights)
    assert found.noise_left == pytest.approx(0, abs=1e-9)


def test_the_stated_moments():
    _, tr_gh, tr_hh, products = four_points(Q(6, 5), Q(4, 5))
    assert tr_gh == approx([2.5, 2.5])
    assert tr_hh == approx([[2.59, 2.41], [2.41, 2.59]])
    assert products == approx([[0.25, -0.25], [-0.25, 0.25]])


@pytest.mark.parametrize(
    ("batch", "kappa", "weight"),
    [(1, 8, Q(125, 242)), (4, 8, Q(250, 1159)), (1, 0, Q(125, 142)), (1, 100, Q(125, 1392))],
)
def test_one_teacher(batch, kappa, weight):
    found = teacher_weights(*four_points(Q(6, 5)), batch_size=batch, kappa=kappa)
    assert found.weights == approx([weight])
    assert found.unconstrained == approx([weight])
    # 1 - 2 w + w^2 * 2.59 / 2.5
    assert found.noise_left == pytest.approx(float(1 - 2 * weight + weight**2 * Q(259, 250)))


@pytest.mark.parametrize(
    ("batch", "momentum", "weight"),
    [(1, 0.0, Q(250, 659)), (4, 0.0, Q(250, 1859)), (4, 0.9, Q(250, 419))],
)
def test_one_teacher_in_loss(batch, momentum, weight):
    tr_gg, tr_gh, tr_hh, products = four_points(Q(6, 5))
    step = {"learning_rate": 0.05, "batch_size": batch, "momentum": momentum}
    # Half the inverse of the curvature 5/2: 0.25 / 5 = 1/20
    found = teacher_loss_weights(tr_gg, tr_gh, tr_hh, products / 5, **step)
    assert found.weights == approx([weight])


def test_three_teachers_solve_the_system():
    tr_gh = np.array([1.0, 0.5, 0.25])
    tr_hh = np.diag([4.0, 2.0, 1.0])
    products = np.ones((3, 3))
    found = teacher_weights(5.0, tr_gh, tr_hh, products, batch_size=2, kappa=0.5)
    # (D + 3 u u') w = D u / 4 gives w = u / 4 * (1 - 3 / (1 + 3 * (1/4 + 1/2 + 1)) / D)
    wanted = np.linalg.inv(tr_hh + 3 * products) @ tr_gh
    assert found.unconstrained == pytest.approx(wanted, abs=1e-12)
    same = teacher_loss_weights(5.0, tr_gh, tr_hh, products, learning_rate=4.0, batch_size=3)
    assert same.unconstrained == pytest.approx(wanted, abs=1e-12)


def test_teachers_that_repeat_each_other_share():
    for copies in (2, 3, 14):
        arrays = np.full(copies, 2.5), np.full((copies, copies), 2.5), np.zeros((copies, copies))
        found = teacher_weights(2.5, *arrays, batch_size=1, kappa=8)
        assert found.weights == approx([1 / copies] * copies)
        assert found.noise_left == pytest.approx(0, abs=1e-9)
    # Also on the border: each alone would be wanted at 5 / 2.
    arrays = np.full(3, 5.0), np.full((3, 3), 2.0), np.zeros((3, 3))
    found = teacher_weights(12.5, *arrays, batch_size=1, kappa=0)
    assert found.unconstrained == approx([5 / 6] * 3)
    assert found.weights == approx([1 / 3] * 3)
    assert found.noise_left == pytest.approx(1 - 10 / 12.5 + 2 / 12.5)


def test_teachers_that_harm_get_nothing():
    # The first is anti-correlated, the third a copy of the labels.
    tr_gh = np.array([-1.0, 1.0, 0.0])
    found = teacher_weights(
        2.0, tr_gh, np.diag([1.0, 2.0, 0.0]), np.zeros((3, 3)), batch_size=1, kappa=0
    )
    assert found.weights == approx([0, 0.5, 0])
    assert found.unconstrained == approx([-1, 0.5, 0])
    assert found.noise_left == pytest.approx(1 - 2 * 0.5 / 2 + 0.25 * 2 / 2)
    alone = teacher_weights(2.0, tr_gh[:1], np.eye(1), np.zeros((1, 1)), batch_size=1, kappa=0)
    assert alone.weights == approx([0])
    assert alone.noise_left == 1


def test_a_teacher_of_weak_noise_is_clipped_to_one():
    one = np.array([1.5]), np.array([[0.5]]), np.zeros((1, 1))
    found = teacher_weights(9.0, *one, batch_size=1, kappa=0)
    assert found.unconstrained == approx([3])
    assert found.weights == approx([1])
    assert found.noise_left == pytest.approx(1 - 3 / 9 + 0.5 / 9)


def test_a_hopeless_teacher_does_not_hide_a_good_one():
    tr_gh, tr_hh = np.array([1.0, 1.0]), np.diag([1e9, 0.5])
    found = teacher_weights(4.0, tr_gh, tr_hh, np.zeros((2, 2)), batch_size=1, kappa=0)
    assert found.weights == pytest.approx(np.array([1e-9, 1.0]), abs=1e-8)


def test_rounding_does_not_leave_the_simplex():
    one = np.array([1 + 5e-10]), np.eye(1), np.zeros((1, 1))
    found = teacher_weights(4.0, *one, batch_size=1, kappa=0)
    assert found.unconstrained[0] > 1
    assert found.weights[0] == 1


def test_a_system_without_a_solution_still_has_best_weights():
    """Estimates may give covariance to a teacher without noise: w1^2 / 2 - w1 / 4 - w2 / 2."""
    found = teacher_weights(
        4.0, np.array([0.25, 0.5]), np.diag([1.0, 0.0]), np.zeros((2, 2)), batch_size=1, kappa=0
    )
    assert found.unconstrained == approx([0.25, 0])
    assert found.weights == approx([0, 1])
    assert found.noise_left == 0.75


def test_labels_repeated_leave_all_as_it_is():
    found = teacher_weights(
        1.0, np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)), batch_size=1, kappa=0
    )
    assert found.weights == approx([0, 0])
    assert found.noise_left == 1


def drawn(seed, teachers, rank):
    """Moments of random vectors: a singular system where the rank is below the teachers."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=rank)
    others = rng.normal(size=(teachers, rank)) * rng.uniform(0.2, 2, (teachers, 1)) + own
    return float(own @ own), others @ own, others @ others.T, np.zeros((teachers, teachers))


@QUICK
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 6))
def test_optimality_conditions(seed, teachers, rank):
    """w is optimal iff one price of the sum explains the slopes; the problem is convex."""
    tr_gg, tr_gh, tr_hh, products = drawn(seed, teachers, rank)
    found = teacher_weights(tr_gg, tr_gh, tr_hh, products, batch_size=1, kappa=0)
    weights, slack = found.weights, 1e-7 * max(np.abs(tr_gh).max(), np.abs(tr_hh).max())
    assert weights.min() >= 0
    assert weights.sum() <= 1 + 1e-12
    slopes = tr_hh @ weights - tr_gh
    price = max(-slopes.min(), 0.0)
    assert np.abs(weights * (slopes + price)).max() <= slack
    assert price * (1 - weights.sum()) <= slack
    left = 1 - 2 * weights @ tr_gh / tr_gg + weights @ tr_hh @ weights / tr_gg
    assert found.noise_left == pytest.approx(left, abs=1e-9)
    assert found.noise_left <= 1 + 1e-12


def test_no_point_of_a_grid_is_better():
    for seed in range(12):
        tr_gg, tr_gh, tr_hh, _ = drawn(seed, 3, 3)
        hbar = np.random.default_rng(seed).normal(size=(3, 2))
        products = hbar @ hbar.T
        found = teacher_weights(tr_gg, tr_gh, tr_hh, products, batch_size=2, kappa=0.25)
        whole = tr_hh + 2.5 * products
        axis = np.linspace(0, 1, 41)
        grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
        grid = grid[grid.sum(1) <= 1 + 1e-12]
        values = 0.5 * np.einsum("gi,ij,gj->g", grid, whole, grid) - grid @ tr_gh
        own = 0.5 * found.weights @ whole @ found.weights - found.weights @ tr_gh
        assert own <= values.min() + 1e-12


def test_teachers_in_another_order():
    tr_gg, tr_gh, tr_hh, products = drawn(7, 4, 5)
    order = [2, 0, 3, 1]
    found = teacher_weights(tr_gg, tr_gh, tr_hh, products, batch_size=1, kappa=0)
    mixed = teacher_weights(
        tr_gg, tr_gh[order], tr_hh[np.ix_(order, order)], products, batch_size=1, kappa=0
    )
    assert mixed.weights == pytest.approx(found.weights[order], abs=1e-12)


EYE, ONES = np.eye(2), np.ones(2)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((0.0, ONES, EYE, EYE), ArgumentError, "`tr_gg` > 0; got 0.0"),
        (
            (1.0, np.ones(0), np.ones((0, 0)), np.ones((0, 0))),
            ShapeError,
            "at least one; got shape",
        ),
        ((1.0, EYE, EYE, EYE), ShapeError, r"`tr_gh` with one number a teacher.*\(2, 2\)"),
        ((1.0, ONES, np.eye(3), EYE), ShapeError, r"tr_hh of shape \(2, 2\); got shape \(3, 3\)"),
        ((1.0, ONES, EYE, np.eye(3)), ShapeError, r"the biases of shape \(2, 2\); got shape"),
        ((1.0, np.array([1, np.nan]), EYE, EYE), DataError, "finite `tr_gh`; got .* Look"),
        ((1.0, ONES, np.full((2, 2), np.nan), EYE), DataError, "tr_hh to be finite; got 4 other"),
        ((1.0, ONES, EYE, np.full((2, 2), np.inf)), DataError, "the biases to be finite"),
        ((1.0, ONES, np.array([[1.0, 0.5], [0, 1]]), EYE), DataError, "symmetric .* Take all"),
        ((1.0, ONES, EYE, np.diag([1.0, -0.1])), DataError, "the biases to be a symmetric posi"),
    ],
)
def test_bad_arrays(arrays, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^teacher_weights: expected .*{message}"):
        teacher_weights(*arrays, batch_size=1, kappa=0)
    with pytest.raises(error, match=f"^teacher_loss_weights: expected .*{message}"):
        teacher_loss_weights(*arrays, learning_rate=0.1, batch_size=1)


def test_bad_numbers():
    arrays = (1.0, ONES, EYE, EYE)
    with pytest.raises(ArgumentError, match=r"^teacher_weights: expected `batch_size`"):
        teacher_weights(*arrays, batch_size=0, kappa=0)
    for kappa in (-1, math.inf, math.nan):
        with pytest.raises(ArgumentError, match=r"^teacher_weights: expected finite `kappa` >= 0"):
            teacher_weights(*arrays, batch_size=1, kappa=kappa)
    with pytest.raises(ArgumentError, match=r"^teacher_loss_weights: expected `batch_size`"):
        teacher_loss_weights(*arrays, learning_rate=0.1, batch_size=0)
    with pytest.raises(ArgumentError, match=r"`learning_rate` > 0; got 0.0"):
        teacher_loss_weights(*arrays, learning_rate=0.0, batch_size=1)
    with pytest.raises(ArgumentError, match=r"`momentum` in \[0, 1\); got 1.0"):
        teacher_loss_weights(*arrays, learning_rate=0.1, batch_size=1, momentum=1.0)


def test_too_many_teachers_are_refused_only_where_all_sets_would_be_tried(monkeypatch):
    monkeypatch.setattr(several, "MOST_TEACHERS", 2)
    none = np.zeros((3, 3))
    found = teacher_weights(9.0, np.full(3, 0.25), np.eye(3), none, batch_size=1, kappa=0)
    assert found.weights == approx([0.25] * 3)
    with pytest.raises(
        ArgumentError, match=r"^teacher_weights: .* at most 2 teachers .* got 3. Drop"
    ):
        teacher_weights(9.0, np.ones(3), np.eye(3), none, batch_size=1, kappa=0)
