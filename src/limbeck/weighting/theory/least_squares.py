"""Distillation of a linear model by SGD, solved exactly: every step size, batch and norm."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Real
from scipy.linalg import eigh

from limbeck.checks import (
    ArgumentError,
    DataError,
    ShapeError,
    check_between,
    check_choice,
    check_positive,
)
from limbeck.weighting.arguments import Number, check_finite
from limbeck.weighting.theory.linear_problem import LeastSquares, Matrix, checked_vector


MOST_DIMENSIONS = 48  # the stationary covariance solves a system of their square
Norm = Literal["distance", "loss"]


def stationary_covariance(
    problem: LeastSquares, *, learning_rate: Number, batch_size: int
) -> Matrix:
    r"""Return the covariance at which plain SGD on least squares settles.

    .. math:: \left[ \gamma (I \otimes H + H \otimes I) - \gamma^2 \left( \tfrac{1}{B}
              E[a a^T \otimes a a^T] + (1 - \tfrac{1}{B}) H \otimes H \right) \right]
              \mathrm{vec}(S) = \tfrac{\gamma^2}{B} \mathrm{vec}(E[e^2 a a^T])

    Args:
        problem: Inputs and targets, of at most 48 dimensions.
        learning_rate: :math:`\gamma`, above 0 and small enough for a covariance to exist.
        batch_size: B, at least 1; rows are drawn independently.

    Returns:
        S = E (x - x*)(x - x*)' [squared parameter]; zero where the residuals are.

    Raises:
        ArgumentError: If a number is outside of its range, or the steps are too large: the
            error states the limit.
        DataError: If the problem has more than 48 dimensions.

    Example:
        In one dimension (gamma / B) E[a^2 e^2] / (2 H - gamma (E a^4 / B + (1 - 1/B) H^2)):
        0.05 * 2.5 / (5 - 0.05 * 8.5) = 5/183.

        >>> rows = np.array([[1.0], [1], [2], [2]])
        >>> problem = LeastSquares(rows, np.array([2.0, 0, 3, 1]))
        >>> spread = stationary_covariance(problem, learning_rate=0.05, batch_size=1)
        >>> round(float(spread[0, 0]) * 183, 9)
        5.0

    Source:
        Derived; the stationary second moments of SGD with constant steps.
    """
    where = "stationary_covariance"
    check_positive(where, learning_rate=learning_rate)
    check_between(where, 1.0, float("inf"), batch_size=batch_size)
    d = len(problem.optimum)
    if d > MOST_DIMENSIONS:
        raise DataError(
            f"{where}: expected at most {MOST_DIMENSIONS} dimensions; got {d}. Project the inputs, "
            "or simulate."
        )
    rows, hessian = np.asarray(problem.inputs, dtype=np.float64), problem.hessian
    outer = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), d * d)
    fourth = outer.T @ (problem.shares[:, None] * outer) / batch_size
    fourth += (1 - 1 / batch_size) * np.kron(hessian, hessian)
    drift = np.kron(np.eye(d), hessian) + np.kron(hessian, np.eye(d))
    bracket = learning_rate * drift - learning_rate**2 * fourth
    if np.abs(np.linalg.eigvalsh(np.eye(d * d) - bracket)).max() >= 1:
        limit = 1 / eigh(fourth, drift, eigvals_only=True)[-1]
        raise ArgumentError(
            f"{where}: expected steps that are stable in mean square, `learning_rate` below "
            f"{limit:.6g} at a batch of {batch_size}; got {learning_rate}. Lower it or raise "
            "`batch_size`."
        )
    noise = outer.T @ (problem.shares * problem.residuals**2) * learning_rate**2 / batch_size
    spread = np.linalg.solve(bracket, noise).reshape(d, d)
    return 0.5 * (spread + spread.T)


def exact_error(
    problem: LeastSquares,
    distillation_weight: Number,
    teacher: Real[np.ndarray, " d"],
    *,
    learning_rate: Number,
    batch_size: int,
    norm: Norm | Real[np.ndarray, "d d"] = "distance",
) -> float:
    r"""Return the error at which distillation by SGD settles, in least squares.

    .. math:: E \|x - x^*\|_M^2 = \lambda^2 \|\theta - x^*\|_M^2 + (1 - \lambda)^2 S_M,
              \qquad S_M = \mathrm{tr}(M S)

    Args:
        problem: Inputs and targets.
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        teacher: Parameters of a linear teacher, :math:`\theta`.
        learning_rate: :math:`\gamma`, as for :func:`stationary_covariance`.
        batch_size: B, at least 1.
        norm: M: "distance" is the identity, "loss" half the Hessian, or a symmetric matrix.

    Returns:
        The error, at least 0: squared distance, excess loss, or in the unit of the matrix.

    Raises:
        ShapeError: If the teacher or the matrix does not fit the inputs.
        ArgumentError: If an argument is outside of its range, or the steps are not stable.
        DataError: If the teacher or the matrix is not finite.

    Example:
        The plain squared distance 5/183 and a teacher 0.2 away: (5/183 + 1/25) / 4 = 77/4575.

        >>> rows = np.array([[1.0], [1], [2], [2]])
        >>> problem = LeastSquares(rows, np.array([2.0, 0, 3, 1]))
        >>> steps = {"learning_rate": 0.05, "batch_size": 1}
        >>> round(exact_error(problem, 0.5, np.array([1.2]), **steps) * 4575, 6)
        77.0

    Source:
        Derived, for the linear case of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_finite("exact_error", distillation_weight=distillation_weight)
    noise, bias = _parts("exact_error", problem, teacher, learning_rate, batch_size, norm)
    return distillation_weight**2 * bias + (1 - distillation_weight) ** 2 * noise


