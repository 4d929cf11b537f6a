"""A teacher's worth in samples, and weights from it or from an additive objective."""

from __future__ import annotations

import math
from typing import NamedTuple

from limbeck.checks import ArgumentError, check_between
from limbeck.weighting.arguments import Number, check_finite, check_not_negative


def teacher_noise_scale(tr_hh: Number, hbar2: Number) -> float:
    r"""Return the batch size at which a teacher's bias is as large as its noise.

    .. math:: B_T = \mathrm{tr}_{hh} / \|\bar h\|^2

    Distillation pays where B (1 + kappa) is below about :math:`B_T`; where both are equal, half of
    the reduction that the teacher's noise allows is left.

    Args:
        tr_hh: Trace of the covariance of a sample's h = grad(task) - grad(distillation),
            at least 0.
        hbar2: Squared length of the mean of h, at least 0.

    Returns:
        :math:`B_T` [samples], at least 0; infinite without a bias.

    Raises:
        ArgumentError: If a number is negative or not finite, or both are 0: such a teacher
            repeats the labels.

    Example:
        2.59 / 0.25 = 259/25.

        >>> teacher_noise_scale(2.59, 0.25)
        10.36

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_not_negative("teacher_noise_scale", tr_hh=tr_hh, hbar2=hbar2)
    if tr_hh == hbar2 == 0:
        raise ArgumentError(
            "teacher_noise_scale: expected `tr_hh` or `hbar2` above 0; got zeros. The teacher "
            "repeats the labels: there is nothing to weigh."
        )
    return tr_hh / hbar2 if hbar2 > 0 else math.inf


def weight_from_noise_scale(
    unbiased_weight: Number, noise_scale: Number, *, batch_size: int, kappa: Number
) -> float:
    r"""Return the weight of the lowest bound from a teacher's noise scale.

    .. math:: \lambda^* = \frac{\lambda_{cv}}{1 + B (1 + \kappa) / B_T}, \qquad
              \lambda_{cv} = \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{hh}}

    Args:
        unbiased_weight: :math:`\lambda_{cv}`, the best weight without a bias; finite.
        noise_scale: :math:`B_T` [samples], above 0; may be infinite.
        batch_size: B, at least 1.
        kappa: Horizon, at least 0; may be infinite.

    Returns:
        The distillation weight, not clipped; ``unbiased_weight`` where the noise scale is
        infinite.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (250/259) / (1 + 9 * 25/259) = 250/484.

        >>> round(weight_from_noise_scale(250 / 259, 10.36, batch_size=1, kappa=8), 6)
        0.516529

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    where = "weight_from_noise_scale"
    check_finite(where, unbiased_weight=unbiased_weight)
    check_between(where, 1.0, math.inf, batch_size=batch_size)
    check_between(where, 0.0, math.inf, kappa=kappa)
    if not noise_scale > 0:
        raise ArgumentError(
            f"{where}: expected `noise_scale` > 0; got {noise_scale}. A teacher without noise "
            "lowers none: use the weight 0."
        )
    # Infinity over infinity: without a bias no horizon counts.
    spent = 0.0 if noise_scale == math.inf else batch_size * (1 + kappa) / noise_scale
    return unbiased_weight / (1 + spent)


class AlphaWeight(NamedTuple):
    """The weighted form of an additive objective.

    Attributes:
        distillation_weight: Share of the distillation term, in [0, 1).
        step_factor: What the learning rate is to be multiplied by, at least 1.
    """

    distillation_weight: float
    step_factor: float


def weight_from_alpha(alpha: Number) -> AlphaWeight:
    r"""Return the weight and step that make (1 - w) task + w distillation an additive objective.

    .. math:: L_{task} + \alpha L_{dist} = (1 + \alpha)
              \left[ (1 - \lambda) L_{task} + \lambda L_{dist} \right], \qquad
              \lambda = \frac{\alpha}{1 + \alpha}

    Args:
        alpha: Factor of the distillation term beside a task term with the factor 1; at least 0.

    Returns:
        ``distillation_weight`` alpha / (1 + alpha) and ``step_factor`` 1 + alpha: SGD makes the
        same updates with the learning rate multiplied by it.

    Raises:
        ArgumentError: If ``alpha`` is negative or not finite.

    Example:
        3 / 4 and 1 + 3.

        >>> weight_from_alpha(3.0)
        AlphaWeight(distillation_weight=0.75, step_factor=4.0)

    Source:
        Derived.
    """
    check_not_negative("weight_from_alpha", alpha=alpha)
    return AlphaWeight(alpha / (1 + alpha), 1 + alpha)
