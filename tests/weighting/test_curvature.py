"""The teacher's bias in loss units against the whole Gauss-Newton matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.gradients import Convolutions, kd, mlp, one_by_one, rows

from limbeck.data import Data
from limbeck.tasks import Classification
from limbeck.weighting.measuring import curvature
from limbeck.weighting.measuring.curvature import gauss_newton, teacher_bias_in_loss
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.problem import Problem, loss_module


def networks(kind="mlp"):
    if kind == "mlp":
        return mlp(4, 1), mlp(8, 2), rows(60)
    return Convolutions(1), mlp(8, 2, inputs=36), rows(24, inputs=36)


def problem_of(student, teacher, data, size=25):
    data = Data(data)
    example = next(iter(data.batches(data.in_order(2)))).inputs
    problem = Problem(
        student, teacher, Classification(), loss_module(kd, force=False), example=example
    )
    batches = list(data.batches(data.in_order(size)))
    return problem, problem.parts(batches)


def flat(gradients):
    return torch.cat([one.flatten(1) for one in gradients.values()], dim=1).numpy()


def whole_matrix(student, x):
    """The mean of J' (diag p - p p') J over rows, a backward pass for every logit of every row."""
    parameters = list(student.parameters())
    total = 0.0
    for row in x:
        z = student(row[None])[0]
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        one.flatten()
                        for one in torch.autograd.grad(z[k], parameters, retain_graph=True)
                    ]
                )
                for k in range(len(z))
            ]
        )
        p = z.detach().softmax(0)
        total = total + jacobian.T @ (p.diag() - p.outer(p)) @ jacobian
    return (total / len(x)).numpy()


@pytest.mark.parametrize("forward_mode", [True, False])
@pytest.mark.parametrize("kind", ["mlp", "convolutions"])
def test_products_are_those_of_the_whole_matrix(kind, forward_mode):
    student, teacher, (x, y) = networks(kind)
    problem, parts = problem_of(student, teacher, (x, y))
    with problem:
        problem.forward_mode = forward_mode
        matrix = whole_matrix(student, x)
        product = gauss_newton(problem, parts)
        source = torch.Generator().manual_seed(0)
        for _ in range(3):
            direction = {
                name: torch.randn(one.shape, generator=source, dtype=one.dtype)
                for name, one in problem.parameters.items()
            }
            found = torch.cat([one.flatten() for one in product(direction).values()]).numpy()
            given = torch.cat([one.flatten() for one in direction.values()]).numpy()
            assert found == pytest.approx(matrix @ given, rel=1e-9, abs=1e-12)


def test_the_bias_is_that_of_two_halves():
    student, teacher, (x, y) = networks()
    problem, parts = problem_of(student, teacher, (x, y))
    with problem:
        found = teacher_bias_in_loss(problem, parts, seed=3)
    _, h = one_by_one(student, teacher, x, y)
    h, second = flat(h), found.half == 1
    assert second.sum() == 30
    matrix = whole_matrix(student, x) + found.damping * np.eye(h.shape[1])
    means = [h[side].mean(0) for side in (~second, second)]
    solved = [np.linalg.solve(matrix, one) for one in means]
    assert found.converged
    assert found.residual <= 1e-3
    assert pytest.approx(0.5 * means[0] @ solved[1], rel=5e-3) == found.D_T
    each = 0.5 * np.where(second, h @ solved[0], h @ solved[1])
    assert found.rows == pytest.approx(each, rel=0.02, abs=0.02 * np.abs(each).max())
    errors = [each[side].std(ddof=1) / np.sqrt(side.sum()) for side in (~second, second)]
    assert found.standard_error == pytest.approx(np.hypot(*errors), rel=0.02)


def test_curvatures():
    student, teacher, (x, y) = networks()
    problem, parts = problem_of(student, teacher, (x, y))
    with problem:
        found = teacher_bias_in_loss(problem, parts)
    matrix = whole_matrix(student, x)
    _, h = one_by_one(student, teacher, x, y)
    mean = flat(h).mean(0)
    assert found.rayleigh == pytest.approx(mean @ matrix @ mean / (mean @ mean), rel=1e-6)
    assert found.mean == pytest.approx(np.trace(matrix) / len(matrix), rel=0.3)
    assert found.damping == pytest.approx(0.04 * found.mean)
    exact = (
        mean @ mean / (mean @ np.linalg.solve(matrix + found.damping * np.eye(len(matrix)), mean))
    )
    assert exact < found.rayleigh
    moments = gradient_moments(student, teacher, (x, y), loss=kd, seed=0)
    assert moments.mu_hat == pytest.approx(exact, rel=0.5)


def test_noise_alone_is_no_bias():
    """Labels are drawn from the student's own probabilities and so are the teacher's: D_T is 0
    on average, where one mean on both sides would give tr(H^-1 Cov h) / 2n."""
    student = mlp(4, 1)
    x, _ = rows(3000)
    p = student(x).softmax(1).detach()
    source = torch.Generator().manual_seed(0)
    drawn = [torch.multinomial(p, 1, generator=source)[:, 0] for _ in range(2)]
    said = torch.nn.functional.one_hot(drawn[1], 3).double() * 60 - 30

    def teacher(batch):
        from limbeck.types import Outputs

        return Outputs(said[batch.index])

    found = [
        gradient_moments(student, teacher, (x, drawn[0]), n=150, loss=kd, seed=seed)
        for seed in range(25)
    ]
    each = np.array([one.D_T for one in found])
    error = each.std(ddof=1) / np.sqrt(len(each))
    plugged = np.mean([0.5 * one.tr_hh / one.n / one.curvature.mean for one in found])
    assert abs(each.mean()) < 4 * error
    assert 4 * error < 0.2 * plugged
    # The error that is told is linear in either half; without a bias it errs on the wide side.
    told = np.mean([one.curvature.standard_error for one in found])
    assert each.std(ddof=1) < told < 2.5 * each.std(ddof=1)


def test_a_solver_that_stops_early_says_so(monkeypatch):
    student, teacher, data = networks()
    monkeypatch.setattr(curvature, "FEWEST", 2)
    monkeypatch.setattr(curvature, "WORK", 0)
    found = gradient_moments(student, teacher, data, loss=kd)
    assert not found.curvature.converged
    assert found.curvature.residual > 1e-3
    assert found.to_dict()["curvature"]["converged"] is False
