"""The curvature that a run looks at: solvers, rows, looks, states."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg

from limbeck.types import Batch
from limbeck.weighting.controlling.running_curvature import (
    RunningCurvature,
    harmonic_curvature,
    joined,
)


def matrix(seed=0, size=6):
    root = np.random.default_rng(seed).normal(size=(size, size))
    return root @ root.T / size


def product(h):
    def times(v):
        found = torch.from_numpy(h @ np.concatenate([one.numpy().ravel() for one in v]))
        return [found[:4].reshape(2, 2), found[4:]]

    return times


def vector(seed=1):
    b = np.random.default_rng(seed).normal(size=6)
    return b, [torch.from_numpy(b[:4]).reshape(2, 2), torch.from_numpy(b[4:])]


@pytest.mark.parametrize("iterations", [1, 2, 3, 6])
@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_it_is_that_of_scipys_solver(iterations, damping):
    h = matrix()
    b, parts = vector()
    solved, _ = cg(h + damping * np.eye(6), b, rtol=0.0, maxiter=iterations)
    found = harmonic_curvature(product(h), parts, damping, iterations).item()
    assert found == pytest.approx(b @ b / (b @ solved), rel=1e-8)


def test_it_falls_from_the_rayleigh_quotient_to_the_harmonic_curvature():
    h = matrix()
    b, parts = vector()
    found = [harmonic_curvature(product(h), parts, 0.0, k).item() for k in range(1, 7)]
    assert found[0] == pytest.approx(b @ h @ b / (b @ b), rel=1e-12)
    assert found[-1] == pytest.approx(b @ b / (b @ np.linalg.solve(h, b)), rel=1e-8)
    assert (np.diff(found) < 0).all()


def test_no_direction_and_a_solution_found_early():
    parts = [torch.zeros(3)]
    assert harmonic_curvature(lambda v: v, parts, 0.1, 4).item() == 0.0
    ones = [torch.ones(3)]
    assert harmonic_curvature(lambda v: v, ones, 0.0, 5).item() == pytest.approx(1.0)


def batch(start, rows, kind="tensor"):
    index = torch.arange(start, start + rows)
    inputs = index[:, None].float()
    return Batch(
        inputs={"a": inputs, "b": -inputs} if kind == "dict" else inputs,
        targets=index % 3,
        index=index,
        view=torch.zeros_like(index),
        weights=inputs[:, 0] if kind == "dict" else None,
    )


def test_the_latest_rows_are_kept():
    running = RunningCurvature(rows=10)
    for at in range(6):
        running.collect(at, batch(4 * at, 4), 4)
    assert running.collected().index.tolist() == list(range(12, 24))
    one = RunningCurvature(rows=10)
    one.collect(0, batch(0, 50), 50)
    assert len(one.collected()) == 50


@pytest.mark.parametrize("kind", ["tensor", "dict"])
def test_batches_are_joined(kind):
    whole = joined([batch(0, 3, kind), batch(3, 2, kind)])
    expected = batch(0, 5, kind)
    assert whole.index.equal(expected.index)
    assert whole.targets.equal(expected.targets)
    if kind == "dict":
        assert whole.inputs["b"].equal(expected.inputs["b"])
        assert whole.weights.equal(expected.weights)
    else:
        assert whole.inputs.equal(expected.inputs)
        assert whole.weights is None


def test_looks_double_and_then_come_after_many_rows():
    running = RunningCurvature(rows=4)
    looks = [at for at in range(1, 40) if running.collect(at, batch(0, 4), 4)]
    assert looks == [1, 2, 4, 8, 16, 32]
    seldom = RunningCurvature(rows=4)
    looks = [at for at in range(1, 40) if seldom.collect(at, batch(0, 4), 200)]
    assert looks == [1, 2, 4, 8, 16, 26, 32]


def test_a_state_goes_on():
    one, two = RunningCurvature(rows=10), RunningCurvature(rows=10)
    for at in range(11):
        one.collect(at, batch(4 * at, 4), 1000)
    one.look(product(matrix()), vector()[1], 0.0)
    two.load_state_dict(one.state_dict(), lambda step: batch(4 * step, 4))
    assert two.value.equal(one.value)
    for at in range(11, 15):
        new = batch(4 * at, 4)
        looks = one.collect(at, new, 1000), two.collect(at, new, 1000)
        assert looks == (at == 12,) * 2  # 5,000 rows after the look at the eighth
    assert two.collected().index.equal(one.collected().index)
