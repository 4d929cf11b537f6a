"""Weights of several teachers at once."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from limbeck.checks import ArgumentError, DataError, ShapeError, check_between, check_positive
from limbeck.weighting.arguments import Number, check_not_negative
from limbeck.weighting.theory.step_laws import effective_learning_rate


MOST_TEACHERS = 10  # the programme tries every set of them
SINGULAR = 1e-12  # of the largest entry: directions with smaller eigenvalues count as none
SLACK = 1e-9  # how far rounding may leave the simplex
INDEFINITE = 1e-9  # of the largest entry: how negative an eigenvalue may be
SAME = 1e-12  # objectives this close are equal: the shorter weights are taken

Vector = Real[np.ndarray, " teachers"]
Square = Real[np.ndarray, "teachers teachers"]


@dataclass(frozen=True, eq=False)
class TeacherWeights:
    """Weights of several teachers.

    Attributes:
        weights: The share of each teacher's term, at least 0; the task keeps one minus their sum.
        noise_left: Share of the gradient noise of plain training that is left, at least 0.
        unconstrained: The solution of the linear system, which may leave the simplex; of least
            norm where teachers repeat each other.
    """

    weights: Float[np.ndarray, " teachers"]
    noise_left: float
    unconstrained: Float[np.ndarray, " teachers"]


def teacher_weights(
    tr_gg: Number,
    tr_gh: Vector,
    tr_hh: Square,
    hbar_products: Square,
    *,
    batch_size: int,
    kappa: Number,
) -> TeacherWeights:
    r"""Return the weights of least noise plus bias over a horizon.

    .. math:: (C_{hh} + B (1 + \kappa) \bar H^T \bar H) \lambda = c, \qquad
              \lambda_j \ge 0, \quad \sum_j \lambda_j \le 1

    Where the solution leaves the simplex, the best weights inside of it are found exactly, by
    trying every set of teachers. Biases in opposite directions cancel.

    Args:
        tr_gg: Variance of a sample's task gradient, above 0.
        tr_gh: c, its covariance with each teacher's h = grad(task) - grad(distillation).
        tr_hh: :math:`C_{hh}`, covariances of the teachers' h with each other, of a sample.
        hbar_products: Inner products of the means of h.
        batch_size: B, at least 1.
        kappa: Horizon, finite, at least 0.

    Returns:
        Weights and noise left. All weights 0 mean that no teacher helps.

    Raises:
        ShapeError: If the arrays do not fit each other.
        DataError: If they are not finite, or matrices not symmetric and positive semi-definite.
        ArgumentError: If a number is outside of its range, or more than 10 teachers leave the
            simplex.

    Example:
        Two teachers with opposite biases: half each, and no noise is left, as
        1 - 2 * 2.5 / 2.5 + (2.59 + 2.41) / 2 / 2.5 = 0.

        >>> found = teacher_weights(
        ...     2.5,
        ...     np.array([2.5, 2.5]),
        ...     np.array([[2.59, 2.41], [2.41, 2.59]]),
        ...     np.array([[0.25, -0.25], [-0.25, 0.25]]),
        ...     batch_size=1,
        ...     kappa=8,
        ... )
        >>> [round(float(weight), 9) for weight in found.weights], round(found.noise_left, 9)
        ([0.5, 0.5], 0.0)

    Source:
        Derived; one teacher as in Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    where = "teacher_weights"
    check_between(where, 1.0, math.inf, batch_size=batch_size)
    check_not_negative(where, kappa=kappa)
    factor = batch_size * (1.0 + kappa)
    return _weighed(where, tr_gg, tr_gh, tr_hh, hbar_products, factor)


def teacher_loss_weights(
    tr_gg: Number,
    tr_gh: Vector,
    tr_hh: Square,
    bias: Square,
    *,
    learning_rate: Number,
    batch_size: int,
    momentum: Number = 0.0,
) -> TeacherWeights:
    r"""Return the weights of least excess loss.

    .. math:: \left( C_{hh} + \frac{4 B}{\gamma} D \right) \lambda = c, \qquad
              D_{jk} = \tfrac{1}{2} \bar h_j^T H^{-1} \bar h_k

    Args:
        tr_gg: Variance of a sample's task gradient, above 0.
        tr_gh: c, its covariance with each teacher's h = grad(task) - grad(distillation).
        tr_hh: :math:`C_{hh}`, covariances of the teachers' h with each other, of a sample.
        bias: D [unit of the loss], symmetric positive semi-definite.
        learning_rate: :math:`\gamma`, above 0.
        batch_size: B, at least 1.
        momentum: Of u <- mom u + grad, in [0, 1).

    Returns:
        Weights and noise left, as :func:`teacher_weights`.

    Raises:
        ShapeError: If the arrays do not fit each other.
        DataError: If they are not finite, or matrices not symmetric and positive semi-definite.
        ArgumentError: If a number is outside of its range, or more than 10 teachers leave the
            simplex.

    Example:
        One teacher: 2.5 / (2.59 + 80 * 0.05) = 250/659.

        >>> one = np.array([2.5]), np.array([[2.59]]), np.array([[0.05]])
        >>> found = teacher_loss_weights(2.5, *one, learning_rate=0.05, batch_size=1)
        >>> round(float(found.weights[0]), 6)
        0.379363

    Source:
        Derived; one teacher as in :func:`~limbeck.weighting.theory.laws.loss_weight`.
    """
    where = "teacher_loss_weights"
    check_between(where, 1.0, math.inf, batch_size=batch_size)
    factor = 4 * batch_size / effective_learning_rate(learning_rate, momentum=momentum)
    return _weighed(where, tr_gg, tr_gh, tr_hh, bias, factor)


