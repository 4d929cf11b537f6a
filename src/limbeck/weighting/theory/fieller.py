"""Fieller's interval of a distillation weight: a ratio whose denominator is noisy too."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from limbeck.estimates import Estimate
from limbeck.weighting.measuring.products import Numbers


LEVEL = 0.95
Z = 1.96  # of a two-sided interval of that level


class Ratio(NamedTuple):
    """A ratio of two estimates with their variances.

    Attributes:
        top: Numerator.
        bottom: Denominator.
        var_top: Variance of the numerator.
        covariance: Of the two.
        var_bottom: Variance of the denominator.
    """

    top: float
    bottom: float
    var_top: float
    covariance: float
    var_bottom: float


def ratio_of(found: Numbers, covariance: Numbers, bias_factor: float | int) -> Ratio:
    r"""Return tr_gh over tr_hh + w hbar2, w = B (1 + kappa), from moments and their covariance.

    Args:
        found: The moments in the order of ``products.MOMENTS``, [5]; hbar2 unclipped.
        covariance: Theirs, [5, 5].
        bias_factor: w, at least zero.
    """
    top, bottom = np.array([1.0, 0, 0, 0, 0]), np.array([0, 0, 1.0, 0, bias_factor])
    return Ratio(
        float(top @ found),
        float(bottom @ found),
        float(top @ covariance @ top),
        float(top @ covariance @ bottom),
        float(bottom @ covariance @ bottom),
    )


def fieller(ratio: Ratio, z: float = Z) -> tuple[float, float, bool]:
    r"""Return the values that a ratio may have, cut to [0, 1], and whether they are bounded.

    All :math:`\lambda` with :math:`(a - \lambda D)^2 \le z^2 (s_{aa} - 2 \lambda s_{ad} +
    \lambda^2 s_{dd})`. Where the denominator may be zero this is the outside of an interval, or
    everything: then nothing is resolved, and the hull of what lies in [0, 1] is returned.

    Args:
        ratio: Numerator a and denominator D with their variances.
        z: Quantile of the normal distribution.

    Returns:
        Lower and upper end in [0, 1], and whether the set is an interval.

    Source:
        Fieller (1954), J. R. Stat. Soc. B 16, 175-185; its use here: derived.
    """
    top, bottom, var_top, covariance, var_bottom = ratio
    q2 = bottom**2 - z**2 * var_bottom
    q1 = -2 * (top * bottom - z**2 * covariance)
    q0 = top**2 - z**2 * var_top
    spread = q1**2 - 4 * q2 * q0
    if q2 > 0:
        root = math.sqrt(max(spread, 0.0))
        low, high = (-q1 - root) / (2 * q2), (-q1 + root) / (2 * q2)
        return _clipped(low), _clipped(high), True
    if q2 < 0 < spread:
        root = math.sqrt(spread)
        first, second = sorted([(-q1 - root) / (2 * q2), (-q1 + root) / (2 * q2)])
        parts = [(0.0, min(first, 1.0))] if first >= 0 else []
        parts += [(max(second, 0.0), 1.0)] if second <= 1 else []
        if parts:
            return min(low for low, _ in parts), max(high for _, high in parts), False
    return 0.0, 1.0, False


def weight_estimate(
    ratio: Ratio, value: float, *, n: int, settings: dict[str, Any], z: float = Z
) -> Estimate:
    """Return a weight with Fieller's interval, both cut to [0, 1].

    The true denominator, a variance and a squared length, is above zero. Where its estimate is not,
    because that of the length fell below zero, nothing is known of the weight; where only the
    weight took the length for zero, the interval is widened to hold it.

    Args:
        ratio: What the interval is made of.
        value: The weight, not cut; it need not be ``ratio.top / ratio.bottom`` (hbar2 is clipped).
        n: Units that the moments come from.
        settings: Kept beside the interval's kind.
        z: Quantile of the normal distribution.
    """
    low, high, bounded = fieller(ratio, z) if ratio.bottom > 0 else (0.0, 1.0, False)
    inside = _clipped(value)
    return Estimate(
        inside,
        min(low, inside),
        max(high, inside),
        n=n,
        unit="fraction",
        status="resolved" if bounded else "unresolved",
        settings={"interval": "Fieller", "level": LEVEL, **settings},
        raw=value,
    )


def _clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)
