"""curvlinops as an oracle of the Gauss-Newton products and of the damped solve: .venv-vision alone.

It depends on torchvision, which lives there.
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from helpers.gradients import kd, mlp, one_by_one, rows
from torch import nn

from limbeck.data import Data
from limbeck.tasks import Classification
from limbeck.training.torchvision_cpu import define_missing_operators
from limbeck.weighting.controlling.logit_curvature import gauss_newton_of
from limbeck.weighting.measuring.curvature import gauss_newton, teacher_bias_in_loss
from limbeck.weighting.measuring.problem import Problem, loss_module


pytestmark = [
    pytest.mark.vision,
    pytest.mark.filterwarnings("ignore"),  # of curvlinops and what it imports
    pytest.mark.skipif(
        find_spec("curvlinops") is None,
        reason="curvlinops is not installed here; `make test-vision` runs these tests",
    ),
]


@pytest.fixture
def measured():
    student, teacher, data = mlp(4, 1), mlp(8, 2), rows(60)
    batches = Data(data)
    example = next(iter(batches.batches(batches.in_order(2)))).inputs
    problem = Problem(
        student, teacher, Classification(), loss_module(kd, force=False), example=example
    )
    parts = problem.parts(list(batches.batches(batches.in_order(25))))
    with problem:
        yield problem, parts, student, teacher, data


def operator(student, data):
    define_missing_operators()
    kind = import_module("curvlinops").GGNLinearOperator
    return kind(student, nn.CrossEntropyLoss(), list(student.parameters()), [data])


def flat(found):
    return torch.cat([one.flatten() for one in found]).detach()


def test_products_are_those_of_curvlinops(measured):
    problem, parts, student, _, data = measured
    matrix, product = operator(student, data), gauss_newton(problem, parts)
    logits = student(data[0])
    task = nn.functional.cross_entropy(logits, data[1])
    own = gauss_newton_of(task, [logits], list(student.parameters()))
    source = torch.Generator().manual_seed(0)
    for _ in range(3):
        v = {
            name: torch.randn(p.shape, generator=source, dtype=p.dtype)
            for name, p in problem.parameters.items()
        }
        wanted = matrix @ flat(v.values())
        torch.testing.assert_close(flat(product(v).values()), wanted, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(flat(own(list(v.values()))), wanted, rtol=1e-9, atol=1e-12)


def test_the_bias_in_loss_is_that_of_its_damped_solve(measured):
    problem, parts, student, teacher, data = measured
    found = teacher_bias_in_loss(problem, parts, seed=3)
    _, h = one_by_one(student, teacher, *data)
    h = torch.cat([one.flatten(1) for one in h.values()], 1).detach().numpy()
    second = found.half == 1
    matrix = operator(student, data)
    size = h.shape[1]
    dense = (matrix @ torch.eye(size, dtype=torch.float64)).detach().numpy()
    first, last = h[~second].mean(0), h[second].mean(0)
    solved = np.linalg.solve(dense + found.damping * np.eye(size), last)
    assert found.converged
    assert pytest.approx(0.5 * first @ solved, rel=5e-3) == found.D_T
