"""Checks of moments and step sizes that the theory of the distillation weight shares."""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError, check_positive


Number = float | int
ROUNDING = 1e-9  # relative: how far estimates may miss an inequality that holds exactly


def check_finite(where: str, **numbers: Number) -> None:
    """Raise ArgumentError unless every number is finite."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ArgumentError(
                f"{where}: expected finite `{name}`; got {number}. Look for what made it."
            )


def check_not_negative(where: str, **numbers: Number) -> None:
    """Raise ArgumentError unless every number is finite and at least zero."""
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ArgumentError(
                f"{where}: expected finite `{name}` >= 0; got {number}. Clip an unbiased estimate "
                "that fell below zero; look for what made a number that is not finite."
            )


def check_traces(where: str, noise: Number, shared: Number, teacher: Number) -> None:
    """Raise ArgumentError unless two variances and a covariance can belong together."""
    check_not_negative(where, noise=noise, teacher=teacher)
    check_finite(where, shared=shared)
    if abs(shared) > math.sqrt(noise) * math.sqrt(teacher) * (1 + ROUNDING):
        raise ArgumentError(
            f"{where}: expected a covariance of at most sqrt({noise} * {teacher}) in size; got "
            f"{shared}. Take all three from the same samples, all a sample or all a batch."
        )


def check_momentum(where: str, momentum: Number) -> None:
    """Raise ArgumentError unless momentum lies in [0, 1)."""
    if not 0 <= momentum < 1:
        raise ArgumentError(
            f"{where}: expected `momentum` in [0, 1); got {momentum}. Pass 0 for plain steps and "
            "for averages that are normalised (dampening, Adam)."
        )


def check_step(where: str, learning_rate: Number, curvature: Number, most: float) -> None:
    """Raise ArgumentError unless learning rate times curvature is positive and at most ``most``."""
    check_positive(where, learning_rate=learning_rate, curvature=curvature)
    if learning_rate * curvature > most * (1 + ROUNDING):
        raise ArgumentError(
            f"{where}: expected learning rate times curvature of at most {most}; got "
            f"{learning_rate} * {curvature} = {learning_rate * curvature}. Lower `learning_rate`: "
            "the theorem does not cover larger steps."
        )
