"""Cheap figures that people use in place of a decomposition."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict


def rivals(
    targets: Int[np.ndarray, " n"],
    teacher_posteriors: Float[np.ndarray, "n classes"],
    student_posteriors: Float[np.ndarray, "n classes"],
) -> dict[str, float]:
    """Return the student's cross-entropy less the teacher's [bits], the difference and the overlap.

    ``accuracy_difference`` is the teacher's accuracy less the student's, ``agreement`` the share of
    rows where both name the same class.
    """
    index = np.arange(len(targets))
    teacher, student = teacher_posteriors.argmax(1), student_posteriors.argmax(1)
    logs = [
        np.log(np.maximum(p[index, targets], 1e-12).astype(np.float64))
        for p in (teacher_posteriors, student_posteriors)
    ]
    return {
        "cross_entropy_difference": float((logs[0] - logs[1]).mean()) / math.log(2.0),
        "accuracy_difference": float((teacher == targets).mean() - (student == targets).mean()),
        "agreement": float((teacher == student).mean()),
    }


def linear_cka(first: Float[np.ndarray, "n a"], second: Float[np.ndarray, "n b"]) -> float:
    r"""Return linear centred kernel alignment, between 0 and 1; 0 where a side is constant.

    .. math:: \frac{\|X^\top Y\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

    Source:
        Kornblith, Norouzi, Lee and Hinton (2019), arXiv:1905.00414.
    """
    x, y = (rows - rows.mean(0) for rows in (first, second))
    own = float(np.linalg.norm(x.T @ x)) * float(np.linalg.norm(y.T @ y))
    return float(np.square(x.T @ y).sum()) / own if own > 0 else 0.0


def held_out_r2(targets: np.ndarray, features: Float[np.ndarray, "n d"]) -> float:
    """Return the share of the targets' variance that ridge regression explains on held-out rows.

    Integer targets are taken as classes, one column each.
    """
    wanted = np.eye(int(targets.max()) + 1)[targets] if targets.dtype.kind in "iu" else targets
    wanted = wanted.reshape(len(wanted), -1).astype(np.float64)
    rows = KFold(5, shuffle=True, random_state=0)
    said = cross_val_predict(RidgeCV(np.logspace(-3, 6, 10)), features, wanted, cv=rows)
    left = np.square(wanted - np.asarray(said).reshape(wanted.shape)).sum()
    return float(1.0 - left / np.square(wanted - wanted.mean(0)).sum())
