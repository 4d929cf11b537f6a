"""Tabular learners: the reference's data set, edge rules, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits import (
    PairCounts,
    fit_censored,
    fit_hard_labels,
    fit_naive_probabilities,
    fit_sampled_probabilities,
    fit_soft_labels,
    risk_of,
)
from limbeck.limits.tables.missing_mass import pair_missing_mass


RHO = [0.5, 0.3, 0.2]
TEACHER = np.array([[0.4, 0.3, 0.2, 0.1], [0.6, 0.25, 0.1, 0.05], [0.7, 0.1, 0.1, 0.1]])
DATA = [(0, 0), (0, 0), (0, 2), (1, 0), (1, 3), (1, 0)]
PRIOR = [0.1, 0.2, 0.3, 0.4]
UNIFORM = [0.25] * 4
EXACT = 1e-14


def counted(data=DATA, teacher=TEACHER, labels=4):
    counts = PairCounts(labels)
    at, drawn = np.array(data, np.int64).reshape(-1, 2).T
    counts.add(at, drawn, probabilities=teacher[at, drawn])
    return counts


@pytest.mark.parametrize(
    ("fit", "prior", "rows", "value"),
    [
        (fit_hard_labels, None, [[2 / 3, 0, 1 / 3, 0], [2 / 3, 0, 0, 1 / 3], UNIFORM], 0.395),
        (fit_naive_probabilities, None, [[0.8, 0, 0.2, 0], [0.96, 0, 0, 0.04], UNIFORM], 0.398),
        (
            fit_sampled_probabilities,
            "uniform",
            [[0.4, 0.2, 0.2, 0.2], [0.6, 0.175, 0.175, 0.05], UNIFORM],
            0.1625,
        ),
        (
            fit_sampled_probabilities,
            PRIOR,
            [[0.4, 2 / 15, 0.2, 4 / 15], [0.6, 0.14, 0.21, 0.05], PRIOR],
            0.236333333333,
        ),
    ],
)
def test_one_data_set(fit, prior, rows, value):
    student = fit(counted(), prior=prior)
    np.testing.assert_allclose(student.rows([0, 1, 2]), rows, atol=EXACT)
    assert risk_of(student, RHO, TEACHER) == pytest.approx(value, abs=1e-12)
    assert student.repairs.none


def test_soft_labels_of_one_data_set():
    student = fit_soft_labels([1, 0], TEACHER[[1, 0]])
    np.testing.assert_allclose(student.rows([0, 1, 2]), [*TEACHER[:2], UNIFORM], atol=EXACT)
    assert risk_of(student, RHO, TEACHER) == pytest.approx(0.09, abs=EXACT)
    assert student.residuals([0, 1, 2]).tolist() == [0, 0, 1]


def test_residuals_of_one_data_set():
    student = fit_sampled_probabilities(counted())
    np.testing.assert_allclose(student.residuals([0, 1, 2]), [0.4, 0.35, 1], atol=EXACT)
    assert pair_missing_mass(RHO, TEACHER, counted()) == pytest.approx(0.505, abs=EXACT)


def test_hard_labels_and_the_naive_learner_certify_nothing():
    for fit in (fit_hard_labels, fit_naive_probabilities):
        with pytest.raises(ArgumentError, match="keeps the teacher's own numbers"):
            fit(counted()).residuals([0])


laws = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(random=laws, inputs=st.integers(1, 6), labels=st.integers(1, 6), n=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_order_and_duplicates_do_not_matter_where_numbers_come(random, inputs, labels, n):
    teacher = random.dirichlet(np.ones(labels), inputs)
    at, drawn = random.integers(inputs, size=n), random.integers(labels, size=n)
    told = teacher[at, drawn]
    everywhere, first = np.arange(inputs + 2), PairCounts(labels)
    first.add(at, drawn, probabilities=told)
    again, twice = PairCounts(labels), random.permutation(np.repeat(np.arange(n), 3))
    for part in np.array_split(twice, 4):
        again.add(at[part], drawn[part], log_probabilities=np.log(told[part]))
    rows = fit_sampled_probabilities(first).rows(everywhere)
    np.testing.assert_allclose(
        rows, fit_sampled_probabilities(again).rows(everywhere), rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(
        fit_hard_labels(first).rows(everywhere),
        fit_hard_labels(again).rows(everywhere),
        atol=1e-14,
    )
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-14)
    assert (rows >= 0).all()


def test_equal_reports_give_their_number_back_to_the_last_bit():
    number, counts = 0.1 + 0.2, PairCounts(3)
    for _ in range(7):
        counts.add([5] * 3, [1] * 3, probabilities=[number] * 3)
    assert fit_sampled_probabilities(counts).rows([5])[0, 1] == number


@given(
    random=laws,
    inputs=st.integers(1, 8),
    labels=st.integers(1, 8),
    n=st.integers(0, 60),
    prior=st.sampled_from(["uniform", "row", "matrix", "callable"]),
)
@settings(max_examples=100, deadline=None)
def test_the_risk_is_at_most_the_missing_mass_with_any_prior(random, inputs, labels, n, prior):
    teacher = random.dirichlet(np.full(labels, 0.4) + 0.01, inputs)
    rho = random.dirichlet(np.full(inputs, 0.5) + 0.01)
    counts = PairCounts(labels)
    at = random.choice(inputs, p=rho, size=n)
    drawn = np.array([random.choice(labels, p=teacher[s]) for s in at], np.int64)
    counts.add(at, drawn, probabilities=teacher[at, drawn])
    matrix = random.dirichlet(np.ones(labels), inputs)
    given_prior = {
        "uniform": None,
        "row": matrix[0],
        "matrix": matrix,
        "callable": lambda inputs: matrix[inputs],
    }[prior]
    student = fit_sampled_probabilities(counts, prior=given_prior)
    off = risk_of(student, rho, teacher)
    assert off <= pair_missing_mass(rho, teacher, counts) + 1e-12
    # The same bound without the teacher: residuals, averaged over the inputs.
    residual = float(rho @ student.residuals(np.arange(inputs)))
    assert residual == pytest.approx(pair_missing_mass(rho, teacher, counts), abs=1e-12)


def test_a_sum_a_hair_above_1_leaves_no_negative_residual():
    counts = PairCounts(3)
    counts.add([0, 0], [0, 1], probabilities=[0.7, 0.3 + 1e-12])
    student = fit_sampled_probabilities(counts)
    assert student.rows([0])[0, 2] == 0
    assert student.rows([0]).sum() == pytest.approx(1, abs=1e-15)
    assert student.residuals([0]) == 0
    assert student.repairs.none


def test_sums_above_1_are_renormalised_and_told():
    counts = PairCounts(3)
    counts.add([0, 0, 1], [0, 1, 1], probabilities=[0.9, 0.3, 0.5])
    student = fit_sampled_probabilities(counts)
    np.testing.assert_allclose(student.rows([0]), [[0.75, 0.25, 0]], atol=EXACT)
    np.testing.assert_allclose(student.rows([1]), [[0.25, 0.5, 0.25]], atol=EXACT)
    assert (student.repairs.above_one, student.repairs.below_one) == (1, 0)
    assert student.repairs.largest == pytest.approx(0.2)
    assert "1 inputs with probabilities that sum to more than 1 (by 0.2" in str(student.repairs)


def test_all_labels_seen_with_a_sum_below_1_is_renormalised_and_told():
    counts = PairCounts(2)
    counts.add([0, 0], [0, 1], probabilities=[0.6, 0.2])
    student = fit_sampled_probabilities(counts)
    np.testing.assert_allclose(student.rows([0]), [[0.75, 0.25]], atol=EXACT)
    assert (student.repairs.above_one, student.repairs.below_one) == (0, 1)
    assert student.residuals([0]) == 0
    assert "with all labels whose sum is below 1" in str(student.repairs)


def test_two_values_of_one_pair_give_their_mean_and_a_flag():
    counts = PairCounts(2)
    counts.add([0, 0, 0], [0, 0, 0], probabilities=[0.3, 0.5, 0.4])
    counts.add([1, 1], [0, 0], probabilities=[0.25, 0.25])
    student = fit_sampled_probabilities(counts)
    np.testing.assert_allclose(student.rows([0, 1]), [[0.4, 0.6], [0.25, 0.75]], atol=EXACT)
    assert student.repairs.disagreeing == 1
    assert student.repairs.largest_spread == pytest.approx(np.std([0.3, 0.5, 0.4]))
    assert not student.repairs.none
    assert "1 with several values for one pair" in str(student.repairs)


def test_two_rows_of_one_input_give_their_mean_and_a_flag():
    student = fit_soft_labels([3, 3, 1], [[0.2, 0.8], [0.4, 0.6], [1.0, 0.0]])
    np.testing.assert_allclose(student.rows([3, 1, 0]), [[0.3, 0.7], [1, 0], [0.5, 0.5]])
    assert student.repairs.disagreeing == 1
    assert student.repairs.largest_spread == pytest.approx(0.1)


def test_more_soft_labels_are_added_to_an_earlier_table():
    earlier = fit_soft_labels([2], [[0.25, 0.75]], prior=[0.9, 0.1])
    student = fit_soft_labels([0, 2], [[0.5, 0.5], [0.25, 0.75]], earlier=earlier)
    rows = [[0.5, 0.5], [0.9, 0.1], [0.25, 0.75]]
    np.testing.assert_allclose(student.rows([0, 1, 2]), rows, atol=EXACT)
    assert student.repairs.none
    with pytest.raises(ShapeError, match="`earlier` from soft labels of width 2"):
        fit_soft_labels([0], [[0.5, 0.5]], earlier=fit_hard_labels(counted()))


def test_a_prior_without_mass_on_the_open_labels_shares_alike():
    counts = PairCounts(3)
    counts.add([0], [0], probabilities=[0.4])
    student = fit_sampled_probabilities(counts, prior=[1.0, 0.0, 0.0])
    np.testing.assert_allclose(student.rows([0]), [[0.4, 0.3, 0.3]], atol=EXACT)


def test_censored_draws_share_the_tail_by_counts():
    counts = PairCounts(5)
    counts.add([0, 0], [0, 1], probabilities=[0.5, 0.2], counts=[4, 0])  # 1 was in the top list
    counts.add([0, 0, 0, 0], [2, 2, 2, 4])  # no numbers
    student = fit_censored(counts)
    np.testing.assert_allclose(student.rows([0]), [[0.5, 0.2, 0.225, 0, 0.075]], atol=EXACT)
    assert student.residuals([0]) == pytest.approx(0.3)
    np.testing.assert_allclose(
        fit_hard_labels(counts).rows([0]), [[4 / 8, 0, 3 / 8, 0, 1 / 8]], atol=EXACT
    )


def test_a_censored_teacher_without_tail_draws_shares_by_the_prior():
    counts = PairCounts(4)
    counts.add([0, 0], [0, 1], probabilities=[0.5, 0.2], counts=[3, 0])
    np.testing.assert_allclose(fit_censored(counts).rows([0]), [[0.5, 0.2, 0.15, 0.15]])
    prior = [0.0, 0.0, 0.25, 0.75]
    np.testing.assert_allclose(
        fit_censored(counts, prior=prior).rows([0]), [[0.5, 0.2, 0.075, 0.225]], atol=EXACT
    )


def test_a_report_without_a_draw_is_no_draw():
    counts = PairCounts(2)
    counts.add([0], [0], probabilities=[0.5], counts=[0])
    np.testing.assert_allclose(fit_hard_labels(counts, prior=[0.9, 0.1]).rows([0]), [[0.9, 0.1]])
    np.testing.assert_allclose(fit_naive_probabilities(counts).rows([0]), [[0.5, 0.5]])
    assert fit_sampled_probabilities(counts).rows([0]).tolist() == [[0.5, 0.5]]


def test_pairs_without_numbers_are_refused_where_they_are_needed():
    counts = PairCounts(2)
    counts.add([0, 0], [0, 1])
    for fit in (fit_naive_probabilities, fit_sampled_probabilities):
        with pytest.raises(DataError, match=r"got none for 2 of 2. Use fit_censored"):
            fit(counts)


def test_no_data_at_all_gives_the_prior():
    for fit in (fit_hard_labels, fit_naive_probabilities, fit_sampled_probabilities, fit_censored):
        assert fit(PairCounts(2)).rows([0, 9]).tolist() == [[0.5, 0.5]] * 2


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        ("unifrom", ArgumentError, 'expected `prior` to be "uniform"'),
        ([0.5, 0.5], ShapeError, r"`prior` rows of shape \(1, 4\); got \(1, 2\)"),
        ([0.5, 0.5, 0.5, 0.5], DataError, "`prior` to sum to 1; got 2"),
        ([1.5, -0.5, 0, 0], DataError, "`prior` >= 0"),
    ],
)
def test_a_bad_prior_is_refused_at_once(prior, error, message):
    with pytest.raises(error, match=message):
        fit_sampled_probabilities(counted(), prior=prior)


def test_a_prior_matrix_without_the_row_asked_for_is_refused():
    student = fit_hard_labels(counted(), prior=TEACHER)
    np.testing.assert_allclose(student.rows([2]), TEACHER[2:], atol=EXACT)
    with pytest.raises(DataError, match="a row for input 3; got 3 rows"):
        student.rows([3])


@pytest.mark.parametrize(
    ("inputs", "rows", "error", "message"),
    [
        ([0], [[0.5, 0.6]], DataError, "sum to 1; got 1.1"),
        ([0, 1], [[0.5, 0.5]], ShapeError, "one input a row"),
        ([-1], [[0.5, 0.5]], DataError, "integers >= 0"),
        ([0.5], [[0.5, 0.5]], DataError, "integers >= 0; got float64"),
        ([0], [[np.nan, 0.5]], DataError, "finite; got nan"),
    ],
)
def test_bad_soft_labels_are_refused(inputs, rows, error, message):
    with pytest.raises(error, match=message):
        fit_soft_labels(inputs, rows)


def test_bad_inputs_are_refused():
    student = fit_sampled_probabilities(counted())
    for wrong in ([-1], [0.5], ["a"]):
        with pytest.raises(DataError, match="integers >= 0"):
            student.rows(wrong)
    with pytest.raises(ShapeError, match="one dimension"):
        student.rows([[0, 1]])
