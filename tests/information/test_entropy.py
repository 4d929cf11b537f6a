"""Entropies of tables against closed forms and other libraries; corrections against the bias."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information.broja import broja_pid
from limbeck.information.entropy import (
    checked_table,
    count_table,
    disjoint_parts,
    extrapolated,
    table_entropy,
    table_mutual_information,
)


QUICK = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def counts(draw, least=1):
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 6)))
    source = np.random.default_rng(draw(st.integers(0, 2**31)))
    table = source.integers(0, draw(st.sampled_from([2, 9, 1000])), size=shape)
    table[0, 0] += least
    return table


@QUICK
@given(table=counts())
def test_plug_in_equals_other_libraries(table):
    assert table_entropy(table) == pytest.approx(scipy_entropy(table.ravel(), base=2), abs=1e-12)
    given_nats = mutual_info_score(None, None, contingency=table)
    assert table_mutual_information(table) == pytest.approx(given_nats / math.log(2), abs=1e-12)
    assert table_entropy(table / table.sum()) == pytest.approx(table_entropy(table), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 8, 1024])
def test_closed_forms(n):
    assert table_entropy(np.ones(n, dtype=int)) == pytest.approx(math.log2(n), abs=1e-12)
    both = np.eye(n, dtype=int)
    assert table_mutual_information(both) == pytest.approx(math.log2(n), abs=1e-12)
    assert table_mutual_information(np.outer(np.arange(1, n + 1), [1, 5])) < 1e-12


def test_miller_madow_counts_occupied_cells_only():
    table = np.array([[5, 0, 3], [0, 0, 0], [2, 0, 6]])
    n = 2 * 16 * math.log(2)
    plain = table_entropy(table), table_mutual_information(table)
    assert table_entropy(table, correction="miller-madow") == pytest.approx(plain[0] + 3 / n)
    got = table_mutual_information(table, correction="miller-madow")
    assert got == pytest.approx(plain[1] + (2 + 2 - 4 - 1) / n)


@QUICK
@given(table=counts())
def test_miller_madow_of_information_is_that_of_its_entropies(table):
    def h(part):
        return table_entropy(part, correction="miller-madow")

    got = table_mutual_information(table, correction="miller-madow")
    assert got == pytest.approx(h(table.sum(1)) + h(table.sum(0)) - h(table), abs=1e-12)


def test_extrapolation_solves_its_equations():
    source = np.random.default_rng(0)
    values = source.normal(size=(3, 4))
    system = np.array([[1, 1, 1], [1, 2, 4], [1, 4, 16]])
    np.testing.assert_allclose(extrapolated(*values), np.linalg.solve(system, values)[0])


@QUICK
@given(table=counts(least=4), seed=st.integers(0, 100))
def test_parts_are_disjoint_and_complete(table, seed):
    halves, quarters = disjoint_parts(table, seed=seed)
    assert halves.shape == (2, *table.shape)
    assert quarters.shape == (4, *table.shape)
    assert (quarters >= 0).all()
    np.testing.assert_array_equal(halves.sum(0), table)
    np.testing.assert_array_equal(quarters[:2].sum(0), halves[0])
    np.testing.assert_array_equal(quarters[2:].sum(0), halves[1])
    assert np.ptp(halves.sum((1, 2))) <= 1
    assert np.ptp(quarters.sum((1, 2))) <= 1
    again = disjoint_parts(table, seed=seed)[1]
    np.testing.assert_array_equal(again, quarters)


def test_parts_are_random_splits_of_the_samples():
    """The number of samples of a cell in one half is hypergeometric."""
    table = np.array([6, 4])
    first = np.array([disjoint_parts(table, seed=seed)[0][0][0] for seed in range(500)])
    assert first.mean() == pytest.approx(3, abs=4 * math.sqrt(6 * 4 * 5 * 5 / 100 / 9 / 500))
    assert first.var() == pytest.approx(6 * 4 * 5 * 5 / 100 / 9, rel=0.25)


def test_quadratic_is_the_extrapolation_of_the_parts():
    table = np.random.default_rng(3).integers(0, 30, size=(4, 5))
    for quantity in (table_entropy, table_mutual_information):
        halves, quarters = disjoint_parts(table, seed=7)
        means = [np.mean([quantity(part) for part in parts]) for parts in (halves, quarters)]
        wanted = extrapolated(quantity(table), *means)
        assert quantity(table, correction="quadratic", seed=7) == pytest.approx(wanted, abs=1e-14)


def test_bias_of_independent_variables_is_that_of_the_reference():
    """Ten symbols each: 0.122 and 1.289 bits at 500 samples, 0.058 and 0.746 at 1000."""
    source = np.random.default_rng(0)
    for n, pair, joint, error in ((500, 0.122, 1.289, 0.003), (1000, 0.058, 0.746, 0.003)):
        tables = source.multinomial(n, np.full(1000, 1e-3), size=100).reshape(-1, 10, 10, 10)
        of_pair = [table_mutual_information(table.sum(2)) for table in tables]
        of_joint = [table_mutual_information(table.reshape(10, 100)) for table in tables]
        for got, wanted in ((of_pair, pair), (of_joint, joint)):
            mine = np.std(got) / math.sqrt(len(got))
            assert np.mean(got) == pytest.approx(wanted, abs=3 * math.hypot(mine, error))


def test_corrections_remove_the_bias():
    """Where each cell has ten samples, nothing of it is left that 150 tables could show."""
    source = np.random.default_rng(1)
    tables = source.multinomial(1000, np.full(100, 1e-2), size=150).reshape(-1, 10, 10)
    bias = np.mean([table_mutual_information(table) for table in tables])
    assert bias == pytest.approx(81 / (2000 * math.log(2)), rel=0.05)
    for correction in ("miller-madow", "quadratic"):
        left = [
            table_mutual_information(table, correction=correction, seed=seed)
            for seed, table in enumerate(tables)
        ]
        error = np.std(left) / math.sqrt(len(left))
        assert abs(np.mean(left)) < 4 * error + 0.01 * bias
    entropies = [
        table_entropy(table.sum(1), correction="quadratic", seed=seed)
        for seed, table in enumerate(tables)
    ]
    error = np.std(entropies) / math.sqrt(len(entropies))
    assert np.mean(entropies) == pytest.approx(math.log2(10), abs=4 * error)


def test_atoms_rebuilt_from_extrapolated_quantities():
    """Model A of the reference at 1000 samples: synergy +0.370 as it is, +0.234 extrapolated."""
    channels = [np.where(np.eye(10, dtype=bool), 1 - flip, flip / 9) for flip in (0.3, 0.5)]
    law = 0.1 * channels[0][:, :, None] * channels[1][:, None, :]
    source, raw, better = np.random.default_rng(0), [], []
    for seed, table in enumerate(source.multinomial(1000, law.ravel(), size=6)):
        whole = table.reshape(10, 10, 10)
        values = []
        for parts in (whole[None], *disjoint_parts(whole, seed=seed)):
            found = [broja_pid(part, tolerance=1e-5) for part in parts]
            values.append(np.mean([(pid.mutual_joint, pid.union) for pid in found], axis=0))
        raw.append(values[0][0] - values[0][1] - 0.370735)
        joint, union = extrapolated(*values)
        better.append(joint - union - 0.370735)
    for got, wanted, error in ((raw, 0.370, 0.003), (better, 0.234, 0.005)):
        spread = np.std(got) / math.sqrt(len(got))
        assert np.mean(got) == pytest.approx(wanted, abs=4 * math.hypot(spread, error))


def test_count_table_equals_a_loop():
    source = np.random.default_rng(0)
    symbols = source.integers(0, 3, size=(3, 50))
    wanted = np.zeros((3, 4, 3), dtype=int)
    for sample in symbols.T:
        wanted[tuple(sample)] += 1
    np.testing.assert_array_equal(count_table(*symbols, sizes=(3, 4, 3)), wanted)
    np.testing.assert_array_equal(count_table(*symbols), wanted[:, :3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: table_entropy(np.array([0.5, 0.6])), DataError, "sum to 1; got 1.1"),
        (lambda: table_entropy(np.array([1.5, -0.5])), DataError, ">= 0; got 1 others of 2"),
        (lambda: table_entropy(np.array([1.0, np.inf])), DataError, ">= 0; got 1 others of 2"),
        (lambda: table_entropy(np.array([], dtype=float)), DataError, "got 0 of type float64"),
        (lambda: table_entropy(np.array([True])), DataError, "got 1 of type bool"),
        (lambda: table_entropy(np.array([3, -1])), DataError, "a sum of 2 with 1 below zero"),
        (lambda: table_entropy(np.array([0, 0])), DataError, "a sum of 0 with 0 below zero"),
        (
            lambda: table_entropy(np.array([0.5, 0.5]), correction="miller-madow"),
            DataError,
            "counts as integers; got 2 of type float64",
        ),
        (
            lambda: table_entropy(np.array([2, 1]), correction="quadratic"),
            DataError,
            "4 to 10⁹ samples; got 3",
        ),
        (
            lambda: disjoint_parts(np.array([10**9, 1])),
            DataError,
            "4 to 10⁹ samples; got 1000000001",
        ),
        (
            lambda: table_entropy(np.array([2, 1]), correction="quadratc"),
            ArgumentError,
            "Did you mean quadratic",
        ),
        (
            lambda: table_mutual_information(np.ones((2, 2, 2), dtype=int)),
            ShapeError,
            r"\[x, y\]; got shape \(2, 2, 2\)",
        ),
        (lambda: checked_table("f", np.ones(2) / 2, 3), ShapeError, r"\[y, t, s\]; got shape"),
        (lambda: count_table(), ShapeError, "vectors of one length"),
        (lambda: count_table(np.zeros(2, int), np.zeros(3, int)), ShapeError, "of one length"),
        (lambda: count_table(np.zeros(2)), DataError, "integer symbols; got 2 of types float64"),
        (lambda: count_table(np.array([-1, 0])), DataError, "on axis 0; got -1 to 0"),
        (lambda: count_table(np.array([2]), sizes=(2,)), DataError, "0 to 1 on axis 0; got 2"),
        (lambda: count_table(np.array([2]), sizes=(2, 2)), ShapeError, "1 sizes; got 2"),
    ],
)
def test_bad_input(call, error, message, without_shape_hook):
    with pytest.raises(error, match=message):
        call()
