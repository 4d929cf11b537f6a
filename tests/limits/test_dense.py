"""Dense learners answer as the sparse ones do, and risks are those of plain loops."""

import numpy as np
import pytest

from limbeck.checks import DataError, ShapeError
from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.dense import (
    censored_rows,
    hard_label_rows,
    naive_rows,
    sampled_rows,
    soft_label_rows,
    total_variation,
)
from limbeck.limits.tables.learners import (
    fit_censored,
    fit_hard_labels,
    fit_naive_probabilities,
    fit_sampled_probabilities,
    fit_soft_labels,
)
from limbeck.limits.tables.risk import risk_of


def drawn(seed, inputs=7, labels=5, n=40, noise=0.0):
    random = np.random.default_rng(seed)
    teacher = random.dirichlet(np.ones(labels), inputs)
    at = random.integers(inputs - 1, size=n)  # the last input is never seen
    label = np.array([random.choice(labels, p=teacher[s]) for s in at])
    counts = np.zeros((inputs, labels), np.int64)
    np.add.at(counts, (at, label), 1)
    reported = teacher * np.exp(noise * random.normal(size=teacher.shape))
    return random, teacher, np.minimum(reported, 1), counts


def sparse(counts, reported):
    at, label = np.nonzero(counts)
    found = PairCounts(counts.shape[1])
    found.add(at, label, probabilities=reported[at, label], counts=counts[at, label])
    return found


@pytest.mark.parametrize("noise", [0.0, 0.5])  # noisy rows sum to more and to less than 1
@pytest.mark.parametrize("seed", range(4))
def test_dense_and_sparse_learners_agree(seed, noise):
    random, teacher, reported, counts = drawn(seed, n=[3, 40, 90, 900][seed], noise=noise)
    everywhere, pairs = np.arange(len(counts)), sparse(counts, reported)
    prior = random.dirichlet(np.ones(counts.shape[1]), len(counts))
    same = {"rtol": 0, "atol": 1e-14}
    np.testing.assert_allclose(
        hard_label_rows(counts), fit_hard_labels(pairs).rows(everywhere), **same
    )
    np.testing.assert_allclose(
        naive_rows(counts, reported), fit_naive_probabilities(pairs).rows(everywhere), **same
    )
    for given in (None, prior):
        np.testing.assert_allclose(
            sampled_rows(counts > 0, reported, given),
            fit_sampled_probabilities(pairs, prior=given).rows(everywhere),
            **same,
        )
    seen = counts.sum(1) > 0
    np.testing.assert_allclose(
        soft_label_rows(seen, teacher),
        fit_soft_labels(np.flatnonzero(seen), teacher[seen]).rows(everywhere),
        **same,
    )


@pytest.mark.parametrize("seed", range(3))
def test_dense_and_sparse_censored_learners_agree(seed):
    _, teacher, _, counts = drawn(seed, n=[5, 40, 300][seed])
    told = teacher >= np.sort(teacher, 1)[:, -2:-1]  # the two largest
    told[-1] = False  # nothing is known of an input never seen
    pairs = PairCounts(counts.shape[1])
    at, label = np.nonzero(told)
    pairs.add(at, label, probabilities=teacher[at, label], counts=counts[at, label])
    at, label = np.nonzero(~told & (counts > 0))
    pairs.add(at, label, counts=counts[at, label])
    np.testing.assert_allclose(
        censored_rows(counts, told, teacher),
        fit_censored(pairs).rows(np.arange(len(counts))),
        rtol=0,
        atol=1e-14,
    )


def test_repetitions_are_independent():
    tables = [drawn(seed)[3] for seed in range(3)]
    teacher = drawn(0)[1]
    together = sampled_rows(np.stack(tables) > 0, teacher)
    for one, rows in zip(tables, together, strict=True):
        np.testing.assert_array_equal(rows, sampled_rows(one > 0, teacher))


def test_total_variation_is_the_largest_difference_of_an_event():
    p, q = np.array([0.5, 0.1, 0.4]), np.array([0.2, 0.5, 0.3])
    events = [[i for i in range(3) if code >> i & 1] for code in range(8)]
    largest = max(abs(p[event].sum() - q[event].sum()) for event in events)
    assert float(total_variation(p, q)) == pytest.approx(largest, abs=1e-15)


def test_risk_is_that_of_plain_loops(monkeypatch):
    monkeypatch.setattr("limbeck.limits.tables.risk.CELLS", 10)  # two inputs at a time
    random = np.random.default_rng(3)
    student, teacher = random.dirichlet(np.ones(4), (2, 9))
    rho = random.dirichlet(np.ones(9))
    right = sum(
        rho[s] * sum(abs(student[s][a] - teacher[s][a]) for a in range(4)) / 2 for s in range(9)
    )
    assert risk_of(student, rho, teacher) == pytest.approx(right, abs=1e-15)
    callables = (lambda inputs: student[inputs]), (lambda inputs: teacher[inputs])
    assert risk_of(callables[0], rho, callables[1]) == pytest.approx(right, abs=1e-15)
    order = random.permutation(9)
    assert risk_of(student, rho[order], callables[1], inputs=order) == pytest.approx(right)


def test_inputs_of_probability_0_are_not_asked_for():
    def teacher(inputs):
        assert 1 not in inputs
        return np.full((len(inputs), 2), 0.5)

    assert risk_of([[1.0, 0.0], [0.3, 0.7]], [1.0, 0.0], teacher) == 0.5


@pytest.mark.parametrize(
    ("student", "rho", "more", "error", "message"),
    [
        ([[0.5, 0.5]], [0.5, 0.5], {}, ShapeError, "a row for input 1; got 1 rows"),
        ([[0.5, 0.5]] * 2, [0.5, 0.6], {}, DataError, "`input_law` to sum to 1"),
        ([[0.2] * 5] * 2, [0.5, 0.5], {}, ShapeError, "one row an input from student and teacher"),
        ([[0.5, 0.5]] * 2, [0.5, 0.5], {"inputs": [0]}, ShapeError, "one index for each of 2"),
        ([[0.5, 0.5]] * 2, [0.5, 0.5], {"inputs": [0, -1]}, DataError, "integers >= 0"),
        ([[0.5, 0.5]] * 2, [[1.0]], {}, ShapeError, "as a vector"),
        ([0.5, 0.5], [1.0], {}, ShapeError, r"as \[inputs, labels\]"),
    ],
)
def test_what_risk_refuses(student, rho, more, error, message):
    with pytest.raises(error, match=message):
        risk_of(student, rho, [[0.5, 0.5]] * 2, **more)
