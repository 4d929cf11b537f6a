"""Case ``logistic``: the law of the weight over step and batch, and unbiased distillation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from limbeck.lab_result import (
    LabCurve,
    LabResult,
    LabSettings,
    compare,
    line,
    standard_error,
    widened,
)
from limbeck.weighting.controlling.unbiased import predicted_factor
from limbeck.weighting.lab.chains import Chains, mixed, sigmoid
from limbeck.weighting.theory.laws import noise_floor, shrinkage, shrinkage_weight


WITHIN, UNBIASED_WITHIN = 0.03, 0.05
WEIGHTS = np.linspace(0, 1, 21)
BIAS = 0.00385  # nats, of the teacher in every cell
CELLS = ((0.4, 1), (0.2, 1), (0.1, 1), (0.05, 1), (0.2, 4), (0.2, 16))
RATIOS = (0.1, 1.0, 10.0, 100.0)  # bias of the teachers of unbiased distillation, in floors
RELAXATIONS = {"full": 200.0, "quick": 60.0}  # steps, in 1 / (learning rate * mu)
CHAINS = {"full": (64, 96), "quick": (16, 64)}
UNBIASED_STEPS = {"full": (8000, 2500), "quick": (2500, 500)}


@dataclass(frozen=True, eq=False)
class Logistic:
    """Logistic regression with a ridge, which teacher and student share.

    Attributes:
        inputs: Rows [n, d].
        targets: 0 or 1 [n].
        ridge: Times half of the squared length of the parameters.
    """

    inputs: Float[np.ndarray, "n d"]
    targets: Float[np.ndarray, " n"]
    ridge: float = 0.05

    def excess(self, x: Float[np.ndarray, "*many d"]) -> Float[np.ndarray, "*many"]:
        """Return f(x) - f* [nats] of parameters in the last dimension."""
        return np.asarray(self._loss(x) - self._loss(self.optimum))

    def gradients(self, x: Float[np.ndarray, " d"]) -> Float[np.ndarray, "n d"]:
        """Return the gradient of each row."""
        missed = sigmoid(self.inputs @ x) - self.targets
        return missed[:, None] * self.inputs + self.ridge * x

    @cached_property
    def optimum(self) -> Float[np.ndarray, " d"]:
        """The parameters of least loss, by Newton steps."""
        x = np.zeros(self.inputs.shape[1])
        for _ in range(50):
            x = x - np.linalg.solve(self._hessian(x), self.gradients(x).mean(0))
        return x

    @cached_property
    def hessian(self) -> Float[np.ndarray, "d d"]:
        """Of the loss at the optimum."""
        return self._hessian(self.optimum)

    def teacher(self, bias: float, seed: int = 7) -> Float[np.ndarray, " d"]:
        """Return parameters with about this excess loss, in a random direction."""
        u = np.random.default_rng(seed).normal(size=len(self.optimum))
        return self.optimum + u * np.sqrt(2 * bias / (u @ self.hessian @ u))

    def traces(self, teacher: Float[np.ndarray, " d"]) -> tuple[float, float, float]:
        """Return tr_gg, tr_gh and tr_hh of a row at the optimum."""
        g, h = self.gradients(self.optimum), self.gradients(teacher)
        g, h = g - g.mean(0), h - h.mean(0)
        gg, gh, hh = (float((a * b).sum(1).mean()) for a, b in ((g, g), (g, h), (h, h)))
        return gg, gh, hh

    def _loss(self, x: np.ndarray) -> np.ndarray:
        said = x @ self.inputs.T
        terms = np.maximum(said, 0) + np.log1p(np.exp(-np.abs(said)))
        right = x @ (self.targets @ self.inputs) / len(self.targets)
        return np.asarray(terms.mean(-1) - right + 0.5 * self.ridge * (x**2).sum(-1))

    def _hessian(self, x: np.ndarray) -> np.ndarray:
        p = sigmoid(self.inputs @ x)
        curved = self.inputs.T @ ((p * (1 - p))[:, None] * self.inputs) / len(p)
        return curved + self.ridge * np.eye(len(x))


def example_logistic() -> Logistic:
    """Return 500 rows in 6 dimensions; always the same."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(500, 6)) * np.linspace(0.7, 1.3, 6)
    true = rng.normal(size=6)
    odds = sigmoid(rows @ (1.2 * true / np.linalg.norm(true)))
    return Logistic(rows, (rng.uniform(size=500) < odds).astype(np.float64))


def lowest(weights: Float[np.ndarray, " k"], excess: Float[np.ndarray, " k"]) -> float:
    """Return where the parabola of least squares through the points is lowest."""
    second, first, _ = np.polyfit(weights, excess, 2)
    return float(-first / (2 * second))


