"""Gaussian decomposition of samples, with the bias of their covariance taken off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from scipy.special import digamma

from limbeck.checks import DataError, ShapeError, check_between
from limbeck.information.gaussian import GaussianModel, decomposed
from limbeck.information.pid import PID


Matrix = Float[np.ndarray, "_ _"]


@dataclass(frozen=True, eq=False)
class GaussianEstimate:
    """Gaussian decomposition of samples, before and after correction of its bias; all in bits.

    Attributes:
        raw: From the sample covariance as it is.
        corrected: From the three informations and the union information less their bias. Only its
            numbers differ; status and iterations are those of ``raw``.
        bias: What was taken off I(Y;T), I(Y;S) and I(Y;T,S), before clipping at zero [bits].
        samples: How many samples there were.
        ranks: How many dimensions targets, teacher, student, and teacher and student together have.
    """

    raw: PID
    corrected: PID
    bias: tuple[float, float, float]
    samples: int
    ranks: tuple[int, int, int, int]


def gaussian_pid_from_samples(
    targets: Real[np.ndarray, "n ..."],
    teacher_features: Real[np.ndarray, "n t"],
    student_features: Real[np.ndarray, "n s"],
    *,
    ridge: float = 0.0,
    tolerance: float = 1e-6,
) -> GaussianEstimate:
    r"""Estimate :func:`gaussian_pid` from samples and take the bias of the covariance off.

    .. math:: E[\hat I(U;V)] - I(U;V) = b(d_u) + b(d_v) - b(d_u + d_v), \qquad
              b(d) = \frac{1}{2 \ln 2} \sum_{k=1}^{d} \Bigl( \psi\Bigl(\frac{n-k}{2}\Bigr)
                     - \ln\frac{n}{2} \Bigr)

    This is exact for Gaussian samples, whatever their covariance. The union information has no
    such formula: it is scaled by the factor that I(Y;T,S) is, then put between what the corrected
    informations allow.

    Args:
        targets: n class labels as integers, which are turned into one-hot vectors; or floats, n
            numbers or n vectors, for regression.
        teacher_features: One row a sample.
        student_features: One row a sample.
        ridge: See :func:`gaussian_pid`. The bias of a ridged covariance is smaller than what is
            taken off.
        tolerance: See :func:`gaussian_pid`.

    Returns:
        Raw and corrected decomposition [bits]. Class labels are not Gaussian, nor are features in
        general: a baseline, to be labelled as such.

    Raises:
        ShapeError: If the numbers of rows differ, or features are not matrices.
        DataError: If values are not finite; if there are not more samples than dimensions; if
            features determine a combination of the targets: pass ``ridge``.
        ArgumentError: If ``ridge`` or ``tolerance`` is outside of its range.

    Example:
        Features that are the same for both: all is shared, before and after the correction.

        >>> rows = np.random.default_rng(0).normal(size=(100, 3))
        >>> found = gaussian_pid_from_samples(rows[:, 0] + rows[:, 1], rows[:, 1:], rows[:, 1:])
        >>> [round(found.corrected.distillable, 9), round(found.corrected.unique_student, 9)]
        [0.0, 0.0]
        >>> found.ranks
        (1, 2, 2, 2)

    Source:
        Goodman (1963) for the mean of a log-determinant of a Wishart matrix; Venkatesh et al.
        (2023), arXiv:2307.10515, take :math:`\ln\frac{n-k}{n}`, which is its leading term, and
        scale the union information in this way.
    """
    name = "gaussian_pid_from_samples"
    check_between(name, 0.0, math.inf, ridge=ridge)
    check_between(name, 1e-9, math.inf, tolerance=tolerance)
    parts = _columns(name, targets, teacher_features, student_features)
    rows = np.concatenate(parts, 1)
    samples = len(rows)
    rows = rows - rows.mean(0)
    sizes = (parts[0].shape[1], parts[1].shape[1], parts[2].shape[1])
    model = GaussianModel.of(name, rows.T @ rows / samples, sizes, ridge, samples)
    of_targets, of_teacher, of_student, of_both = model.ranks
    raw = decomposed(model, tolerance)
    bias = (
        wishart_bias(of_targets, of_teacher, samples),
        wishart_bias(of_targets, of_student, samples),
        wishart_bias(of_targets, of_both, samples),
    )
    return GaussianEstimate(raw, _less_biased(raw, bias), bias, samples, model.ranks)


def wishart_bias(first: int, second: int, samples: int) -> float:
    """Return how much too large the mutual information of two Gaussian vectors is estimated.

    Args:
        first: Dimensions of the one.
        second: Dimensions of the other.
        samples: Number of samples, more than ``first + second``.

    Returns:
        The mean excess of the plug-in value [bits], which does not depend on the covariance.

    Example:
        For one dimension each it is close to 1 / (2 n ln 2) = 0.0072 at n = 100.

        >>> round(wishart_bias(1, 1, 100), 4)
        0.0074
    """

    def half_logs(width: int) -> float:
        return 0.5 * float(digamma(0.5 * (samples - np.arange(1, width + 1))).sum())

    return (half_logs(first) + half_logs(second) - half_logs(first + second)) / math.log(2.0)


def _columns(
    where: str,
    targets: Real[np.ndarray, "n ..."],
    teacher: Real[np.ndarray, "n t"],
    student: Real[np.ndarray, "n s"],
) -> list[Matrix]:
    """Return targets, teacher and student as matrices of one row a sample."""
    labels = np.asarray(targets)
    if labels.dtype.kind in "iu" and labels.ndim == 1:
        labels = (labels[:, None] == np.unique(labels)).astype(np.float64)
    elif labels.ndim == 1:
        labels = labels[:, None]
    parts = [np.asarray(part) for part in (labels, teacher, student)]
    shapes = [part.shape for part in parts]
    if any(len(shape) != 2 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ShapeError(
            f"{where}: expected matrices with one row a sample; got targets {np.shape(targets)}, "
            f"teacher {shapes[1]}, student {shapes[2]}. Pool or flatten features first."
        )
    parts = [part.astype(np.float64) for part in parts]
    if not all(np.isfinite(part).all() for part in parts) or not len(parts[0]):
        raise DataError(
            f"{where}: expected finite values in at least one row; got {len(parts[0])} rows, some "
            "not finite. Drop those samples or look for what made them."
        )
    return parts


def _less_biased(raw: PID, bias: tuple[float, ...]) -> PID:
    """Return the decomposition with bias taken off, kept consistent [bits]."""
    plain = raw.mutual_teacher, raw.mutual_student, raw.mutual_joint
    teacher, student, joint = (
        max(value - off, 0.0) for value, off in zip(plain, bias, strict=True)
    )
    joint = max(joint, teacher, student)
    factor = joint / raw.mutual_joint if raw.mutual_joint > 0 else 1.0

    def allowed(value: float) -> float:
        return min(max(value * factor, teacher, student), joint, teacher + student)

    low, high = raw.union_bounds
    return PID(
        mutual_teacher=teacher,
        mutual_student=student,
        mutual_joint=joint,
        union=allowed(raw.union),
        union_bounds=(allowed(low), allowed(high)),
        status=raw.status,
        iterations=raw.iterations,
    )
