"""Plateau bounds beyond strong convexity: PL, non-convex, compressed and tilted."""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError, check_positive
from limbeck.weighting.arguments import (
    ROUNDING,
    Number,
    check_finite,
    check_not_negative,
    check_step,
)
from limbeck.weighting.theory.bounds import level_of


def noise_bound_pl(
    distillation_weight: Number,
    *,
    sigma2: Number,
    c: Number,
    v: Number,
    hbar2: Number,
    learning_rate: Number,
    mu: Number,
    smoothness: Number,
    kappa: Number,
) -> float:
    r"""Return a bound on the excess loss at which distillation levels off under the PL inequality.

    .. math:: N_{PL}(\lambda) = \frac{L \gamma}{\mu} \left[ V(\lambda) + \lambda^2 \kappa
              \|\bar h\|^2 \right], \qquad
              E[f(x_t) - f^*] \le (1 - \gamma \mu)^t (f(x_0) - f^*) + N_{PL}(\lambda)

    It holds for :math:`\gamma \le \mu / (4 L \mathcal{L})` and :math:`\kappa = 1 / (L \gamma)`.
    Its best weight is too large where L is far above mu: choose no weight by it.

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        sigma2: Variance of the task gradient of a batch at the optimum, at least 0.
        c: Covariance of it with h = grad(task) - grad(distillation).
        v: Variance of h of a batch, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        learning_rate: :math:`\gamma`, above 0; learning_rate * smoothness^2 is at most mu / 4.
        mu: Constant of the PL inequality, above 0.
        smoothness: L, at least mu.
        kappa: Horizon, at least 0; a smaller one than 1 / (learning_rate * smoothness) gives no
            bound.

    Returns:
        N_PL [loss], at least 0; 0 where no noise and no bias are left.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.05 * (0.71 + 0.25 * 8 * 0.25) = 0.0605.

        >>> moments = {"sigma2": 2.5, "c": 2.5, "v": 2.59, "hbar2": 0.25}
        >>> steps = {"learning_rate": 0.05, "mu": 2.5, "smoothness": 2.5, "kappa": 8}
        >>> round(noise_bound_pl(0.5, **moments, **steps), 9)
        0.0605

    Source:
        Constants derived; form of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581,
        theorem 2.
    """
    check_positive("noise_bound_pl", mu=mu)
    if not mu <= smoothness * (1 + ROUNDING):
        raise ArgumentError(
            f"noise_bound_pl: expected `smoothness` >= `mu`; got {smoothness} and {mu}. A loss "
            "satisfies no PL inequality above its smoothness: look for exchanged arguments."
        )
    check_step("noise_bound_pl", learning_rate, smoothness * (smoothness / mu), 0.25)
    level = level_of("noise_bound_pl", distillation_weight, sigma2, c, v, hbar2, kappa)
    return smoothness * learning_rate / mu * level


def compressed_bound(
    distillation_weight: Number,
    *,
    sigma2: Number,
    c: Number,
    v: Number,
    hbar2: Number,
    learning_rate: Number,
    mu: Number,
    kappa: Number,
    omega: Number,
    optimum2: Number,
) -> float:
    r"""Return a bound on the plateau of a student that is compressed after every step.

    .. math:: 2 (1 + 2 \omega) N(\lambda) + \frac{4 \omega}{\gamma \mu} \|x^*\|^2

    Distillation lowers the first term only. The limit on omega is narrow: it covers fine
    quantisation with large steps, not sparsification (random-k of d has d / k - 1).

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        sigma2: Variance of the task gradient of a batch at the optimum, at least 0.
        c: Covariance of it with h = grad(task) - grad(distillation).
        v: Variance of h of a batch, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        mu: Constant of strong quasi-convexity, above 0; learning_rate * mu is at most 1/4.
        kappa: Horizon, as for ``noise_bound``.
        omega: Variance of the unbiased compressor, E|C(z) - z|^2 <= omega |z|^2; in
            [0, learning_rate * mu / 4].
        optimum2: Squared length of the optimum, at least 0.

    Returns:
        The bound [squared distance], at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        2 * (1 + 1/16) * 0.0484 + 4 * (1/32) * 8 = 0.10285 + 1.

        >>> moments = {"sigma2": 2.5, "c": 2.5, "v": 2.59, "hbar2": 0.25}
        >>> steps = {"learning_rate": 0.05, "mu": 2.5, "kappa": 8}
        >>> round(compressed_bound(0.5, **moments, **steps, omega=1 / 32, optimum2=1.0), 9)
        1.10285

    Source:
        Derived; that distillation of compressed students has such a bound: Safaryan, Peste and
        Alistarh (2023), arXiv:2305.17581, theorem 3. Iterate compression is by Khaled and
        Richtarik (2019), arXiv:1909.04716.
    """
    check_not_negative("compressed_bound", omega=omega, optimum2=optimum2)
    check_step("compressed_bound", learning_rate, mu, 0.25)
    most = learning_rate * mu / 4
    if omega > most * (1 + ROUNDING):
        raise ArgumentError(
            f"compressed_bound: expected `omega` <= learning_rate * mu / 4 = {most}; got {omega}. "
            "Compress less or take larger steps; for sparse students use a fixed mask."
        )
    level = level_of("compressed_bound", distillation_weight, sigma2, c, v, hbar2, kappa)
    bound = 2 * learning_rate / mu * level
    return 2 * (1 + 2 * omega) * bound + 4 * omega / (learning_rate * mu) * optimum2


