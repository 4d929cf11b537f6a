"""Distillation of a sparse linear student by a dense linear teacher that fits best."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real

from limbeck.checks import DataError, ShapeError
from limbeck.weighting.arguments import Number
from limbeck.weighting.theory.laws import noise_floor, noise_left


Vector = Real[np.ndarray, " n"]


def mask_excess(
    distillation_weight: Number,
    *,
    squares: Vector,
    student_residuals: Vector,
    teacher_residuals: Vector,
    learning_rate: Number,
    batch_size: int,
    momentum: Number = 0.0,
) -> float:
    r"""Return the excess loss at which a masked linear student levels off.

    .. math:: \frac{\gamma}{4 B} E \, \|a_m\|^2 (e_m - \lambda e)^2

    The loss is half the squared error. A dense linear teacher at its optimum is unbiased for every
    sub-model, so the weight moves noise only. To leading order in the learning rate.

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        squares: Squared length of the inputs that the mask keeps, one a sample, at least 0.
        student_residuals: Targets minus predictions at the best masked student.
        teacher_residuals: Targets minus predictions of the dense teacher.
        learning_rate: :math:`\gamma`, above 0.
        batch_size: B, at least 1.
        momentum: Of u <- mom u + grad, in [0, 1).

    Returns:
        The excess over the best masked student [unit of the loss], at least 0.

    Raises:
        ShapeError: If the arrays are not vectors of one length.
        DataError: If they are empty, not finite, or ``squares`` has negative values.
        ArgumentError: If a number is outside of its range.

    Example:
        Squares (4, 4), e_m = (-2, 1), e = (-1, 1): 0.1 / 4 * (4 * 1.5^2 + 4 * 0.5^2) / 2.

        >>> rows = {"squares": np.array([4.0, 4.0]), "student_residuals": np.array([-2.0, 1.0])}
        >>> rows["teacher_residuals"] = np.array([-1.0, 1.0])
        >>> round(mask_excess(0.5, **rows, learning_rate=0.1, batch_size=1), 9)
        0.125

    Source:
        Derived; sparse students with a fixed mask are those of the code of Safaryan, Peste and
        Alistarh (2023), arXiv:2305.17581.
    """
    where = "mask_excess"
    tr_gg, tr_gh, tr_hh = _moments(where, squares, student_residuals, teacher_residuals)
    step = {"learning_rate": learning_rate, "batch_size": batch_size, "momentum": momentum}
    if tr_gg == 0:  # the student fits: only the teacher's noise is there
        return noise_floor(distillation_weight**2 * tr_hh, **step)
    left = noise_left(distillation_weight, tr_gg=tr_gg, tr_gh=tr_gh, tr_hh=tr_hh)
    return left * noise_floor(tr_gg, **step)


def mask_weight(*, squares: Vector, student_residuals: Vector, teacher_residuals: Vector) -> float:
    r"""Return the weight at which a masked linear student is best.

    .. math:: \lambda_{cv} = \frac{E \, \|a_m\|^2 e_m e}{E \, \|a_m\|^2 e^2}

    Args:
        squares: Squared length of the inputs that the mask keeps, one a sample, at least 0.
        student_residuals: Targets minus predictions at the best masked student.
        teacher_residuals: Targets minus predictions of the dense teacher at its optimum.

    Returns:
        The distillation weight, not clipped.

    Raises:
        ShapeError: If the arrays are not vectors of one length.
        DataError: If they are empty, not finite, ``squares`` has negative values, or the teacher
            has no residual where the student has inputs.

    Example:
        Squares (4, 4), e_m = (-2, 1), e = (-1, 1): (4 * 2 + 4) / (4 + 4) = 1.5.

        >>> rows = {"squares": np.array([4.0, 4.0]), "student_residuals": np.array([-2.0, 1.0])}
        >>> mask_weight(**rows, teacher_residuals=np.array([-1.0, 1.0]))
        1.5

    Source:
        Derived, as :func:`mask_excess`.
    """
    _, tr_gh, tr_hh = _moments("mask_weight", squares, student_residuals, teacher_residuals)
    if tr_hh == 0:
        raise DataError(
            "mask_weight: expected a teacher with residuals where the student has inputs; got none "
            "above 0. It repeats the labels, so every weight is plain training: use any."
        )
    return tr_gh / tr_hh


def mask_factor(*, squares: Vector, student_residuals: Vector, teacher_residuals: Vector) -> float:
    r"""Return the excess loss at :func:`mask_weight` as a share of that without distillation.

    .. math:: 1 - \rho^2 = 1 - \frac{(E \, \|a_m\|^2 e_m e)^2}
              {E \, \|a_m\|^2 e_m^2 \; E \, \|a_m\|^2 e^2}

    Args:
        squares: Squared length of the inputs that the mask keeps, one a sample, at least 0.
        student_residuals: Targets minus predictions at the best masked student.
        teacher_residuals: Targets minus predictions of the dense teacher at its optimum.

    Returns:
        The factor, in [0, 1]: 0 where all noise goes, 1 where distillation gains nothing, as with
        a teacher that repeats the labels.

    Raises:
        ShapeError: If the arrays are not vectors of one length.
        DataError: If they are empty, not finite, ``squares`` has negative values, or the student
            has no residual where it has inputs.

    Example:
        Squares (4, 4), e_m = (-2, 1), e = (-1, 1): 1 - 12^2 / (20 * 8) = 0.1.

        >>> rows = {"squares": np.array([4.0, 4.0]), "student_residuals": np.array([-2.0, 1.0])}
        >>> round(mask_factor(**rows, teacher_residuals=np.array([-1.0, 1.0])), 9)
        0.1

    Source:
        Derived, as :func:`mask_excess`.
    """
    where = "mask_factor"
    tr_gg, tr_gh, tr_hh = _moments(where, squares, student_residuals, teacher_residuals)
    if tr_gg == 0:
        raise DataError(
            f"{where}: expected a student with residuals where it has inputs; got none above "
            "0. Without noise there is nothing to reduce: train without distillation."
        )
    share = tr_gh / tr_gg * (tr_gh / tr_hh) if tr_hh > 0 else 0.0
    return min(max(1.0 - share, 0.0), 1.0)


def _moments(
    where: str, squares: Vector, student: Vector, teacher: Vector
) -> tuple[float, float, float]:
    """Return tr_gg, tr_gh and tr_hh of a sample; both means are zero at the two optima."""
    shapes = [np.shape(array) for array in (squares, student, teacher)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ShapeError(
            f"{where}: expected three vectors of one length; got shapes "
            f"{', '.join(map(str, shapes))}. Pass one number a sample."
        )
    rows: Float[np.ndarray, "3 n"] = np.array([squares, student, teacher], dtype=np.float64)
    if not rows.size or not np.isfinite(rows).all() or rows[0].min() < 0:
        raise DataError(
            f"{where}: expected finite rows of at least one sample, `squares` >= 0; got "
            f"{rows.shape[1]} samples, {np.count_nonzero(~np.isfinite(rows))} values not finite, "
            f"{np.count_nonzero(rows[0] < 0)} negative squares. Pass squared lengths."
        )
    kept, e_m, e = rows
    return (
        float(np.mean(kept * e_m**2)),
        float(np.mean(kept * e_m * e)),
        float(np.mean(kept * e**2)),
    )
