"""Small-step laws of the distillation weight: the noise floor, the teacher's bias, their balance.

They hold near an optimum of any loss, to leading order in the step size; per-sample moments.
"""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError, check_between, check_positive
from limbeck.weighting.arguments import (
    Number,
    check_finite,
    check_not_negative,
    check_traces,
)
from limbeck.weighting.theory.step_laws import effective_learning_rate


def noise_floor(
    tr_gg: Number, *, learning_rate: Number, batch_size: int, momentum: Number = 0.0
) -> float:
    r"""Return the excess loss at which plain SGD levels off.

    .. math:: A = \frac{\gamma \, \mathrm{tr} \, \mathrm{Cov}(g)}{4 B}, \qquad
              \gamma \to \frac{\gamma}{1 - \mathrm{mom}} \text{ with momentum}

    Args:
        tr_gg: Trace of the covariance of a sample's task gradient, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        batch_size: B, at least 1; samples drawn independently.
        momentum: Of u <- mom u + grad, in [0, 1).

    Returns:
        A [unit of the loss], at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.05 * 2.5 / 4 = 1/32.

        >>> noise_floor(2.5, learning_rate=0.05, batch_size=1)
        0.03125

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_not_negative("noise_floor", tr_gg=tr_gg)
    return tr_gg / _per_loss("noise_floor", learning_rate, batch_size, momentum)


def shrinkage(distillation_weight: Number, *, floor: Number, bias: Number) -> float:
    r"""Return the excess loss at which distillation levels off, near a good teacher.

    .. math:: (1 - \lambda)^2 A + \lambda^2 \Delta

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        floor: A, the excess loss of plain SGD, at least 0, as from :func:`noise_floor`.
        bias: Delta, the teacher's excess training loss in the student's class, at least 0. For
            networks it is computed from hbar, never from a difference of losses.

    Returns:
        The excess loss [unit of ``floor`` and ``bias``], at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.25 * 4 + 0.25 * 12 = 4.

        >>> shrinkage(0.5, floor=4.0, bias=12.0)
        4.0

    Source:
        Derived; exact in least squares for the floor that steps of that size have.
    """
    check_finite("shrinkage", distillation_weight=distillation_weight)
    check_not_negative("shrinkage", floor=floor, bias=bias)
    return (1 - distillation_weight) ** 2 * floor + distillation_weight**2 * bias


def shrinkage_weight(floor: Number, bias: Number) -> float:
    r"""Return the weight at which :func:`shrinkage` is lowest.

    .. math:: \lambda^* = \frac{A}{A + \Delta}, \qquad
              \text{factor} = \frac{\Delta}{A + \Delta} = 1 - \lambda^*

    Args:
        floor: A, the excess loss of plain SGD, at least 0.
        bias: Delta, the teacher's excess training loss in the student's class, at least 0.

    Returns:
        The distillation weight, in [0, 1]; one minus it is the share of the floor that is left.

    Raises:
        ArgumentError: If a number is negative or not finite, or both are 0.

    Example:
        1/32 and 1/20: 5 / (5 + 8) = 5/13.

        >>> round(shrinkage_weight(1 / 32, 1 / 20), 6)
        0.384615

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_not_negative("shrinkage_weight", floor=floor, bias=bias)
    if floor == bias == 0:
        raise ArgumentError(
            "shrinkage_weight: expected `floor` or `bias` above 0; got zeros. Without noise and "
            "without bias every weight gives the optimum: use any."
        )
    return floor / (floor + bias)