def nonconvex_bound(
    distillation_weight: Number,
    *,
    noise: Number,
    hbar2: Number,
    gap: Number,
    steps: int,
    learning_rate: Number,
    smoothness: Number,
) -> float:
    r"""Return a bound on the mean squared gradient along a path, without convexity.

    .. math:: \frac{1}{T} \sum_t E \|\nabla f(x_t)\|^2 \le \frac{2 (f(x_0) - f^*)}{\gamma T}
              + \lambda^2 \|\bar h\|^2 + L \gamma \sigma_\lambda^2

    With moments that do not change along the path it is least at
    :math:`c / (v + \|\bar h\|^2 / (L \gamma))`.

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        noise: Largest variance of g - lambda h of a batch along the path, at this weight;
            at least 0.
        hbar2: Largest squared length of the mean of h along the path, at least 0.
        gap: Loss at the start above the infimum of the loss, at least 0.
        steps: T, at least 1.
        learning_rate: :math:`\gamma`, above 0; learning_rate * smoothness is at most 1.
        smoothness: L, above 0.

    Returns:
        The bound [squared gradient], at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        2 * 1 / (0.1 * 100) + 0.25 * 0.4 + 2 * 0.1 * 0.5 = 0.2 + 0.1 + 0.1.

        >>> path = {"noise": 0.5, "hbar2": 0.4, "gap": 1.0, "steps": 100}
        >>> round(nonconvex_bound(0.5, **path, learning_rate=0.1, smoothness=2.0), 9)
        0.4

    Source:
        Derived; for biased SGD compare Demidovich, Malinovsky, Sokolov and Richtarik (2023),
        arXiv:2305.16296.
    """
    check_finite("nonconvex_bound", distillation_weight=distillation_weight)
    check_not_negative("nonconvex_bound", noise=noise, hbar2=hbar2, gap=gap)
    check_positive("nonconvex_bound", steps=steps)
    check_step("nonconvex_bound", learning_rate, smoothness, 1.0)
    start = 2 * gap / (learning_rate * steps)
    return start + distillation_weight**2 * hbar2 + smoothness * learning_rate * noise


def tilted_bound(
    distillation_weight: Number,
    *,
    noise: Number,
    hbar2: Number,
    learning_rate: Number,
    mu: Number,
) -> float:
    r"""Return a bound on the plateau from SGD on the objective that distillation tilts.

    .. math:: \left( \frac{\lambda \|\bar h\|}{\mu} + \sqrt{\frac{2 \gamma \sigma_\lambda^2}{\mu}}
              \right)^2

    Distillation is plain SGD on :math:`f(x) - \lambda \langle \bar h, x \rangle`. Where the noise
    at that objective's optimum is far below :math:`V(\lambda)`, this bound is the tighter one: in
    least squares it is exactly :math:`(1 - \lambda)^2 \sigma^2`.

    Args:
        distillation_weight: :math:`\lambda`, any finite number; distillation uses [0, 1].
        noise: Variance of g - lambda h of a batch at the tilted optimum, at least 0.
        hbar2: Squared length of the mean of h, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        mu: Constant of strong convexity (of the tilted objective too, so quasi-convexity is not
            enough), above 0; learning_rate * mu is at most 1/4.

    Returns:
        The bound [squared distance to the optimum of the task], at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (0.5 * 0.5 / 2.5 + sqrt(2 * 0.05 * 0.625 / 2.5))^2 = (0.1 + sqrt(0.025))^2.

        >>> round(tilted_bound(0.5, noise=0.625, hbar2=0.25, learning_rate=0.05, mu=2.5), 6)
        0.066623

    Source:
        Derived from theorem 1 of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581, without a
        teacher.
    """
    check_finite("tilted_bound", distillation_weight=distillation_weight)
    check_not_negative("tilted_bound", noise=noise, hbar2=hbar2)
    check_step("tilted_bound", learning_rate, mu, 0.25)
    shift = abs(distillation_weight) * math.sqrt(hbar2) / mu
    return (shift + math.sqrt(2 * learning_rate * noise / mu)) ** 2
