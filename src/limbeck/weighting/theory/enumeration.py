"""Moments of distillation by SGD on least squares, over all batches that can occur."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from limbeck.checks import ArgumentError, check_between, check_positive
from limbeck.weighting.arguments import Number, check_finite
from limbeck.weighting.theory.linear_problem import LeastSquares, checked_vector


MOST_BATCHES = 1_000_000
CHUNK = 4096
DOUBLINGS = 64  # 2^64 steps


@dataclass(frozen=True, eq=False)
class IterateMoments:
    """First and second moment of the parameters after some steps.

    Attributes:
        mean: E x [d].
        second: E (x - x*)(x - x*)' [d, d], with x* the optimum of the task.
    """

    mean: Float[np.ndarray, " d"]
    second: Float[np.ndarray, "d d"]


def propagate_by_enumeration(
    problem: LeastSquares,
    distillation_weight: Number,
    teacher: Real[np.ndarray, " d"],
    *,
    learning_rate: Number,
    batch_size: int,
    steps: Number = math.inf,
    start: Real[np.ndarray, " d"] | None = None,
) -> IterateMoments:
    r"""Return the exact moments of distillation by SGD from all n^B batches.

    .. math:: M_2 \leftarrow E (P M_2 P^T + P m q^T + q m^T P^T + q q^T), \qquad
              m \leftarrow E (P m + q), \qquad P = I - \gamma A_B, \quad
              q = -\frac{\gamma}{B} \sum a (a^T x^* - b_\lambda)

    with :math:`b_\lambda = (1 - \lambda) b + \lambda a^T \theta`. It uses no law of noise, and so
    checks :func:`~limbeck.weighting.theory.least_squares.exact_error` without randomness.

    Args:
        problem: Inputs and targets, few of them.
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        teacher: Parameters of a linear teacher, :math:`\theta`.
        learning_rate: :math:`\gamma`, above 0.
        batch_size: B, at least 1; n^B is at most a million.
        steps: How many, a whole number, at least 0; ``math.inf`` settles.
        start: Parameters before the first step; None starts at the optimum of the task.

    Returns:
        Mean and second moment.

    Raises:
        ShapeError: If ``teacher`` or ``start`` does not fit the inputs.
        DataError: If one of them is not finite.
        ArgumentError: If a number is outside of its range, there are too many batches, or the
            moments do not settle.

    Example:
        Half way between optimum 1 and teacher 1.2; (5/183 + 1/25) / 4 = 77/4575.

        >>> rows = np.array([[1.0], [1], [2], [2]])
        >>> problem = LeastSquares(rows, np.array([2.0, 0, 3, 1]))
        >>> steps = {"learning_rate": 0.05, "batch_size": 1}
        >>> found = propagate_by_enumeration(problem, 0.5, np.array([1.2]), **steps)
        >>> round(float(found.mean[0]), 9), round(float(found.second[0, 0]) * 4575, 6)
        (1.1, 77.0)

    Source:
        Derived, for the linear case of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    where, n = "propagate_by_enumeration", len(problem.targets)
    check_finite(where, distillation_weight=distillation_weight)
    check_positive(where, learning_rate=learning_rate)
    check_between(where, 1.0, math.inf, batch_size=batch_size)
    if steps != math.inf and not (steps >= 0 and steps == int(steps)):
        raise ArgumentError(
            f"{where}: expected `steps` to be a whole number >= 0 or math.inf; got {steps}. "
            "Count the steps."
        )
    if batch_size * math.log(n) > math.log(MOST_BATCHES) + 1e-9:
        raise ArgumentError(
            f"{where}: expected at most {MOST_BATCHES} batches; got {n}^{batch_size}. Use "
            "exact_error, which needs no enumeration, or fewer rows."
        )
    theta = checked_vector(where, problem, "teacher", teacher)
    first = problem.optimum if start is None else checked_vector(where, problem, "start", start)
    d = len(theta)
    # Second moment, mean and the constant one move together by one matrix.
    once = _one_step(problem, distillation_weight, theta, learning_rate, batch_size)
    if steps == math.inf:
        if np.abs(np.linalg.eigvals(once[: d * d, : d * d])).max() >= 1:
            raise ArgumentError(
                f"{where}: expected steps that are stable in mean square; got `learning_rate` "
                f"{learning_rate} at a batch of {batch_size}. Lower it or pass finite `steps`."
            )
        moved = once
        for _ in range(DOUBLINGS):
            moved = moved @ moved
    else:
        moved = np.linalg.matrix_power(once, int(steps))
    away = first - problem.optimum
    after = moved @ np.concatenate([np.outer(away, away).ravel(), away, [1.0]])
    return IterateMoments(
        mean=problem.optimum + after[d * d : -1], second=after[: d * d].reshape(d, d)
    )


def _one_step(
    problem: LeastSquares,
    weight: Number,
    teacher: Float[np.ndarray, " d"],
    learning_rate: Number,
    batch_size: int,
) -> Float[np.ndarray, "k k"]:
    """Return the matrix of one step on (vec M2, m, 1), averaged over all batches."""
    n, d = problem.inputs.shape
    rows = np.asarray(problem.inputs, dtype=np.float64)
    labels = (1 - weight) * problem.targets + weight * (rows @ teacher)
    outers = rows[:, :, None] * rows[:, None, :]
    pulls = rows * (rows @ problem.optimum - labels)[:, None]
    total, square = np.zeros((d * d + d + 1,) * 2), d * d
    for begin in range(0, n**batch_size, CHUNK):
        numbers = np.arange(begin, min(begin + CHUNK, n**batch_size))
        batches = np.stack(np.unravel_index(numbers, (n,) * batch_size), 1)
        odds = problem.shares[batches].prod(1)
        keep = np.eye(d) - learning_rate * outers[batches].mean(1)
        pull = -learning_rate * pulls[batches].mean(1)
        second = np.einsum("b,bij,bkl->ikjl", odds, keep, keep)
        crossed = np.einsum("b,bij,bk->ikj", odds, keep, pull)
        crossed += np.einsum("b,bkj,bi->ikj", odds, keep, pull)
        total[:square, :square] += second.reshape(square, square)
        total[:square, square:-1] += crossed.reshape(square, d)
        total[:square, -1] += np.einsum("b,bi,bk->ik", odds, pull, pull).ravel()
        total[square:-1, square:-1] += np.einsum("b,bij->ij", odds, keep)
        total[square:-1, -1] += odds @ pull
    total[-1, -1] = 1.0  # exactly, also after 2^64 steps
    return total
