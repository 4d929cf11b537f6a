"""The plateau of distillation by SGD: a bound on it, and the weight at which that is lowest."""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError, check_between
from limbeck.weighting.arguments import (
    Number,
    check_finite,
    check_not_negative,
    check_step,
    check_traces,
)


def noise_at_optimum(
    distillation_weight: Number, *, sigma2: Number, c: Number, v: Number, hbar2: Number
) -> float:
    r"""Return the second moment of the stochastic distillation gradient at the optimum.

    .. math:: V(\lambda) = \sigma^2 - 2 \lambda c + \lambda^2 (v + \|\bar h\|^2)

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        sigma2: Variance of the task gradient, at least 0. This and the next two are traces of
            covariances of a batch: 1/B of those of a sample.
        c: Covariance of the task gradient with h = grad(task) - grad(distillation).
        v: Variance of h, at least 0.
        hbar2: Squared length of the mean of h, at least 0; the same for every batch size.

    Returns:
        V [squared gradient], at least 0; 0 where the teacher removes all noise without a bias.

    Raises:
        ArgumentError: If a number is outside of its range, or ``c`` above sqrt(sigma2 v).

    Example:
        2.5 - 2.5 + (2.59 + 0.25) / 4 = 0.71.

        >>> round(noise_at_optimum(0.5, sigma2=2.5, c=2.5, v=2.59, hbar2=0.25), 9)
        0.71

    Source:
        Constants derived; form of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_not_negative("noise_at_optimum", hbar2=hbar2)
    return _second_moment("noise_at_optimum", distillation_weight, sigma2, c, v, hbar2)


def noise_bound(
    distillation_weight: Number,
    *,
    sigma2: Number,
    c: Number,
    v: Number,
    hbar2: Number,
    learning_rate: Number,
    mu: Number,
    kappa: Number,
) -> float:
    r"""Return a bound on the squared distance at which distillation by SGD levels off.

    .. math:: N(\lambda) = \frac{2 \gamma}{\mu} \left[ V(\lambda) + \lambda^2 \kappa
              \|\bar h\|^2 \right], \qquad
              E \|x_t - x^*\|^2 \le (1 - \gamma \mu)^t \|x_0 - x^*\|^2 + N(\lambda)

    It holds for mu-strongly quasi-convex losses, :math:`\gamma \le 1 / (4 \mathcal{L})` (expected
    smoothness) and :math:`\kappa = 1 / (\gamma \mu)`. The level is often a tenth of it; its shape
    in lambda is right.

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        sigma2: Variance of the task gradient of a batch at the optimum, at least 0.
        c: Covariance of it with h = grad(task) - grad(distillation).
        v: Variance of h of a batch, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        mu: Constant of strong quasi-convexity, above 0; learning_rate * mu is at most 1/4.
        kappa: Horizon, at least 0; a smaller one than 1 / (learning_rate * mu) gives no bound.

    Returns:
        N [squared distance], at least 0; 0 where no noise and no bias are left.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (2 * 0.05 / 2.5) * (0.71 + 0.25 * 8 * 0.25) = 0.04 * 1.21.

        >>> moments = {"sigma2": 2.5, "c": 2.5, "v": 2.59, "hbar2": 0.25}
        >>> round(noise_bound(0.5, **moments, learning_rate=0.05, mu=2.5, kappa=8), 9)
        0.0484

    Source:
        Constants derived; form of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581,
        theorem 1.
    """
    check_step("noise_bound", learning_rate, mu, 0.25)
    level = level_of("noise_bound", distillation_weight, sigma2, c, v, hbar2, kappa)
    return 2 * learning_rate / mu * level


def noise_bound_unbiased(
    distillation_weight: Number,
    *,
    sigma2: Number,
    c: Number,
    v: Number,
    learning_rate: Number,
    mu: Number,
) -> float:
    r"""Return the bound for steps along :math:`g - \lambda (h - \bar h)`, which have no bias.

    .. math:: N_u(\lambda) = \frac{2 \gamma}{\mu} (\sigma^2 - 2 \lambda c + \lambda^2 v)

    It holds for :math:`\gamma \le 1 / (2 \mathcal{L})` and is least at c / v, where it is
    :math:`1 - \rho^2` of its value at 0. At 1, with snapshots as teacher, this is SVRG.

    Args:
        distillation_weight: :math:`\lambda`, any finite number.
        sigma2: Variance of the task gradient of a batch at the optimum, at least 0.
        c: Covariance of it with h = grad(task) - grad(distillation).
        v: Variance of h of a batch, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        mu: Constant of strong quasi-convexity, above 0; learning_rate * mu is at most 1/2.

    Returns:
        N_u [squared distance], at least 0; 0 where the teacher removes all noise.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.04 * (2.5 - 5 + 2.59) = 0.0036.

        >>> moments = {"sigma2": 2.5, "c": 2.5, "v": 2.59}
        >>> round(noise_bound_unbiased(1.0, **moments, learning_rate=0.05, mu=2.5), 9)
        0.0036

    Source:
        Derived; SVRG is by Johnson and Zhang (2013).
    """
    check_step("noise_bound_unbiased", learning_rate, mu, 0.5)
    level = _second_moment("noise_bound_unbiased", distillation_weight, sigma2, c, v, 0.0)
    return 2 * learning_rate / mu * level


def bound_weight(c: Number, v: Number, hbar2: Number, *, kappa: Number) -> float:
    r"""Return the weight at which the bound is lowest.

    .. math:: \lambda^* = \frac{c}{v + (1 + \kappa) \|\bar h\|^2}

    Args:
        c: Covariance of the task gradient with h = grad(task) - grad(distillation), of a batch.
        v: Variance of h of a batch, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        kappa: Horizon, at least 0: 0 for a single step, 1 / (learning_rate * mu) for the plateau
            of theorem 1; may be infinite.

    Returns:
        The distillation weight, not clipped: below 0 where the teacher's noise opposes that of
        the task, 0 where it says nothing of it, above 1 where it is weaker.

    Raises:
        ArgumentError: If a number is outside of its range, or ``v`` and ``hbar2`` are both 0:
            such a teacher repeats the labels, and every weight is plain training.

    Example:
        2.5 / (2.59 + 9 * 0.25) = 2.5 / 4.84 = 125/242.

        >>> round(bound_weight(2.5, 2.59, 0.25, kappa=8), 6)
        0.516529

    Source:
        Constants derived; form of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_finite("bound_weight", c=c)
    return c / _denominator("bound_weight", v, hbar2, kappa)