def exact_weight(
    problem: LeastSquares,
    teacher: Real[np.ndarray, " d"],
    *,
    learning_rate: Number,
    batch_size: int,
    norm: Norm | Real[np.ndarray, "d d"] = "distance",
) -> float:
    r"""Return the weight at which :func:`exact_error` is lowest.

    .. math:: \lambda^* = \frac{S_M}{S_M + \|\theta - x^*\|_M^2}, \qquad
              \frac{1}{\mathrm{err}^*} = \frac{1}{S_M} + \frac{1}{\|\theta - x^*\|_M^2}

    Args:
        problem: Inputs and targets.
        teacher: Parameters of a linear teacher, :math:`\theta`.
        learning_rate: :math:`\gamma`, as for :func:`stationary_covariance`.
        batch_size: B, at least 1.
        norm: M, as for :func:`exact_error`, positive semi-definite; the weight depends on it.

    Returns:
        The distillation weight, in [0, 1]; one minus it is the share of plain SGD's error left.

    Raises:
        ShapeError: If the teacher or the matrix does not fit the inputs.
        ArgumentError: If an argument is outside of its range, or the steps are not stable.
        DataError: If teacher or matrix is not finite, or SGD and teacher are both without error.

    Example:
        Squared distances 5/183 and 1/25: 125 / (125 + 183).

        >>> rows = np.array([[1.0], [1], [2], [2]])
        >>> problem = LeastSquares(rows, np.array([2.0, 0, 3, 1]))
        >>> steps = {"learning_rate": 0.05, "batch_size": 1}
        >>> round(exact_weight(problem, np.array([1.2]), **steps) * 308, 6)
        125.0

    Source:
        Derived: weighting by inverse variances.
    """
    noise, bias = _parts("exact_weight", problem, teacher, learning_rate, batch_size, norm)
    if noise + bias <= 0:
        raise DataError(
            "exact_weight: expected SGD or a teacher with an error above 0; got none. Every weight "
            "gives the optimum: use any."
        )
    return noise / (noise + bias)


def _parts(
    where: str,
    problem: LeastSquares,
    teacher: Real[np.ndarray, " d"],
    learning_rate: Number,
    batch_size: int,
    norm: Norm | Real[np.ndarray, "d d"],
) -> tuple[float, float]:
    """Return S_M and the teacher's squared distance from the optimum in the norm M."""
    away = checked_vector(where, problem, "teacher", teacher) - problem.optimum
    matrix = _matrix(where, problem, norm)
    spread = stationary_covariance(problem, learning_rate=learning_rate, batch_size=batch_size)
    return float(np.sum(matrix * spread)), float(away @ matrix @ away)


def _matrix(where: str, problem: LeastSquares, norm: Norm | Real[np.ndarray, "d d"]) -> Matrix:
    if isinstance(norm, str):
        check_choice(where, "norm", norm, ("distance", "loss"))
        return np.eye(len(problem.optimum)) if norm == "distance" else 0.5 * problem.hessian
    if np.shape(norm) != np.shape(problem.hessian):
        raise ShapeError(
            f"{where}: expected `norm` of shape {np.shape(problem.hessian)}; got shape "
            f"{np.shape(norm)}. Pass a matrix over the parameters, 'distance' or 'loss'."
        )
    if not np.isfinite(norm).all() or not np.allclose(norm, norm.T):
        raise DataError(
            f"{where}: expected a finite symmetric `norm`; got another. Pass (M + M') / 2."
        )
    return np.asarray(norm, dtype=np.float64)
