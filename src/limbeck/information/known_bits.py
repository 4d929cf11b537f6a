"""Mutual informations of simple channels: sums, and quadratures good to 1e-6 bits or better."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float


STEP, REACH = 0.02, 9.0  # of the trapezoidal rule along one dimension, in noise deviations
PLANE_STEP, PLANE_REACH = 0.1, 7.0


def softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Return normalised exponentials of rows."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def table_bits(table: Float[np.ndarray, "y x"]) -> float:
    """Return the mutual information of a table [bits]."""
    outer = table.sum(1, keepdims=True) * table.sum(0)
    positive = table > 0
    return float(np.sum(table[positive] * np.log2(table[positive] / outer[positive])))


def gaussian_bits(means: Float[np.ndarray, "classes d"]) -> float:
    """Return I(Y; X) [bits] of equally likely means in unit noise, in one or two dimensions.

    The trapezoidal rule over the noise of every label: for such integrands its error falls faster
    than any power of the step.
    """
    step, reach = (STEP, REACH) if means.shape[1] == 1 else (PLANE_STEP, PLANE_REACH)
    axis = np.arange(-reach, reach + step, step)
    grid = np.stack(np.meshgrid(*[axis] * means.shape[1], indexing="ij"), -1)
    noise = grid.reshape(-1, means.shape[1])
    weights = np.exp(-0.5 * (noise**2).sum(1))
    weights /= weights.sum()
    lost = 0.0
    for mean in means:
        away = mean - means
        # log p(x | other) - log p(x | own) at x = mean + noise
        logs = -(noise @ away.T) - 0.5 * (away**2).sum(1)
        top = logs.max(1)
        lost += float(weights @ (top + np.log(np.exp(logs - top[:, None]).sum(1))))
    return math.log2(len(means)) - lost / (len(means) * math.log(2.0))


def spread_log_density(
    squares: Float[np.ndarray, " n"], deviations: Float[np.ndarray, " classes"], width: int
) -> Float[np.ndarray, "n classes"]:
    """Return the log density of centred rows with these squared lengths, up to a constant."""
    return -0.5 * squares[:, None] / deviations**2 - width * np.log(deviations)


def variance_bits(deviations: Float[np.ndarray, " classes"], width: int) -> float:
    """Return I(Y; X) [bits] of equally likely deviations of ``width`` Gaussian dimensions."""
    low = -60.0 / width  # below, and above ``high``, lies less than 1e-12 of the mass
    high = math.log(width + 12.0 * math.sqrt(2.0 * width) + 60.0)
    log_chi = np.linspace(low, high, 8001)
    weights = np.exp(0.5 * width * log_chi - 0.5 * np.exp(log_chi))
    weights /= weights.sum()
    lost = 0.0
    for own, deviation in enumerate(deviations):
        logs = spread_log_density(np.exp(log_chi) * deviation**2, deviations, width)
        top = logs.max(1)
        sums = top + np.log(np.exp(logs - top[:, None]).sum(1))
        lost += float(weights @ (sums - logs[:, own]))
    return math.log2(len(deviations)) - lost / (len(deviations) * math.log(2.0))


def xor_bits(teacher: float, student: float) -> float:
    """Return I(Y; T, S) [bits] of the exclusive or of two fair bits, each as +-scale in noise."""
    noise = np.arange(-REACH, REACH + STEP, STEP)
    weights = np.exp(-0.5 * noise**2) * STEP / math.sqrt(2.0 * math.pi)
    # By symmetry both bits may be taken to be +1. A bit with log odds L has the mean tanh(L / 2),
    # and the mean of the product is that of the exclusive or.
    sides = [np.tanh(scale * (scale + noise)) for scale in (teacher, student)]
    right = 0.5 * (1.0 + sides[0][:, None] * sides[1])
    return 1.0 + float(weights @ np.log2(np.maximum(right, 1e-300)) @ weights)
