"""Case ``compressed``: distillation lowers the noise of a compressed student, not its floor."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

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
from limbeck.weighting.lab.chains import Chains, mixed
from limbeck.weighting.lab.linear_case import (
    example_direction,
    example_problem,
    moments_of_teacher,
)
from limbeck.weighting.theory.further_bounds import compressed_bound
from limbeck.weighting.theory.least_squares import stationary_covariance
from limbeck.weighting.theory.linear_problem import LeastSquares


CRITERION = 0.02
WEIGHTS = np.array([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
SHARES = (0.0, 0.01, 1.0)  # of the largest omega that the theorem covers
RATIO = 0.05  # squared distance of the second teacher, in that of plain SGD
CHAINS = {"full": 160, "quick": 96}
STEPS = {"full": (8.0, 54000), "quick": (4.0, 12000)}
FIRST = {"full": 4000, "quick": 1000}


class CompressedError(NamedTuple):
    """Where the squared distance of a compressed student comes from; the three add up."""

    noise: float
    bias: float
    floor: float

    @property
    def total(self) -> float:
        """E |x - x*|^2."""
        return self.noise + self.bias + self.floor


def compressed_error(
    problem: LeastSquares,
    distillation_weight: float,
    teacher: Float[np.ndarray, " d"],
    *,
    learning_rate: float,
    omega: float,
) -> CompressedError:
    r"""Return the exact error of SGD on least squares that is compressed after every step.

    .. math:: M = F + \omega\, \mathrm{diag}(F + x_\lambda x_\lambda^T), \qquad
              F = E P M P^T + \gamma^2 (1 - \lambda)^2 E e^2 a a^T, \qquad P = I - \gamma a a^T

    with M the second moment of x around :math:`x_\lambda = x^* + \lambda (\theta - x^*)`. The
    compressor multiplies each coordinate by :math:`1 \pm \sqrt\omega`; batches of one row. Noise
    is what the residuals force, the floor what the compressor does to an exact student, and the
    bias the rest, which the teacher's distance from the optimum brings.

    Args:
        problem: Inputs and targets, of few dimensions.
        distillation_weight: :math:`\lambda`.
        teacher: :math:`\theta`.
        learning_rate: :math:`\gamma`.
        omega: Of the compressor, at least 0.

    Returns:
        Noise, bias and floor [squared distance].

    Example:
        Without a compressor the plain error 5/183 of four points.

        >>> rows = np.array([[1.0], [1], [2], [2]])
        >>> problem = LeastSquares(rows, np.array([2.0, 0, 3, 1]))
        >>> steps = {"learning_rate": 0.05, "omega": 0.0}
        >>> found = compressed_error(problem, 0.0, np.array([1.2]), **steps)
        >>> round(found.noise * 183, 9), found.bias, found.floor
        (5.0, 0.0, 0.0)

    Source:
        Derived; iterate compression is by Khaled and Richtarik (2019), arXiv:1909.04716.
    """
    weight, d = distillation_weight, len(problem.optimum)
    rows = np.asarray(problem.inputs, dtype=np.float64)
    outer = rows[:, :, None] * rows[:, None, :]
    keep = np.eye(d) - learning_rate * outer
    moved = np.einsum("n,nij,nkl->ikjl", problem.shares, keep, keep).reshape(d * d, d * d)
    # omega diag(.) of the second moment of z, as a matrix on vec.
    diagonal = np.zeros((d * d, d * d))
    diagonal[np.arange(d) * (d + 1), np.arange(d) * (d + 1)] = omega
    once = np.eye(d * d) + diagonal

    def settled(forcing: np.ndarray) -> float:
        second = np.linalg.solve(np.eye(d * d) - once @ moved, forcing.ravel())
        return float(np.trace(second.reshape(d, d)))

    # The compressor is unbiased, so the mean of x stays x_lambda, and forces by its square.
    noise = learning_rate**2 * (1 - weight) ** 2
    squares = outer.reshape(-1, d * d).T @ (problem.shares * problem.residuals**2)
    away = weight * (np.asarray(teacher, dtype=np.float64) - problem.optimum)
    middle, exact = problem.optimum + away, problem.optimum
    floor = settled(omega * np.diag(exact**2))
    shifted = settled(omega * np.diag(middle**2))
    return CompressedError(
        noise=settled((once @ squares) * noise),
        bias=float(away @ away) + shifted - floor,
        floor=floor,
    )


def compressed(settings: LabSettings) -> LabResult:
    r"""Check the bound for compressed students, and that distillation leaves their floor.

    Least squares on 400 rows, a compressor that rounds each coordinate at random to
    :math:`1 \pm \sqrt\omega` of it, up to the largest omega of the theorem. The measured error lies
    below the bound everywhere and within 2 % of the exact one; with a perfect teacher at weight 1
    exactly the floor is left.

    Args:
        settings: A quick run takes larger steps, fewer chains, and criteria widened by the chains'
            own spread.

    Returns:
        Checks, and the error over the weight [squared distance] at each omega.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581, theorem 3; constants derived.
    """
    began = time.perf_counter()
    problem, found = example_problem(), measure(settings)
    rate, quick = found["learning_rate"], settings.quick
    checks, curves = [], []
    for place, omega in enumerate(found["omegas"]):
        label = f"omega = {omega:.3g}"
        for kind, teacher in enumerate(found["teachers"]):
            chains = found["distance"][:, kind, place]
            step = {"learning_rate": rate, "omega": omega}
            parts = [compressed_error(problem, w, teacher, **step) for w in WEIGHTS]
            law, means = np.array([part.total for part in parts]), chains.mean(0)
            if kind == 0:  # the perfect teacher
                if omega > 0:
                    error = standard_error(chains[:, -1]) / parts[-1].floor
                    tolerance = widened(CRITERION, error, quick=quick)
                    text = f"{label}, perfect teacher, lambda = 1: the floor is left"
                    checks.append(compare(text, means[-1], parts[-1].floor, tolerance, "relative"))
                continue
            bound = [
                compressed_bound(
                    w,
                    **moments_of_teacher(problem, teacher, 1),
                    **step,
                    mu=problem.mu,
                    kappa=1 / (rate * problem.mu),
                    optimum2=float(problem.optimum @ problem.optimum),
                )
                for w in WEIGHTS
            ]
            ratio = float((means / bound).max())
            checks.append(compare(f"{label}: largest error / bound", ratio, 1.0, 0.0, "at_most"))
            errors = [standard_error(chains[:, i]) / law[i] for i in range(len(WEIGHTS))]
            allowed = np.array([widened(CRITERION, error, quick=quick) for error in errors])
            worst = int(np.argmax(np.abs(means / law - 1) / allowed))
            text = f"{label}: exact law, worst at lambda = {WEIGHTS[worst]:g}"
            checks.append(
                compare(text, means[worst], law[worst], float(allowed[worst]), "relative")
            )
            curves.append(
                LabCurve(
                    label,
                    "distillation weight",
                    "squared distance to the optimum",
                    line(WEIGHTS),
                    line(means),
                    line(law),
                    {"floor of the compressor": line([part.floor for part in parts])},
                )
            )
    return LabResult(
        "compressed",
        tuple(checks),
        tuple(curves),
        found["settings"],
        round(time.perf_counter() - began, 3),
    )


def measure(settings: LabSettings) -> dict[str, Any]:
    """Simulate; return squared distances [chains, teachers, omegas, weights]."""
    size = "quick" if settings.quick else "full"
    problem, (share, steps) = example_problem(), STEPS[size]
    rate = 1 / (share * problem.expected_smoothness)
    spread = np.trace(stationary_covariance(problem, learning_rate=rate, batch_size=1))
    teachers = [problem.optimum + example_direction() * np.sqrt(r * spread) for r in (0.0, RATIO)]
    omegas = [share * rate * problem.mu / 4 for share in SHARES]
    blocks = [mixed(problem.targets, problem.inputs @ theta, WEIGHTS) for theta in teachers]
    targets = np.concatenate([block for block in blocks for _ in omegas], 1)
    compressors = np.tile(np.repeat(omegas, len(WEIGHTS)), len(teachers))
    run = Chains(problem.inputs, targets, rate, 1, problem.optimum, omega=compressors)
    distance = run.average(
        lambda x: ((x - problem.optimum) ** 2).sum(2),
        chains=CHAINS[size],
        steps=steps,
        dropped=FIRST[size],
        every=5,
        seed=(settings.seed, 2),
    )
    return {
        "distance": distance.reshape(-1, len(teachers), len(omegas), len(WEIGHTS)),
        "teachers": teachers,
        "omegas": omegas,
        "learning_rate": rate,
        "settings": {
            "seed": settings.seed,
            "chains": CHAINS[size],
            "steps": steps,
            "dropped": FIRST[size],
            "learning_rate": rate,
            "batch_size": 1,
            "omegas": omegas,
        },
    }