def loss_weight(
    tr_gh: Number,
    tr_hh: Number,
    bias: Number,
    *,
    learning_rate: Number,
    batch_size: int,
    momentum: Number = 0.0,
) -> float:
    r"""Return the weight at which the excess loss is lowest, for any teacher.

    .. math:: \lambda^*_f = \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{hh} + (4 B / \gamma) D_T}, \qquad
              D_T = \tfrac{1}{2} \bar h^T H^{-1} \bar h

    Args:
        tr_gh: Trace of the covariance of a sample's g and h = grad(task) - grad(distillation).
        tr_hh: That of h with itself, at least 0.
        bias: :math:`D_T`, the bias of h in units of the loss, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        batch_size: B, at least 1.
        momentum: Of u <- mom u + grad, in [0, 1).

    Returns:
        The distillation weight, not clipped: it may lie outside of [0, 1].

    Raises:
        ArgumentError: If a number is outside of its range, or ``tr_hh`` and ``bias`` are both 0:
            such a teacher repeats the labels, and every weight is plain training.

    Example:
        2.5 / (2.59 + 80 * 0.05) = 2.5 / 6.59 = 250/659.

        >>> round(loss_weight(2.5, 2.59, 0.05, learning_rate=0.05, batch_size=1), 6)
        0.379363

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_finite("loss_weight", tr_gh=tr_gh)
    check_not_negative("loss_weight", tr_hh=tr_hh, bias=bias)
    bottom = tr_hh + _per_loss("loss_weight", learning_rate, batch_size, momentum) * bias
    if bottom == 0:
        raise ArgumentError(
            "loss_weight: expected `tr_hh` or `bias` above 0; got zeros. The teacher repeats the "
            "labels, so every weight is plain training: use any."
        )
    return tr_gh / bottom


def loss_factor(
    tr_gg: Number,
    tr_gh: Number,
    tr_hh: Number,
    bias: Number,
    *,
    learning_rate: Number,
    batch_size: int,
    momentum: Number = 0.0,
) -> float:
    r"""Return the excess loss at :func:`loss_weight` as a share of that without distillation.

    .. math:: 1 - \frac{\mathrm{tr}_{gh}^2}{\mathrm{tr}_{gg}
              (\mathrm{tr}_{hh} + (4 B / \gamma) D_T)}

    Args:
        tr_gg: Trace of the covariance of a sample's task gradient g, above 0.
        tr_gh: That of g with h = grad(task) - grad(distillation).
        tr_hh: That of h with itself, at least 0.
        bias: :math:`D_T`, the bias of h in units of the loss, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        batch_size: B, at least 1.
        momentum: Of u <- mom u + grad, in [0, 1).

    Returns:
        The factor, in [0, 1]: 0 where all noise goes, 1 where distillation gains nothing, as with
        a teacher that repeats the labels.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        1 - 2.5 / 6.59 = 409/659, as tr_gg and tr_gh are equal.

        >>> round(loss_factor(2.5, 2.5, 2.59, 0.05, learning_rate=0.05, batch_size=1), 6)
        0.620637

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_positive("loss_factor", tr_gg=tr_gg)
    check_traces("loss_factor", tr_gg, tr_gh, tr_hh)
    check_not_negative("loss_factor", bias=bias)
    bottom = tr_hh + _per_loss("loss_factor", learning_rate, batch_size, momentum) * bias
    share = tr_gh / tr_gg * (tr_gh / bottom) if bottom > 0 else 0.0
    return min(max(1.0 - share, 0.0), 1.0)


def noise_left(
    distillation_weight: Number, *, tr_gg: Number, tr_gh: Number, tr_hh: Number
) -> float:
    r"""Return the share of the gradient noise that a weight leaves.

    .. math:: R(\lambda) = 1 - 2 \lambda \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{gg}}
              + \lambda^2 \frac{\mathrm{tr}_{hh}}{\mathrm{tr}_{gg}}

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        tr_gg: Variance of the task gradient, above 0; all three of a sample, or all of a batch.
        tr_gh: Its covariance with h = grad(task) - grad(distillation).
        tr_hh: Variance of h, at least 0.

    Returns:
        R, at least 0: 1 is the noise of plain training, 0 none.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        1 - 1 + 0.25 * 2.59 / 2.5 = 0.259.

        >>> round(noise_left(0.5, tr_gg=2.5, tr_gh=2.5, tr_hh=2.59), 9)
        0.259

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_positive("noise_left", tr_gg=tr_gg)
    check_finite("noise_left", distillation_weight=distillation_weight)
    check_traces("noise_left", tr_gg, tr_gh, tr_hh)
    shared, teacher = tr_gh / tr_gg, tr_hh / tr_gg
    return max(1 - 2 * distillation_weight * shared + distillation_weight**2 * teacher, 0.0)


def relative_bias(
    distillation_weight: Number, *, tr_gg: Number, hbar2: Number, batch_size: int
) -> float:
    r"""Return the squared bias of a step in units of the noise of a batch.

    .. math:: b(\lambda) = \lambda^2 \|\bar h\|^2 B / \mathrm{tr}_{gg}

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        tr_gg: Variance of a sample's task gradient, above 0.
        hbar2: Squared length of the mean of h = grad(task) - grad(distillation), at least 0.
        batch_size: B, at least 1.

    Returns:
        b, at least 0: at 1 a single step is as much biased as noisy; over many steps bias counts
        more, as it does not average out.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.25 * 0.25 * 4 / 2.5 = 0.1.

        >>> relative_bias(0.5, tr_gg=2.5, hbar2=0.25, batch_size=4)
        0.1

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_positive("relative_bias", tr_gg=tr_gg)
    check_between("relative_bias", 1.0, math.inf, batch_size=batch_size)
    check_finite("relative_bias", distillation_weight=distillation_weight)
    check_not_negative("relative_bias", hbar2=hbar2)
    return distillation_weight**2 * hbar2 * batch_size / tr_gg


def _per_loss(where: str, learning_rate: Number, batch_size: int, momentum: Number) -> float:
    """Return 4 B / gamma: gradient noise in one unit of the loss."""
    check_between(where, 1.0, math.inf, batch_size=batch_size)
    rate = effective_learning_rate(learning_rate, momentum=momentum)
    return 4 * batch_size / rate
