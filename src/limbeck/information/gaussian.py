"""Decomposition for Gaussian variables: BROJA over Gaussian couplings, with bounds."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from scipy.linalg import cho_factor, cho_solve

from limbeck.checks import DataError, ShapeError, check_between
from limbeck.information.pid import PID


SINGULAR = 1e-10  # share of a variance that must be left when the other side is known
RANK = 1e-11  # of the largest variance; directions with less are constants
ASYMMETRY = 1e-8  # of the scale of a covariance; also how negative an eigenvalue may be
INSIDE = 1.0 - 1e-9  # largest correlation of the noises: at 1 their covariance is singular
ITERATIONS = 5000
NO_GAIN = 1e-9  # below it a direction tells less than 1e-18 nats
MEMORY = 10  # values that the line search looks back on

Matrix = Float[np.ndarray, "_ _"]


def gaussian_pid(
    covariance: Real[np.ndarray, "n n"],
    sizes: tuple[int, int, int],
    *,
    ridge: float = 0.0,
    tolerance: float = 1e-6,
) -> PID:
    r"""Split what teacher and student know about the targets, all of them jointly Gaussian.

    .. math:: I_\cup = \min_{\|\Sigma\| \le 1} \tfrac{1}{2} \log_2 \det\bigl( I + H_S^T H_S
              + B^T (I - \Sigma \Sigma^T)^{-1} B \bigr), \qquad B = H_T - \Sigma H_S

    Teacher and student are channels :math:`T = H_T Y + n_T`, :math:`S = H_S Y + n_S` with white
    noises; :math:`\Sigma` is the correlation of the noises, which the pair marginals leave open.
    The objective is convex, and its Frank-Wolfe gap bounds it from below. Nothing but second
    moments is used: for other variables this is an approximation, and should be called one.

    Args:
        covariance: Covariance matrix of targets, teacher and student, in this order.
        sizes: How many variables each of the three has: (d_y, d_t, d_s).
        ridge: Independent noise that is added to every feature of teacher and student, as a share
            of its variance; at least 0. The result is that of the noisy features.
        tolerance: The gap between the bounds of the union information at which to stop [bits], at
            least 1e-9.

    Returns:
        The decomposition [bits], without a certificate; ``union_bounds`` come from the gap. With
        one target variable it is that of minimum mutual information. Where the gap stays above the
        tolerance, ``status`` says so and what to do.

    Raises:
        ShapeError: If the matrix is not square, or ``sizes`` do not add up to its size.
        DataError: If it is not finite, symmetric and positive semi-definite; if features determine
            a combination of the targets, which makes the information infinite: pass ``ridge``.
        ArgumentError: If ``ridge`` or ``tolerance`` is outside of its range.

    Example:
        T = Y + n and S = Y + n', three noises of variance 1: each alone has half a bit, which is
        shared; together they have log2(3) / 2 = 0.792481 bits.

        >>> found = gaussian_pid(np.array([[1.0, 1, 1], [1, 2, 1], [1, 1, 2]]), (1, 1, 1))
        >>> [round(bits, 6) for bits in (found.distilled, found.distillable, found.synergistic)]
        [0.5, 0.0, 0.292481]

    Note:
        Constant or duplicate features and targets (one-hot labels) are left out first, then those
        directions of teacher and student that are not correlated with the targets: neither changes
        anything. What is left has at most d_y dimensions a side.

    Source:
        Venkatesh, Bennett, Gale, Ramirez, Heller, Durand, Olsen and Mihalas (2023),
        arXiv:2307.10515, for the problem; Barrett (2015), arXiv:1411.2832, for one target. The
        solver (spectral projected gradient of Birgin, Martinez and Raydan, 2000) and the bounds
        are limbeck's.
    """
    check_between("gaussian_pid", 0.0, math.inf, ridge=ridge)
    check_between("gaussian_pid", 1e-9, math.inf, tolerance=tolerance)
    return decomposed(GaussianModel.of("gaussian_pid", covariance, sizes, ridge), tolerance)


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """Informations [nats], ranks, and the gains of the two channels."""

    known: tuple[float, float, float]
    ranks: tuple[int, int, int, int]
    teacher: Matrix
    student: Matrix

    @classmethod
    def of(
        cls,
        where: str,
        covariance: Real[np.ndarray, "n n"],
        sizes: tuple[int, int, int],
        ridge: float,
        samples: int | None = None,
    ) -> GaussianModel:
        """Return the model of a covariance; of a sample covariance where ``samples`` is given."""
        matrix = _checked(where, covariance, sizes)
        targets, end = slice(0, sizes[0]), sizes[0] + sizes[1]
        features = np.arange(sizes[0], len(matrix))
        matrix[features, features] *= 1.0 + ridge
        sides = slice(sizes[0], end), slice(end, None), slice(sizes[0], None)
        of_targets = _whitener(matrix[targets, targets])
        whiteners = [_whitener(matrix[side, side]) for side in sides]
        ranks = [whitener.shape[1] for whitener in (of_targets, *whiteners)]
        if samples is not None and samples <= ranks[0] + ranks[3]:
            raise DataError(
                f"{where}: expected more samples than dimensions; got {samples} samples of "
                f"{ranks[0]} target and {ranks[3]} feature dimensions. Reduce the features, for "
                "instance by PCA, or pass more rows."
            )
        known, gains = [], []
        for side, whitener, owner in zip(
            sides, whiteners, ("the teacher", "the student", "both together"), strict=True
        ):
            cross = whitener.T @ matrix[side, targets] @ of_targets
            _, rho, turned = np.linalg.svd(cross, full_matrices=False)
            left = 1.0 - rho**2
            if (left < SINGULAR).any():
                raise DataError(
                    f"{where}: expected features that leave every combination of the targets some "
                    f"variance; got a share of {left.min():.1e} left by {owner}, which is infinite "
                    "information. Pass `ridge=1e-6` (noise as a share of each feature's variance) "
                    "or fewer features."
                )
            known.append(-0.5 * float(np.log1p(-(rho**2)).sum()))
            gain = rho / np.sqrt(left)
            gains.append((gain[:, None] * turned)[gain > NO_GAIN])
        return cls(tuple(known), tuple(ranks), gains[0], gains[1])


def _checked(
    where: str, covariance: Real[np.ndarray, "n n"], sizes: tuple[int, int, int]
) -> Matrix:
    """Return the covariance of the variables scaled to variance one, zero where they have none."""
    matrix = np.array(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(
            f"{where}: expected a square covariance matrix; got shape {matrix.shape}. "
            "Pass that of targets, teacher and student, in this order."
        )
    if len(sizes) != 3 or min(sizes) < 1 or sum(sizes) != len(matrix):
        raise ShapeError(
            f"{where}: expected sizes (d_y, d_t, d_s), each at least 1, that add up to "
            f"{len(matrix)}; got {tuple(sizes)}. Count the variables of targets, teacher, student."
        )
    if not np.isfinite(matrix).all():
        raise DataError(
            f"{where}: expected finite covariances; got {np.count_nonzero(~np.isfinite(matrix))} "
            "others. Look for what made them."
        )
    variances = matrix.diagonal()
    scale = np.sqrt(np.where(variances > 0, variances, 1.0))
    matrix = matrix / np.outer(scale, scale)
    if np.abs(matrix - matrix.T).max() > ASYMMETRY:
        raise DataError(
            f"{where}: expected a symmetric matrix; got entries that differ from their mirror by "
            f"{np.abs(matrix - matrix.T).max():.1e} of their scale. Pass a covariance matrix."
        )
    matrix = 0.5 * (matrix + matrix.T)
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    if lowest < -ASYMMETRY:
        raise DataError(
            f"{where}: expected a positive semi-definite matrix; got an eigenvalue {lowest:.1e} of "
            "its correlation matrix. Take all covariances from the same samples."
        )
    return matrix


def _whitener(matrix: Matrix) -> Matrix:
    """Return W with W' matrix W = I, for all directions that have variance."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK * max(values[-1], 0.0)
    return vectors[:, kept] / np.sqrt(values[kept])


