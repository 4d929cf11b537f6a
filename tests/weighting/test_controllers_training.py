"""Both controllers steer SGD on logistic regression as an oracle that knows A and Delta does.

The problem has 2000 samples in 10 dimensions, batches of 8 in halves of 4, and teachers with an
excess loss of 0.0005, 0.005 and 0.05 nats. Many chains run side by side: vmap maps the controllers
over them, which works only as nothing in them looks at a number.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import softplus

from limbeck.weighting.controlling.controllers import HbarController, LossPairController


RIDGE, BATCH, ROWS, CHAINS, WARMUP, EVERY = 0.05, 8, 4, 24, 200, 1
PHASES, STEPS, LAST = (0.4, 0.1, 0.025), 3000, range(2700, 3000, 15)
DECAYS = {"fast_decay": 0.99**EVERY, "slow_decay": 0.999**EVERY}


class Logistic:
    def __init__(self):
        rng = np.random.default_rng(4)
        inputs = rng.standard_normal((2000, 10)) * np.linspace(0.7, 1.3, 10)
        truth = rng.standard_normal(10)
        odds = inputs @ (1.2 * truth / np.linalg.norm(truth))
        self.a = torch.tensor(inputs)
        self.y = torch.tensor((rng.random(2000) < 1 / (1 + np.exp(-odds))).astype(float))
        self.best = torch.zeros(10, dtype=torch.float64)
        for _ in range(30):
            p = torch.sigmoid(self.a @ self.best)
            gradient = self.a.T @ (p - self.y) / 2000 + RIDGE * self.best
            hessian = (self.a.T * (p * (1 - p))) @ self.a / 2000 + RIDGE * torch.eye(10)
            self.best = self.best - torch.linalg.solve(hessian, gradient)
        rows = self.a * (torch.sigmoid(self.a @ self.best) - self.y)[:, None]
        self.tr_gg = (rows - rows.mean(0)).square().sum().item() / 2000
        self.curvature = hessian.diagonal().mean().item()
        u = torch.tensor(np.random.default_rng(9).standard_normal(10))
        self.u = u / u.norm()
        scale = (self.u @ hessian @ self.u).sqrt()
        self.teachers = torch.stack(
            [self.best + self.u * math.sqrt(2 * d) / scale for d in (0.0005, 0.005, 0.05)]
        )
        self.delta = self.excess(self.teachers)

    def excess(self, x: Tensor) -> Tensor:
        return self.loss(x) - self.loss(self.best)

    def loss(self, x: Tensor) -> Tensor:
        z = x @ self.a.T
        return (softplus(z) - self.y * z).mean(-1) + RIDGE / 2 * x.square().sum(-1)


def measurement(problem, kind):
    """Return a function of a state and a batch's numbers that gives a new state and the weight."""

    def observe(state, gamma, x, theta, a, y, used):
        zs, zt = a @ x, a @ theta
        g, h = ((torch.sigmoid(z) - y)[:, None] * a for z in (zs, zt))
        g, h = (
            tuple([half.mean(0) + RIDGE * at] for half in (rows[:ROWS], rows[ROWS:]))
            for rows, at in ((g, x), (h, theta))
        )
        controller = kind(**DECAYS)
        if state is not None:
            controller.load_state_dict(state)
        setting = {"rows": ROWS, "learning_rate": gamma, "batch_size": BATCH}
        if kind is HbarController:
            controller.observe(g, h, curvature=problem.curvature, **setting)
        else:
            losses = [
                (softplus(z) - y * z).mean() + RIDGE / 2 * at @ at
                for z, at in ((zs, x), (zt, theta))
            ]
            controller.observe(g, *losses, weight=used, **setting)
        return controller.state_dict(), controller.weight()

    return observe


def traced(function, *example):
    graph = make_fx(lambda *given: function(*given))(*example)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def train(problem, kind):
    """Return excess losses [phase, (lambda = 0, oracle, controller), teacher] and mean weights."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 3, CHAINS)
    x = (problem.best + 0.5 * problem.u).expand(*shape, 10).clone()
    theta = problem.teachers[:, None].expand(3, CHAINS, 10)
    weight, excess, means = torch.zeros(shape, dtype=torch.float64), [], []
    state, observe = None, vmap(measurement(problem, kind), in_dims=(None, None, 0, 0, 0, 0, 0))
    for phase, gamma in enumerate(PHASES):
        floor = gamma * problem.tr_gg / (4 * BATCH)
        weight[1] = (floor / (floor + problem.delta))[:, None]
        late, mean = torch.zeros(3, 3), torch.zeros(3, 3)
        for k in range(STEPS):
            rows = torch.randint(2000, (CHAINS, BATCH), generator=generator)
            a, y = problem.a[rows], problem.y[rows]
            at_teacher = torch.sigmoid(torch.einsum("cbd,tcd->tcb", a, theta)) - y
            at_student = torch.sigmoid(torch.einsum("cbd,mtcd->mtcb", a, x)) - y
            if k % EVERY == 0:
                batch = [t.expand(3, *t.shape) for t in (a, y)]
                given = [t.flatten(0, 1) for t in (x[2], theta, *batch, weight[2])]
                given = [torch.tensor(gamma, dtype=torch.float64), *given]
                if phase == 0 and k == EVERY:  # from the second measurement on a graph repeats them
                    later = vmap(measurement(problem, kind), in_dims=(0, None, 0, 0, 0, 0, 0))
                    observe = traced(later, state, *given)
                state, found = observe(state, *given)
                if phase or k >= WARMUP:
                    weight[2] = found.reshape(3, CHAINS)
            noise = at_student - weight[..., None] * at_teacher
            step = torch.einsum("mtcb,cbd->mtcd", noise, a) / BATCH
            x = x - gamma * (step + RIDGE * (x - weight[..., None] * theta))
            mean += weight.mean(-1) / STEPS
            if k in LAST:
                late += problem.excess(x).mean(-1) / len(LAST)
        excess.append(late)
        means.append(mean)
    return torch.stack(excess), torch.stack(means)


@pytest.fixture(scope="module")
def problem():
    return Logistic()


def test_the_problem_is_the_one_meant(problem):
    assert 0.4 * problem.tr_gg / 32 == pytest.approx(0.0252, abs=1e-4)
    assert problem.delta.tolist() == pytest.approx([5e-4, 0.0049, 0.046], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HbarController, LossPairController])
def test_the_controller_is_as_good_as_the_oracle(problem, kind):
    excess, means = train(problem, kind)
    plain, oracle, found = excess.unbind(1)
    assert (plain > 0).all()
    # Within 10 % in all nine cells: three learning rates, three teachers, on the same batches.
    assert (found / oracle - 1).abs().max().item() < 0.1
    assert (found < plain).all()
    assert (means[1:, 2] - means[1:, 1]).abs().max().item() < 0.12
