"""Matrix-based Renyi quantities against closed forms, eigenvalue loops and their limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information.renyi import gram_matrix, renyi_entropy, renyi_mutual_information


QUICK = settings(max_examples=25, deadline=None, derandomize=True)
ORDERS = (0.3, 0.5, 1.0, 1.01, 2.0, 3.0, 7.5, 200.0)
KERNELS = ("gaussian", "cosine", "linear")


def features(seed=0, n=12, width=4):
    return np.random.default_rng(seed).normal(size=(n, width))


def looped(matrix, alpha):
    """The entropy from one eigenvalue after the other."""
    total = 0.0
    for value in np.linalg.eigvalsh(matrix / np.trace(matrix)):
        if value > 1e-14:
            total += -value * math.log2(value) if alpha == 1 else value**alpha
    return total if alpha == 1 else math.log2(total) / (1 - alpha)


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 16, 100])
def test_samples_unlike_each_other_and_all_alike(n, alpha):
    assert renyi_entropy(np.eye(n), alpha=alpha) == pytest.approx(math.log2(n), abs=1e-12)
    assert renyi_entropy(np.ones((n, n)), alpha=alpha) == pytest.approx(0, abs=1e-12)
    same = np.full((n, 3), 2.5)
    for kernel in KERNELS:
        alike = gram_matrix(same, kernel=kernel)
        assert renyi_entropy(alike, alpha=alpha) == pytest.approx(0, abs=1e-12)
        other = gram_matrix(features(n=n), kernel="cosine")
        assert renyi_mutual_information(alike, other, alpha=alpha) == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_a_loop_over_eigenvalues(kernel, alpha):
    one, other = (gram_matrix(features(seed), kernel=kernel) for seed in (0, 1))
    assert renyi_entropy(one, alpha=alpha) == pytest.approx(looped(one, alpha), abs=1e-10)
    wanted = looped(one, alpha) + looped(other, alpha) - looped(one * other, alpha)
    assert renyi_mutual_information(one, other, alpha=alpha) == pytest.approx(wanted, abs=1e-10)


@QUICK
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), kernel=st.sampled_from(KERNELS))
def test_invariants(seed, n, kernel):
    one, other = (gram_matrix(features(seed + i, n), kernel=kernel) for i in (0, 1))
    order = np.random.default_rng(seed).permutation(n)
    values = [renyi_entropy(one, alpha=alpha) for alpha in ORDERS]
    assert (np.diff(values) <= 1e-9).all()  # falls with the order
    assert 0 <= values[-1] <= values[0] <= math.log2(n) + 1e-9
    assert renyi_entropy(7.0 * one) == pytest.approx(values[4], abs=1e-12)
    assert renyi_entropy(one[np.ix_(order, order)]) == pytest.approx(values[4], abs=1e-12)
    found = renyi_mutual_information(one, other)
    assert renyi_mutual_information(other, one) == pytest.approx(found, abs=1e-12)
    if kernel != "linear":
        assert -1e-9 <= found <= min(renyi_entropy(one), renyi_entropy(other)) + 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
def test_tends_to_von_neumann_entropy(kernel):
    gram = gram_matrix(features(n=40), kernel=kernel)
    limit = renyi_entropy(gram, alpha=1.0)
    assert limit == pytest.approx(looped(gram, 1), abs=1e-10)
    for step in (1e-4, 1e-8, 1e-12):
        for alpha in (1 - step, 1 + step):
            assert renyi_entropy(gram, alpha=alpha) == pytest.approx(limit, abs=10 * step + 1e-11)


def test_order_two_needs_no_eigenvalues(monkeypatch):
    gram = gram_matrix(features(n=50))
    by_eigenvalues = renyi_entropy(gram, alpha=2 + 1e-13)
    monkeypatch.setattr(np.linalg, "eigvalsh", None)
    assert renyi_entropy(gram) == pytest.approx(by_eigenvalues, abs=1e-11)
    assert renyi_mutual_information(gram, gram) > 0


def test_small_orders_do_not_count_rounding():
    low_rank = gram_matrix(features(n=200, width=3), kernel="linear")
    assert renyi_entropy(low_rank, alpha=0.01) <= math.log2(3) + 1e-6


def test_kernels_equal_another_library():
    rows = features(n=15) * 3 + 10
    apart = np.linalg.norm(rows[:, None] - rows, axis=2)
    median = np.median(apart[np.triu_indices(15, 1)])
    for bandwidth in (median, 0.7):
        wanted = rbf_kernel(rows, gamma=0.5 / bandwidth**2) / 15
        given = None if bandwidth == median else bandwidth
        np.testing.assert_allclose(gram_matrix(rows, bandwidth=given), wanted, atol=1e-12)
    cosine = gram_matrix(rows, kernel="cosine")
    np.testing.assert_allclose(cosine, cosine_similarity(rows) / 15, atol=1e-14)
    linear = gram_matrix(rows, kernel="linear")
    np.testing.assert_allclose(linear, rows @ rows.T / (rows**2).sum(), atol=1e-14)


def test_median_leaves_equal_samples_out():
    rows = np.array([[0.0]] * 8 + [[2.0]])
    gram = gram_matrix(rows)
    assert 9 * gram[0, 8] == pytest.approx(math.exp(-0.5))
    assert gram[0, 1] == 1 / 9


def test_equal_samples_are_equal_whatever_rounding_says():
    rows = np.repeat(1e3 * features(n=2, width=7), 6, axis=0)
    wanted = np.kron([[1, math.exp(-0.5)], [math.exp(-0.5), 1]], np.ones((6, 6))) / 12
    np.testing.assert_allclose(gram_matrix(rows), wanted, rtol=1e-12)


def test_median_does_not_depend_on_scale_and_offset():
    rows = features()
    for moved in (1e-6 * rows, 1e6 * rows, rows + 1e6):
        np.testing.assert_allclose(gram_matrix(moved), gram_matrix(rows), atol=1e-8)


def test_rows_of_zeros_are_one_direction():
    rows = np.array([[0.0, 0], [3, 4], [0, 0], [1e-300, 0], [1e300, 0]])
    wanted = np.array([
        [1, 0, 1, 0, 0],
        [0, 1, 0, 0.6, 0.6],
        [1, 0, 1, 0, 0],
        [0, 0.6, 0, 1, 1],
        [0, 0.6, 0, 1, 1],
    ])  # fmt: skip
    np.testing.assert_allclose(gram_matrix(rows, kernel="cosine"), wanted / 5, atol=1e-15)


def test_groups_share_what_they_have_in_common():
    """Two labellings of 12 samples: in 2 and in 6 groups, the second finer; and independent."""
    halves, sixths = np.repeat(np.eye(2), 6, axis=0), np.repeat(np.eye(6), 2, axis=0)
    crossed = np.tile(np.eye(2), (6, 1))
    grams = [gram_matrix(rows, kernel="cosine") for rows in (halves, sixths, crossed)]
    for alpha in (0.5, 1.0, 2.0, 3.0):
        found = renyi_mutual_information(grams[0], grams[1], alpha=alpha)
        assert found == pytest.approx(1.0, abs=1e-12)
        found = renyi_mutual_information(grams[0], grams[2], alpha=alpha)
        assert found == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_tensors(kind):
    rows = torch.arange(20).reshape(5, 4).to(kind)
    if rows.is_floating_point():
        rows.requires_grad_()
    wanted = gram_matrix(np.arange(20.0).reshape(5, 4))
    gram = gram_matrix(rows)
    np.testing.assert_array_equal(gram, wanted)
    tensor = torch.from_numpy(gram).requires_grad_()
    assert renyi_entropy(tensor) == renyi_entropy(wanted)
    assert renyi_mutual_information(tensor, wanted) == renyi_mutual_information(wanted, wanted)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gram_matrix(np.ones(3)), ShapeError, r"features \[n, width\]; got shape \(3,\)"),
        (lambda: gram_matrix(np.ones((0, 3))), DataError, "at least one sample; got 0 samples"),
        (lambda: gram_matrix(np.array([[1.0, np.nan]])), DataError, "1 values not finite"),
        (lambda: gram_matrix(np.ones((2, 1)), kernel="rbf"), ArgumentError, "`kernel` to be one"),
        (
            lambda: gram_matrix(np.ones((2, 1)), kernel="cosine", bandwidth=1.0),
            ArgumentError,
            "gaussian alone; got cosine",
        ),
        (lambda: gram_matrix(np.ones((2, 1)), bandwidth=0.0), ArgumentError, "`bandwidth` > 0"),
        (
            lambda: gram_matrix(np.zeros((2, 1)), kernel="linear"),
            DataError,
            "not zero; got zeros only",
        ),
        (lambda: renyi_entropy(np.ones((2, 3))), ShapeError, r"square .* got shape \(2, 3\)"),
        (lambda: renyi_entropy(np.zeros((0, 0))), DataError, "got a trace of 0 for 0 samples"),
        (lambda: renyi_entropy(-np.eye(2)), DataError, "got a trace of -2"),
        (lambda: renyi_entropy(np.array([[1.0, np.inf], [0, 1]])), DataError, "a finite matrix"),
        (lambda: renyi_entropy(np.array([[1.0, 1], [0, 1]])), DataError, "mirror by 5.0e-01"),
        (
            lambda: renyi_entropy(np.array([[1.0, 3], [3, 1]]), alpha=1.5),
            DataError,
            "semi-definite matrix; got an eigenvalue of -1.0e",
        ),
        (lambda: renyi_entropy(np.eye(2), alpha=0.0), ArgumentError, "`alpha` > 0; got 0.0"),
        (
            lambda: renyi_mutual_information(np.eye(2), np.eye(3)),
            ShapeError,
            r"the same samples; got shapes \(2, 2\) and \(3, 3\)",
        ),
        (
            lambda: renyi_mutual_information(np.diag([1.0, 0]), np.diag([0, 1.0])),
            DataError,
            "weight in both matrices; got a joint trace of 0",
        ),
        (
            lambda: renyi_mutual_information(np.eye(2), np.eye(2), alpha=math.nan),
            ArgumentError,
            "^renyi_mutual_information: expected `alpha` > 0",
        ),
    ],
)
def test_bad_input(call, error, message, without_shape_hook):
    with pytest.raises(error, match=message):
        call()