def decomposed(model: GaussianModel, tolerance: float) -> PID:
    """Return the decomposition in bits."""
    teacher, student, joint = model.known
    limit, bits = tolerance * math.log(2.0), 1.0 / math.log(2.0)
    lower, upper, iterations = _union(model, limit)
    union = min(max(0.5 * (lower + upper), teacher, student), max(joint, teacher, student))
    status = "converged"
    if upper - lower > limit:
        status = (
            f"not converged: the bounds are {(upper - lower) * bits:.1e} bits apart, the tolerance "
            f"is {tolerance:.1e}. The bounds hold all the same; raise `tolerance` to what is "
            "needed, or pass a `ridge`."
        )
    return PID(
        mutual_teacher=teacher * bits,
        mutual_student=student * bits,
        mutual_joint=joint * bits,
        union=union * bits,
        union_bounds=(lower * bits, upper * bits),
        status=status,
        iterations=iterations,
    )


def _union(model: GaussianModel, limit: float) -> tuple[float, float, int]:
    """Return lower and upper bound of the union information [nats] and the steps taken."""
    teacher, student, joint = model.known
    # The union is the same with both exchanged; the side with fewer dimensions goes first.
    first, second = model.teacher, model.student
    if len(first) > len(second):
        first, second = second, first
    lower, upper = max(teacher, student), max(min(joint, teacher + student), teacher, student)
    if upper - lower <= limit:
        return lower, upper, 0
    basis = np.linalg.qr(np.concatenate([first, second]).T)[0]
    channels = _Channels(first @ basis, second @ basis)
    starts = [
        _projected(start)
        for start in (
            first @ np.linalg.pinv(second),
            (second @ np.linalg.pinv(first)).T,
            np.zeros((len(first), len(second))),
        )
    ]
    start = min(starts, key=lambda start: channels(start)[0])
    return _descend(channels, start, lower, upper, limit)


