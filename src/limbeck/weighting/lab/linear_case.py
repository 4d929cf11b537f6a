"""Case ``least_squares``: the exact law by listing and by simulation, and the bound above."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from limbeck.lab_result import (
    Check,
    LabCurve,
    LabResult,
    LabSettings,
    compare,
    line,
    standard_error,
    widened,
)
from limbeck.weighting.lab.chains import Chains, mixed
from limbeck.weighting.theory.bounds import noise_bound
from limbeck.weighting.theory.enumeration import propagate_by_enumeration
from limbeck.weighting.theory.least_squares import exact_error, stationary_covariance
from limbeck.weighting.theory.linear_problem import LeastSquares


ENUMERATED, SIMULATED = 1e-9, 0.02
WEIGHTS = np.linspace(0, 1, 11)
RATIOS = (0.0, 0.05, 1.0, 20.0)  # squared distance of the teacher, in that of plain SGD
FIRST = {"full": 4000, "quick": 1000}
# Learning rate 1 / (share * calL), which the theorem covers from a share of 4 on, and steps.
STEPS = {"full": (8.0, 14000), "quick": (4.0, 4000)}
CHAINS = {"full": 160, "quick": 96}


@dataclass(frozen=True, eq=False)
class Small:
    """A problem so small that all its batches can be listed."""

    name: str
    problem: LeastSquares
    teacher: Float[np.ndarray, " d"]
    learning_rate: float


SMALL = (
    Small(
        "four points",
        LeastSquares(np.array([[1.0], [1], [2], [2]]), np.array([2.0, 0, 3, 1])),
        np.array([1.2]),
        0.05,
    ),
    Small(
        "two dimensions",
        LeastSquares(np.array([[2.0, 0], [0, 1], [2, 1], [2, -1]]), np.array([0.0, -1, 2, 4])),
        np.array([1.1, -0.6]),
        0.02,
    ),
)


def example_problem() -> LeastSquares:
    """Return 400 rows in 8 dimensions, whose curvatures span a factor of 7; always the same."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 8)) * np.linspace(0.6, 1.4, 8)
    return LeastSquares(rows, rows @ rng.normal(size=8) + 0.7 * rng.normal(size=400))


def example_direction() -> Float[np.ndarray, " d"]:
    """Return the unit vector along which the teachers of the example miss the optimum."""
    drawn = np.random.default_rng(5).normal(size=8)
    return drawn / np.linalg.norm(drawn)


def moments_of_teacher(
    problem: LeastSquares, teacher: Float[np.ndarray, " d"], batch_size: int
) -> dict[str, float]:
    """Return sigma2, c, v and hbar2 of a batch at the optimum, as the bounds take them."""
    own = -problem.residuals[:, None] * problem.inputs
    h = (problem.inputs @ teacher - problem.targets)[:, None] * problem.inputs
    mean = problem.shares @ h
    covariances = [
        float(problem.shares @ (a * b).sum(1)) / batch_size
        for a, b in ((own, own), (own, h - mean), (h - mean, h - mean))
    ]
    names = ("sigma2", "c", "v")
    return {**dict(zip(names, covariances, strict=True)), "hbar2": float(mean @ mean)}