def noise_to_signal(v: Number, hbar2: Number, *, kappa: Number) -> float:
    r"""Return the share of the attainable reduction that a teacher's bias leaves.

    .. math:: \beta = \frac{1}{1 + (1 + \kappa) \|\bar h\|^2 / v}

    Args:
        v: Variance of h = grad(task) - grad(distillation) of a batch, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        kappa: Horizon, at least 0; may be infinite.

    Returns:
        Beta, in [0, 1]; 1 without a bias, 0 where h is all bias.

    Raises:
        ArgumentError: If a number is outside of its range, or ``v`` and ``hbar2`` are both 0.

    Example:
        2.59 / (2.59 + 9 * 0.25) = 259/484.

        >>> round(noise_to_signal(2.59, 0.25, kappa=8), 6)
        0.535124

    Source:
        Constants derived; form of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    return v / _denominator("noise_to_signal", v, hbar2, kappa)


def reduction_factor(
    *, sigma2: Number, c: Number, v: Number, hbar2: Number, kappa: Number
) -> float:
    r"""Return the bound at its best weight as a share of the bound without distillation.

    .. math:: \frac{N(\lambda^*)}{N(0)} = 1 - \rho^2 \beta, \qquad \rho^2 = \frac{c^2}{\sigma^2 v}

    Args:
        sigma2: Variance of the task gradient of a batch, above 0.
        c: Covariance of it with h = grad(task) - grad(distillation).
        v: Variance of h of a batch, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        kappa: Horizon, at least 0; may be infinite.

    Returns:
        The factor, in [0, 1]: 0 where all noise goes, 1 where distillation gains nothing, as with
        a teacher that repeats the labels (``v`` and ``hbar2`` are 0).

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        1 - 2.5**2 / (2.5 * 4.84) = 117/242.

        >>> round(reduction_factor(sigma2=2.5, c=2.5, v=2.59, hbar2=0.25, kappa=8), 6)
        0.483471

    Source:
        Constants derived; form of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    check_traces("reduction_factor", sigma2, c, v)
    if sigma2 == 0:
        raise ArgumentError(
            "reduction_factor: expected `sigma2` > 0; got 0. Without noise there is nothing to "
            "reduce: train without distillation."
        )
    if v == hbar2 == 0:
        return 1.0
    share = c / sigma2 * (c / _denominator("reduction_factor", v, hbar2, kappa))
    return min(max(1.0 - share, 0.0), 1.0)


def level_of(
    where: str,
    distillation_weight: Number,
    sigma2: Number,
    c: Number,
    v: Number,
    hbar2: Number,
    kappa: Number,
) -> float:
    """Return V(lambda) + lambda^2 kappa hbar2, the bracket of the bounds, after the checks."""
    check_not_negative(where, hbar2=hbar2, kappa=kappa)
    noise = _second_moment(where, distillation_weight, sigma2, c, v, hbar2)
    return noise + distillation_weight**2 * kappa * hbar2


def _second_moment(
    where: str, weight: Number, sigma2: Number, c: Number, v: Number, hbar2: Number
) -> float:
    check_finite(where, distillation_weight=weight)
    check_traces(where, sigma2, c, v)
    # Rounding must not turn a noise of zero into a negative one.
    return max(sigma2 - 2 * weight * c + weight**2 * v, 0.0) + weight**2 * hbar2


def _denominator(where: str, v: Number, hbar2: Number, kappa: Number) -> float:
    check_not_negative(where, v=v, hbar2=hbar2)
    check_between(where, 0.0, math.inf, kappa=kappa)
    bottom = v + ((1 + kappa) * hbar2 if hbar2 > 0 else 0.0)  # without a bias no horizon counts
    if bottom == 0:
        raise ArgumentError(
            f"{where}: expected `v` or `hbar2` above 0; got zeros. The teacher repeats the labels, "
            "so every weight is plain training: use any."
        )
    return bottom