@dataclass(frozen=True, eq=False)
class _Channels:
    """The objective for two channels, with its gradient [nats]."""

    first: Matrix
    second: Matrix

    def __call__(self, noise: Matrix) -> tuple[float, Matrix]:
        difference = self.first - noise @ self.second
        left = cho_factor(np.eye(len(noise)) - noise @ noise.T, lower=True)
        solved = cho_solve(left, difference)
        inner = np.eye(difference.shape[1]) + self.second.T @ self.second + difference.T @ solved
        factor = cho_factor(inner, lower=True)
        half = cho_solve(factor, solved.T).T
        value = float(np.log(np.diag(factor[0])).sum())
        return value, half @ (solved.T @ noise) - half @ self.second.T


def _descend(
    channels: _Channels, start: Matrix, lower: float, upper: float, limit: float
) -> tuple[float, float, int]:
    """Close the bounds by spectral projected gradient steps."""
    at = start
    value, slope = channels(at)
    history = deque([value], maxlen=MEMORY)
    step = 1.0 / max(float(np.abs(slope).max()), 1e-12)
    for iteration in range(ITERATIONS + 1):
        # Convexity: no coupling is better than the best one for the linearised objective.
        gap = float((slope * at).sum()) + float(np.linalg.svd(slope, compute_uv=False).sum())
        lower, upper = max(lower, value - gap), min(upper, value)
        if upper - lower <= limit:
            return min(lower, upper), upper, iteration
        direction = _projected(at - step * slope) - at
        along = float((slope * direction).sum())
        share, target = 1.0, max(history)
        while True:
            new = at + share * direction
            new_value, new_slope = channels(new)
            if new_value <= target + 1e-4 * share * along:
                break
            share *= 0.5
            if share < 1e-12:
                return min(lower, upper), upper, iteration
        moved, turned = new - at, new_slope - slope
        curvature = float((moved * turned).sum())
        step = float((moved**2).sum()) / curvature if curvature > 0 else 1e10
        step = min(max(step, 1e-10), 1e10)
        at, value, slope = new, new_value, new_slope
        history.append(value)
    return min(lower, upper), upper, ITERATIONS


def _projected(noise: Matrix) -> Matrix:
    """Return the nearest matrix whose singular values are inside of the unit ball."""
    left, values, right = np.linalg.svd(noise, full_matrices=False)
    return (left * np.minimum(values, INSIDE)) @ right