def least_squares(settings: LabSettings) -> LabResult:
    r"""Check :math:`E |x - x^*|^2 = \lambda^2 |\theta - x^*|^2 + (1 - \lambda)^2 S` twice.

    All batches of two small problems, to 1e-9 of the error; then 160 chains on 400 rows, within
    2 % at every weight for four teachers, where the bound of theorem 1 must lie above all of them.

    Args:
        settings: A quick run takes larger steps, 1 / (4 calL) for 1 / (8 calL), so that the chains
            settle sooner, 96 chains, and criteria widened by the chains' own spread.

    Returns:
        Checks, and the error over the weight [squared distance] for each teacher.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581, theorem 1; exact law derived.
    """
    began = time.perf_counter()
    checks = [_enumerated(small, batch) for small in SMALL for batch in (1, 2)]
    problem, found = example_problem(), measure(settings)
    curves = []
    for place, ratio in enumerate(RATIOS):
        chains = found["distance"][:, place]
        teacher, rate = found["teachers"][place], found["learning_rate"]
        steps = {"learning_rate": rate, "batch_size": 1}
        law = np.array([exact_error(problem, w, teacher, **steps) for w in WEIGHTS])
        bound = [
            noise_bound(
                w,
                **moments_of_teacher(problem, teacher, 1),
                learning_rate=rate,
                mu=problem.mu,
                kappa=1 / (rate * problem.mu),
            )
            for w in WEIGHTS
        ]
        name = f"teacher at {ratio:g} S"
        checks += _simulated(name, chains, law, quick=settings.quick)
        # Without noise and bias both are 0.
        ratio = max(error / top for error, top in zip(chains.mean(0), bound, strict=True) if top)
        checks.append(compare(f"{name}: largest error / bound", ratio, 1.0, 0.0, "at_most"))
        curves.append(
            LabCurve(
                name,
                "distillation weight",
                "squared distance to the optimum",
                line(WEIGHTS),
                line(chains.mean(0)),
                line(law),
                {"bound of theorem 1": line(bound)} if place == 2 else {},
            )
        )
    return LabResult(
        "least_squares",
        tuple(checks),
        tuple(curves),
        found["settings"],
        round(time.perf_counter() - began, 3),
    )


def measure(settings: LabSettings) -> dict[str, Any]:
    """Simulate all weights and teachers; return squared distances [chains, teachers, weights]."""
    size = "quick" if settings.quick else "full"
    problem, (share, steps) = example_problem(), STEPS[size]
    rate = 1 / (share * problem.expected_smoothness)
    spread = np.trace(stationary_covariance(problem, learning_rate=rate, batch_size=1))
    teachers = [problem.optimum + example_direction() * np.sqrt(r * spread) for r in RATIOS]
    targets = [mixed(problem.targets, problem.inputs @ theta, WEIGHTS) for theta in teachers]
    run = Chains(problem.inputs, np.concatenate(targets, 1), rate, 1, problem.optimum)
    distance = run.average(
        lambda x: ((x - problem.optimum) ** 2).sum(2),
        chains=CHAINS[size],
        steps=steps,
        dropped=FIRST[size],
        every=5,
        seed=(settings.seed, 1),
    )
    return {
        "distance": distance.reshape(-1, len(RATIOS), len(WEIGHTS)),
        "teachers": teachers,
        "learning_rate": rate,
        "settings": {
            "seed": settings.seed,
            "chains": CHAINS[size],
            "steps": steps,
            "dropped": FIRST[size],
            "learning_rate": rate,
            "batch_size": 1,
        },
    }


def _enumerated(small: Small, batch: int) -> Check:
    steps = {"learning_rate": small.learning_rate, "batch_size": batch}
    law, listed = (
        np.array([of(weight) for weight in WEIGHTS])
        for of in (
            lambda w: exact_error(small.problem, w, small.teacher, **steps),
            lambda w: np.trace(
                propagate_by_enumeration(small.problem, w, small.teacher, **steps).second
            ),
        )
    )
    worst = int(np.argmax(np.abs(listed / law - 1)))
    name = f"{small.name}, B = {batch}, all batches: lambda = {WEIGHTS[worst]:.1f}"
    return compare(name, listed[worst], law[worst], ENUMERATED, "relative")


def _simulated(name: str, chains: np.ndarray, law: np.ndarray, *, quick: bool) -> list[Check]:
    """Judge the weight whose error is farthest from the law, for its tolerance."""
    means, judged = chains.mean(0), []
    for place, weight in enumerate(WEIGHTS):
        if law[place] < 1e-12:  # a perfect teacher at weight 1 leaves nothing to take a share of
            judged.append(compare(f"{name}: lambda = 1", means[place], 0.0, 1e-12))
            continue
        error = standard_error(chains[:, place]) / law[place]
        tolerance = widened(SIMULATED, error, quick=quick)
        text = f"{name}: worst at lambda = {weight:.1f}"
        judged.append(compare(text, means[place], law[place], tolerance, "relative"))
    relative = [one for one in judged if one.kind == "relative"]
    worst = max(relative, key=lambda c: abs(c.measured / c.predicted - 1) / c.tolerance)
    return [worst, *(one for one in judged if one.kind != "relative")]