def logistic(settings: LabSettings) -> LabResult:
    r"""Check :math:`\lambda^* = A / (A + \Delta)` over steps and batches, and the unbiased mode.

    Six cells of learning rate and batch size with one teacher: the lowest point of a parabola
    through 21 measured weights lies within 0.03 of the law. Then
    :math:`g - \lambda (h - \bar h)` at :math:`\mathrm{tr}_{gh} / \mathrm{tr}_{hh}` for teachers of
    four qualities: the share of the excess that is left is :math:`1 - \rho^2` within 5 %.

    Args:
        settings: A quick run takes fewer chains and steps, and criteria widened by the chains' own
            spread.

    Returns:
        Checks, and the excess loss [nats] over the weight, with weight interpolation beside it.

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    began = time.perf_counter()
    problem, found = example_logistic(), measure(settings)
    teacher = problem.teacher(BIAS)
    bias, tr_gg = float(problem.excess(teacher)), problem.traces(teacher)[0]
    checks, curves = [], []
    for (rate, batch), chains, free in found["cells"]:
        floor = noise_floor(tr_gg, learning_rate=rate, batch_size=batch)
        law = shrinkage_weight(floor, bias)
        means = chains.mean(0)
        each = [
            lowest(WEIGHTS, means + (one - means) / np.sqrt(len(chains))) for one in chains
        ]  # shrunk towards the mean, where the lowest point is linear in the excess
        error = standard_error(np.array(each)) * np.sqrt(len(chains))
        tolerance = widened(WITHIN, error, quick=settings.quick)
        name = f"gamma = {rate:g}, B = {batch}"
        best = lowest(WEIGHTS, means)
        checks.append(compare(f"{name}: best weight", best, law, tolerance))
        curves.append(
            LabCurve(
                name,
                "distillation weight",
                "excess loss [nats]",
                line(WEIGHTS),
                line(means),
                line([shrinkage(w, floor=floor, bias=bias) for w in WEIGHTS]),
                {"weight interpolation": line(free.mean(0))},
            )
        )
    unbiased, measured, others = found["unbiased"], [], []
    for place, ratio in enumerate(RATIOS):
        tr_gg, tr_gh, tr_hh = problem.traces(unbiased["teachers"][place])
        left = float(predicted_factor(tr_gh / tr_hh, tr_gg, tr_gh, tr_hh))
        plain, moved = unbiased["excess"][:, 0], unbiased["excess"][:, 1 + place]
        factor = float(moved.mean() / plain.mean())
        error = standard_error(moved - factor * plain) / plain.mean() / left
        tolerance = widened(UNBIASED_WITHIN, error, quick=settings.quick)
        name = f"unbiased, teacher at {ratio:g} A: share left"
        checks.append(compare(name, factor, left, tolerance, "relative"))
        measured.append(factor)
        others.append(left)
    curves.append(
        LabCurve(
            "unbiased mode",
            "bias of the teacher [floors of SGD]",
            "share of the excess loss",
            RATIOS,
            line(measured),
            line(others),
        )
    )
    return LabResult(
        "logistic",
        tuple(checks),
        tuple(curves),
        found["settings"],
        round(time.perf_counter() - began, 3),
    )


def measure(settings: LabSettings) -> dict[str, Any]:
    """Simulate the cells and unbiased distillation; excess by chain [nats]."""
    size = "quick" if settings.quick else "full"
    problem = example_logistic()
    cells = [
        (cell, *_cell(problem, *cell, size, (settings.seed, 3, place)))
        for place, cell in enumerate(CELLS)
    ]
    steps, dropped = UNBIASED_STEPS[size]
    rate = 0.2
    floor = noise_floor(problem.traces(problem.optimum)[0], learning_rate=rate, batch_size=1)
    teachers = [problem.teacher(ratio * floor) for ratio in RATIOS]
    columns, shifts = [problem.targets[:, None]], [np.zeros(len(problem.optimum))]
    for theta in teachers:
        _, tr_gh, tr_hh = problem.traces(theta)
        weight = tr_gh / tr_hh
        said = sigmoid(problem.inputs @ theta)
        columns.append(mixed(problem.targets, said, np.array([weight])))
        # The mean of h without the ridge's part, which cancels in h less its mean.
        shifts.append(weight * problem.inputs.T @ (said - problem.targets) / len(said))
    run = Chains(
        problem.inputs,
        np.concatenate(columns, 1),
        rate,
        1,
        problem.optimum,
        sigmoid,
        np.stack(shifts),
        problem.ridge,
    )
    excess = run.average(
        problem.excess,
        chains=CHAINS[size][1],
        steps=steps,
        dropped=dropped,
        every=8,
        seed=(settings.seed, 4),
    )
    return {
        "cells": cells,
        "unbiased": {"teachers": teachers, "excess": excess},
        "settings": {
            "seed": settings.seed,
            "chains": list(CHAINS[size]),
            "relaxations": RELAXATIONS[size],
            "unbiased_steps": steps,
            "cells": [list(cell) for cell in CELLS],
            "ridge": problem.ridge,
        },
    }


def _cell(
    problem: Logistic, rate: float, batch: int, size: str, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the excess by chain and weight, of distillation and of weight interpolation."""
    theta, mu = problem.teacher(BIAS), float(np.linalg.eigvalsh(problem.hessian)[0])
    steps = int(RELAXATIONS[size] / (rate * mu))
    run = Chains(
        problem.inputs,
        mixed(problem.targets, sigmoid(problem.inputs @ theta), WEIGHTS),
        rate,
        batch,
        problem.optimum,
        sigmoid,
        # The teacher's loss has the ridge too, at the teacher.
        -problem.ridge * WEIGHTS[:, None] * theta,
        problem.ridge,
    )

    def both(x: np.ndarray) -> np.ndarray:
        free = (1 - WEIGHTS)[:, None] * x[:, :1] + WEIGHTS[:, None] * theta
        return np.stack([problem.excess(x), problem.excess(free)], 1)

    found = run.average(
        both,
        chains=CHAINS[size][0],
        steps=steps,
        dropped=steps // 6,
        every=max(1, int(0.7 / (rate * mu))),
        seed=seed,
    )
    return found[:, 0], found[:, 1]
