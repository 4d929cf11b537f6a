"""BROJA against other solvers: a general one, and a cone solver where it is installed."""

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from limbeck import broja_pid


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(math.prod(shape))).reshape(shape)


def union_by_slsqp(pmf):
    """The union information as a general solver minimises it over all couplings."""
    shape = pmf.shape
    rows = []
    for axis, index in [(2, i) for i in np.ndindex(*shape[:2])] + [
        (1, i) for i in np.ndindex(shape[0], shape[2])
    ]:
        row = np.zeros(shape)
        row[(*index, slice(None)) if axis == 2 else (index[0], slice(None), index[1])] = 1
        rows.append(row.ravel())
    A = np.array(rows)

    def objective(flat):
        q = np.maximum(flat.reshape(shape), 1e-300)
        ratio = np.log(q / q.sum(0))
        return float((q * ratio).sum()), ratio.ravel()

    start = pmf.sum(2)[:, :, None] * pmf.sum(1)[:, None, :] / pmf.sum((1, 2))[:, None, None]
    # Rows that depend on others are left out: SLSQP takes the constraints for independent.
    _, kept = np.linalg.qr(A.T)[0], []
    for i in range(len(A)):
        if np.linalg.matrix_rank(A[[*kept, i]]) == len(kept) + 1:
            kept.append(i)
    found = minimize(
        objective,
        start.ravel(),
        jac=True,
        bounds=[(1e-15, None)] * start.size,
        constraints={
            "type": "eq",
            "fun": lambda q: (A @ (q - pmf.ravel()))[kept],
            "jac": lambda q: A[kept],
        },
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 2000},
    )
    labels = pmf.sum((1, 2))
    return (found.fun - float((labels * np.log(labels)).sum())) / math.log(2)


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_general_solver(seed):
    pmf = drawn(*[(2, 2, 2), (2, 3, 3), (3, 2, 3), (3, 3, 2)][seed % 4], seed=seed)
    found = broja_pid(pmf, tolerance=1e-9)
    truth = union_by_slsqp(pmf)
    assert found.union == pytest.approx(truth, abs=2e-6)
    assert found.union_bounds[0] <= truth + 1e-7  # the other one is feasible up to its tolerance


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_cone_solver(seed):
    pytest.importorskip("ecos", reason="the extra `peers` brings ECOS, the oracle here")
    dit = pytest.importorskip("dit", reason="the extra `peers` brings dit, which calls ECOS")
    pmf = drawn(*[(4, 5, 6), (6, 4, 4), (3, 7, 5)][seed % 3], seed=seed)
    cells = np.argwhere(pmf > 0)
    outcomes = [(int(t), int(s), int(y)) for y, t, s in cells]
    joint = dit.Distribution(outcomes, pmf[tuple(cells.T)].tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dit.pid.PID_BROJA(joint, ((0,), (1,)), (2,), method="cone")
    found = broja_pid(pmf, tolerance=1e-9)
    assert found.unique_teacher == pytest.approx(theirs.get_pi(((0,),)), abs=1e-6)
    assert found.unique_student == pytest.approx(theirs.get_pi(((1,),)), abs=1e-6)
    assert found.redundant == pytest.approx(theirs.get_pi(((0,), (1,))), abs=1e-6)
    assert found.synergistic == pytest.approx(theirs.get_pi(((0, 1),)), abs=1e-6)