def _weighed(
    where: str, tr_gg: Number, tr_gh: Vector, tr_hh: Square, bias: Square, factor: float
) -> TeacherWeights:
    check_positive(where, tr_gg=tr_gg)
    shared = np.asarray(tr_gh, dtype=np.float64)
    noise, bent = (
        _checked(where, len(np.atleast_1d(shared)), name, matrix)
        for name, matrix in (("tr_hh", tr_hh), ("the biases", bias))
    )
    if shared.ndim != 1 or not len(shared):
        raise ShapeError(
            f"{where}: expected `tr_gh` with one number a teacher, at least one; got shape "
            f"{shared.shape}. Pass a vector."
        )
    if not np.isfinite(shared).all():
        raise DataError(f"{where}: expected finite `tr_gh`; got {shared}. Look for what made it.")
    whole = noise + factor * bent
    solved = _least_norm(whole, shared, np.abs(whole).max())
    missed = np.abs(whole @ solved - shared).max(initial=0.0)
    if _inside(solved) and missed <= SLACK * np.abs(shared).max():
        weights = _clipped(solved)
    else:
        weights = _in_simplex(where, whole, shared)
    left = 1 - 2 * weights @ shared / tr_gg + weights @ noise @ weights / tr_gg
    return TeacherWeights(weights, max(float(left), 0.0), solved)


def _in_simplex(
    where: str, whole: Float[np.ndarray, "m m"], shared: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Return the minimum of w'Qw / 2 - c'w over the simplex: the best of all active sets.

    The minimum is that of the plane through the smallest face that holds it, so that one of the
    sets finds it; all others only offer weights that are no better.
    """
    m = len(shared)
    if m > MOST_TEACHERS:
        raise ArgumentError(
            f"{where}: expected at most {MOST_TEACHERS} teachers whose best weights leave the "
            f"simplex; got {m}. Drop those that help least alone."
        )
    scale = np.abs(shared).max()  # above 0: zeros have the solution 0, which is inside
    best, lowest = np.zeros(m), 0.0
    for size in range(1, m + 1):
        for chosen in itertools.combinations(range(m), size):
            part, pull = whole[np.ix_(chosen, chosen)] / scale, shared[list(chosen)] / scale
            free = _least_norm(part, pull, np.abs(part).max())
            for offered in filter(_inside, (free, _on_sum_one(part, pull))):
                offered = _clipped(offered)
                value = 0.5 * offered @ part @ offered - pull @ offered
                closer = np.sum(offered**2) < np.sum(best**2) - SAME
                if value < lowest - SAME or (value < lowest + SAME and closer):
                    best, lowest = np.zeros(m), value
                    best[list(chosen)] = offered
    return best


def _inside(weights: Float[np.ndarray, " k"]) -> bool:
    return bool(weights.min() >= -SLACK and weights.sum() <= 1 + SLACK)


def _clipped(weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return weights that rounding left just outside of the simplex, put back onto it."""
    positive = weights.clip(0.0)
    return positive / max(positive.sum(), 1.0)


def _on_sum_one(
    part: Float[np.ndarray, "k k"], pull: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    middle = np.full(len(pull), 1 / len(pull))
    # Orthonormal directions that keep the sum, so that the least norm is that of the weights.
    along = np.linalg.svd(np.ones((1, len(pull))))[2][1:].T
    slope = along.T @ (pull - part @ middle)
    return middle + along @ _least_norm(along.T @ part @ along, slope, np.abs(part).max())


def _least_norm(
    matrix: Float[np.ndarray, "k k"], right: Float[np.ndarray, " k"], scale: float
) -> Float[np.ndarray, " k"]:
    """Solve a symmetric system, by least norm in directions that are nothing on this scale."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > SINGULAR * scale
    return vectors[:, kept] @ (vectors[:, kept].T @ right / values[kept])


def _checked(where: str, teachers: int, name: str, matrix: Square) -> Float[np.ndarray, "m m"]:
    if np.shape(matrix) != (teachers, teachers):
        raise ShapeError(
            f"{where}: expected {name} of shape {(teachers, teachers)}; got shape "
            f"{np.shape(matrix)}. Pass one row and column a teacher."
        )
    values = np.asarray(matrix, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            f"{where}: expected {name} to be finite; got "
            f"{np.count_nonzero(~np.isfinite(values))} other values. Look for what made them."
        )
    slack = INDEFINITE * np.abs(values).max(initial=0.0)
    if np.abs(values - values.T).max(initial=0.0) > slack or (
        teachers and np.linalg.eigvalsh(values)[0] < -slack * teachers
    ):
        raise DataError(
            f"{where}: expected {name} to be a symmetric positive semi-definite matrix; got "
            "another. Take all entries from the same samples; clip negative eigenvalues of an "
            "unbiased estimate at 0."
        )
    return 0.5 * (values + values.T)
