"""How the rule of the steps turns gradient noise into noise of the student: one dimension."""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError, check_positive
from limbeck.weighting.arguments import Number, check_momentum, check_not_negative


def effective_learning_rate(learning_rate: Number, *, momentum: Number) -> float:
    r"""Return the learning rate of plain SGD that moves and shakes a student as much.

    .. math:: \gamma \to \frac{\gamma}{1 - \mathrm{mom}}

    It is for u <- mom u + grad, x <- x - gamma u, to leading order in gamma. Where the average is
    normalised (dampening, Adam) momentum is 0 here.

    Args:
        learning_rate: :math:`\gamma`, above 0.
        momentum: In [0, 1).

    Returns:
        The effective learning rate, at least ``learning_rate``.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> effective_learning_rate(0.1, momentum=0.5)
        0.2

    Source:
        Derived: the leading order of :func:`heavy_ball_variance`.
    """
    check_positive("effective_learning_rate", learning_rate=learning_rate)
    check_momentum("effective_learning_rate", momentum)
    return learning_rate / (1 - momentum)


def horizon(steps: Number, *, learning_rate: Number, curvature: Number) -> float:
    r"""Return how much more a squared bias counts than the noise of one step, after some steps.

    .. math:: 1 + \kappa(t) = \frac{2 - \gamma \mu}{\gamma \mu} \, \frac{1 - r^t}{1 + r^t},
              \qquad r = 1 - \gamma \mu

    Noise averages out over the steps and bias does not: the weight that is best for one step is
    far too large in the long run.

    Args:
        steps: t, a whole number, at least 1, or ``math.inf`` for the long run.
        learning_rate: :math:`\gamma`, above 0; with momentum, the effective one.
        curvature: mu, above 0; learning_rate * curvature is below 2. For several curvatures the
            exact choice is the harmonic one along the bias.

    Returns:
        1 + kappa [steps], at least 1 up to rounding where learning_rate * curvature is at most 1;
        exactly 1 for one step, about t for few, about 2 / (gamma mu) for many.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (2 - 0.08) / 0.08 = 24 in the long run.

        >>> round(horizon(math.inf, learning_rate=0.1, curvature=0.8), 9)
        24.0

    Source:
        Derived: a quadratic with additive noise, started at its minimum.
    """
    check_positive("horizon", learning_rate=learning_rate, curvature=curvature)
    if steps != math.inf and not (steps >= 1 and steps == int(steps)):
        raise ArgumentError(
            f"horizon: expected `steps` to be a whole number >= 1 or math.inf; got {steps}. "
            "Count the steps that are left."
        )
    shrunk = learning_rate * curvature
    if shrunk >= 2:
        raise ArgumentError(
            f"horizon: expected learning_rate * curvature < 2; got {learning_rate} * {curvature}. "
            "Lower `learning_rate`: such steps diverge."
        )
    if steps == math.inf:
        left, gone = 0.0, 1.0
    elif shrunk < 1:
        logarithm = steps * math.log1p(-shrunk)
        left, gone = math.exp(logarithm), -math.expm1(logarithm)  # exact for tiny steps too
    else:
        left = (1 - shrunk) ** steps
        gone = 1 - left
    return (2 - shrunk) / shrunk * gone / (1 + left)


def heavy_ball_variance(
    noise: Number, *, learning_rate: Number, curvature: Number, momentum: Number
) -> float:
    r"""Return the stationary variance of SGD with momentum on a parabola.

    .. math:: \frac{\gamma s (1 + \mathrm{mom})}
              {H (1 - \mathrm{mom}) (2 (1 + \mathrm{mom}) - \gamma H)}

    The steps are u <- mom u + grad, x <- x - gamma u.

    Args:
        noise: s, variance of the gradient's noise, at least 0.
        learning_rate: :math:`\gamma`, above 0.
        curvature: H, above 0; learning_rate * curvature is below 2 (1 + momentum).
        momentum: In [0, 1).

    Returns:
        The variance [squared distance], at least 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.1 * 1.5 / (0.5 * (3 - 0.1)) = 0.15 / 1.45 = 3/29.

        >>> round(heavy_ball_variance(1.0, learning_rate=0.1, curvature=1.0, momentum=0.5), 6)
        0.103448

    Source:
        Derived; exact.
    """
    check_not_negative("heavy_ball_variance", noise=noise)
    check_positive("heavy_ball_variance", learning_rate=learning_rate, curvature=curvature)
    check_momentum("heavy_ball_variance", momentum)
    room = 2 * (1 + momentum) - learning_rate * curvature
    if room <= 0:
        raise ArgumentError(
            "heavy_ball_variance: expected learning_rate * curvature < 2 (1 + momentum); got "
            f"{learning_rate} * {curvature} with momentum {momentum}. Lower `learning_rate`: such "
            "steps diverge."
        )
    return learning_rate * noise * (1 + momentum) / (curvature * (1 - momentum) * room)


def averaging_ratio(*, contraction: Number, rate: Number) -> float:
    r"""Return the variance of averaged weights as a share of that of the weights themselves.

    .. math:: \frac{\mathrm{Var} \, z}{\mathrm{Var} \, x} = \frac{\eta}{1 + w} \,
              \frac{1 + w r}{1 - w r}, \qquad w = 1 - \eta, \quad r = 1 - \gamma h

    The average is z <- (1 - eta) z + eta x, along one eigendirection of curvature h. It leaves the
    bias as it is, so averaged students want a smaller weight: A falls by this ratio.

    Args:
        contraction: r, in (-1, 1).
        rate: eta, in (0, 1]; its window is 1 / eta steps.

    Returns:
        The ratio, in (0, 1] for contractions of at least 0; 1 where ``rate`` is 1.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        w = 0.8: (0.2 / 1.8) * (1.72 / 0.28) = 43/63.

        >>> round(averaging_ratio(contraction=0.9, rate=0.2), 6)
        0.68254

    Source:
        Derived; exact.
    """
    if not -1 < contraction < 1:
        raise ArgumentError(
            f"averaging_ratio: expected `contraction` in (-1, 1); got {contraction}. Pass "
            "1 - learning_rate * curvature, of steps that do not diverge."
        )
    if not 0 < rate <= 1:
        raise ArgumentError(
            f"averaging_ratio: expected `rate` in (0, 1]; got {rate}. Pass the share of the newest "
            "weights in the average, 1 - decay."
        )
    kept = 1 - rate
    return rate / (1 + kept) * (1 + kept * contraction) / (1 - kept * contraction)
