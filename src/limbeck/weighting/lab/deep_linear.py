"""Case ``deep_linear``: the shrinkage law where the loss is not convex."""

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
from limbeck.weighting.theory.laws import noise_floor, shrinkage, shrinkage_weight


WITHIN = 0.005
WEIGHTS = np.linspace(0, 1, 11)
RATIOS = (0.0, 0.1, 1.0, 10.0)  # excess loss of the teacher, in floors of SGD
FLOOR = 0.25  # about that floor, so that the teachers are the same ones in every run
LEARNING_RATE, AHEAD, EVERY = 0.02, 256, 5
CHAINS = {"full": 48, "quick": 32}
STEPS = {"full": (12000, 6000), "quick": (6000, 2000)}


@dataclass(frozen=True, eq=False)
class DeepLinear:
    """Regression of several outputs by a product of two matrices.

    Attributes:
        inputs: Rows a [n, inputs].
        targets: y [n, outputs].
        hidden: Rank that the product may have.
    """

    inputs: Float[np.ndarray, "n inputs"]
    targets: Float[np.ndarray, "n outputs"]
    hidden: int = 6

    @cached_property
    def hessian(self) -> Float[np.ndarray, "inputs inputs"]:
        """E a a'."""
        return self.inputs.T @ self.inputs / len(self.inputs)

    @cached_property
    def optimum(self) -> Float[np.ndarray, "outputs inputs"]:
        """The matrix of least loss."""
        return np.linalg.lstsq(self.inputs, self.targets, rcond=None)[0].T

    @cached_property
    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Its balanced factors, W2 [outputs, hidden] and W1 [hidden, inputs]."""
        left, sizes, right = np.linalg.svd(self.optimum, full_matrices=False)
        last = np.zeros((len(left), self.hidden))
        first = np.zeros((self.hidden, right.shape[1]))
        last[:, : len(sizes)] = left * np.sqrt(sizes)
        first[: len(sizes)] = np.sqrt(sizes)[:, None] * right
        return last, first

    def excess(
        self, product: Float[np.ndarray, "*many outputs inputs"]
    ) -> Float[np.ndarray, "*many"]:
        """Return the loss of a matrix above the least one, half of the squared error."""
        away = product - self.optimum
        return np.asarray(0.5 * ((away @ self.hessian) * away).sum((-2, -1)))

    def teacher(self, bias: float) -> Float[np.ndarray, "outputs inputs"]:
        """Return a matrix with this excess loss, in a random direction that is always the same."""
        u = np.random.default_rng(11).normal(size=self.optimum.shape)
        return self.optimum + u * np.sqrt(bias / self.excess(self.optimum + u))

    def tr_gg(self) -> float:
        """Return the trace of the covariance of a row's gradient at the start."""
        last, first = self.start
        missed = self.inputs @ self.optimum.T - self.targets
        pulled, hidden = missed @ last, self.inputs @ first.T
        squares = [(part**2).sum(1) for part in (missed, hidden, pulled, self.inputs)]
        return float((squares[0] * squares[1] + squares[2] * squares[3]).mean())


def example_deep() -> DeepLinear:
    """Return 600 rows of 8 inputs and 3 outputs; always the same."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 8))
    true = 0.7 * rng.normal(size=(3, 8))
    return DeepLinear(rows, rows @ true.T + 0.8 * rng.normal(size=(600, 3)))


def deep_linear(settings: LabSettings) -> LabResult:
    r"""Check the factor :math:`\Delta / (A + \Delta)` for a product of two matrices.

    The share of plain SGD's excess that is left at the best of 11 weights, for teachers of four
    qualities, lies within 0.005 of the law, with the floor A that was measured. The law of
    small steps :math:`\gamma\, \mathrm{tr}_{gg} / (4 B)`, a fifth lower here, is a remark.

    Args:
        settings: A quick run takes fewer chains and steps, and criteria widened by the chains' own
            spread.

    Returns:
        Checks, and the excess loss over the weight for each teacher, half of the squared error.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581, deep linear case; law derived.
    """
    began = time.perf_counter()
    problem, found = example_deep(), measure(settings)
    excess = found["excess"]
    plain = excess[:, 0, 0]
    floor = float(plain.mean())
    small = noise_floor(problem.tr_gg(), learning_rate=LEARNING_RATE, batch_size=1)
    remark = f"floor of plain SGD {floor:.4f}; by the law of small steps {small:.4f}"
    checks, curves = [], []
    for place, teacher in enumerate(found["teachers"]):
        bias = float(problem.excess(teacher))
        means = excess[:, place].mean(0)
        best = int(means.argmin())
        factor = float(means[best] / floor)
        error = standard_error(excess[:, place, best] - factor * plain) / floor
        tolerance = widened(WITHIN, error, quick=settings.quick)
        name = f"teacher at {RATIOS[place]:g} A"
        law = 1 - shrinkage_weight(floor, bias)
        text = f"{name}: share left at {WEIGHTS[best]:.1f}"
        checks.append(compare(text, factor, law, tolerance))
        curves.append(
            LabCurve(
                name,
                "distillation weight",
                "excess loss",
                line(WEIGHTS),
                line(means),
                line([shrinkage(w, floor=floor, bias=bias) for w in WEIGHTS]),
            )
        )
    return LabResult(
        "deep_linear",
        tuple(checks),
        tuple(curves),
        found["settings"],
        round(time.perf_counter() - began, 3),
        (remark,),
    )


def measure(settings: LabSettings) -> dict[str, Any]:
    """Simulate all teachers and weights; excess [chains, teachers, weights]."""
    size = "quick" if settings.quick else "full"
    problem, chains, (steps, dropped) = example_deep(), CHAINS[size], STEPS[size]
    teachers = [problem.teacher(ratio * FLOOR) for ratio in RATIOS]
    series = len(teachers) * len(WEIGHTS)
    labels = np.concatenate(
        [
            (1 - w) * problem.targets[:, None] + w * (problem.inputs @ q.T)[:, None]
            for q in teachers
            for w in WEIGHTS
        ],
        1,
    )  # [n, series, outputs]
    last, first = (np.tile(part, (chains, series, 1, 1)) for part in problem.start)
    rng = np.random.default_rng((settings.seed, 5))
    total, seen = np.zeros((chains, series)), 0
    drawn = np.zeros((AHEAD, chains), dtype=np.int64)
    for step in range(steps):
        if step % AHEAD == 0:
            drawn = rng.integers(len(problem.inputs), size=(AHEAD, chains))
        rows = problem.inputs[drawn[step % AHEAD]][:, None]  # [chains, 1, inputs]
        hidden = np.einsum("cshi,cki->csh", first, rows)
        missed = np.einsum("csoh,csh->cso", last, hidden) - labels[drawn[step % AHEAD]]
        pulled = np.einsum("csoh,cso->csh", last, missed)
        last -= LEARNING_RATE * missed[..., None] * hidden[..., None, :]
        first -= LEARNING_RATE * pulled[..., None] * rows[..., None, :]
        if step >= dropped and step % EVERY == 0:
            total, seen = total + problem.excess(last @ first), seen + 1
    return {
        "excess": (total / seen).reshape(chains, len(teachers), len(WEIGHTS)),
        "teachers": teachers,
        "settings": {
            "seed": settings.seed,
            "chains": chains,
            "steps": steps,
            "dropped": dropped,
            "learning_rate": LEARNING_RATE,
            "batch_size": 1,
        },
    }
