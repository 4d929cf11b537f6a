"""What one weight does: noise left, bias added and the plateau, in one step and for long."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.reporting.advice import WeightAdvice


@dataclass(frozen=True)
class Outlook:
    r"""What measured moments say about one weight :math:`\lambda`.

    Attributes:
        weight: :math:`\lambda`.
        noise_left: R = 1 - 2 lambda tr_gh / tr_gg + lambda^2 tr_hh / tr_gg, the share of the
            gradient noise that is left; 1 is plain training.
        bias_one_step: b = lambda^2 hbar2 B / tr_gg, the squared bias of a step in units of the
            noise of a batch.
        bias_long_run: (1 + kappa) b; None where kappa is not known.
        plateau: A R + lambda^2 D_T, where the training loss levels off above its least value
            [nats]; None without D_T.
        noise_scale: tr Cov(g - lambda h) / |gbar - lambda hbar|^2 [rows]; None where the mean
            gradient is less than two standard errors from zero.
        batch_one_step: B / R, the batch without distillation whose steps are as noisy [rows]; the
            bias is left aside. None where no noise is left.
        batch_long_run: B A / (A R + lambda^2 D_T), the batch without distillation that levels off
            there [rows]. Where g and h are as noisy as they are alike and lambda = A / (A + D_T),
            it is B (A + D_T) / D_T. Without D_T, or for a horizon of some steps,
            B / (R + (1 + kappa) b). None where neither is known, or no finite batch does it.
    """

    weight: float
    noise_left: float
    bias_one_step: float
    bias_long_run: float | None
    plateau: float | None
    noise_scale: float | None
    batch_one_step: float | None
    batch_long_run: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return asdict(self)


def outlook(moments: GradientMoments, advice: WeightAdvice, weight: float) -> Outlook:
    r"""Return what moments say about a weight.

    .. math:: R(\lambda) = 1 - 2 \lambda \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{gg}} + \lambda^2
              \frac{\mathrm{tr}_{hh}}{\mathrm{tr}_{gg}}, \quad b(\lambda) = \lambda^2
              \frac{B\,|\bar h|^2}{\mathrm{tr}_{gg}}, \quad
              A R(\lambda) + \lambda^2 D_T

    Estimates of squares that fell below zero count as zero.

    Args:
        moments: With tr_gg above zero.
        advice: For the same moments: gives B, kappa and the floor A.
        weight: :math:`\lambda`, in [0, 1].

    Returns:
        The outlook; at weight 0 R is 1, the biases are 0 and the plateau is A.

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    batch = advice.settings["batch_size"]
    left = 1 + (weight**2 * moments.tr_hh - 2 * weight * moments.tr_gh) / moments.tr_gg
    left = max(left, 0.0)  # random directions may miss what holds exactly
    once = weight**2 * max(moments.hbar2, 0.0) * batch / moments.tr_gg
    lasting = None if advice.kappa is None else (1 + advice.kappa) * once
    plateau = None
    if moments.D_T is not None:
        plateau = advice.floor * left + weight**2 * max(moments.D_T, 0.0)
    whole = None if lasting is None else left + lasting
    if plateau is not None and advice.settings["horizon"] is None:
        whole = plateau / advice.floor
    return Outlook(
        weight=weight,
        noise_left=left,
        bias_one_step=once,
        bias_long_run=lasting,
        plateau=plateau,
        noise_scale=noise_scale(moments, weight),
        batch_one_step=_over(batch, left),
        batch_long_run=None if whole is None else _over(batch, whole),
    )


def noise_scale(moments: GradientMoments, weight: float) -> float | None:
    r"""Return the batch at which noise and mean of the mixed gradient are of one size.

    .. math:: \frac{\mathrm{tr}\, \mathrm{Cov}(g - \lambda h)}{|\bar g - \lambda \bar h|^2}

    The squared mean is unbiased: the mean of <k_i, kbar without i> with k = g - lambda h.

    Args:
        moments: Of two units at least.
        weight: :math:`\lambda`.

    Returns:
        The noise scale [rows]; None where the squared mean is less than two standard errors above
        zero.

    Source:
        McCandlish et al. (2018), arXiv:1812.06162, equation 2.9; with distillation: derived.
    """
    units = moments.units
    gh, gg, hh, g_gbar, g_hbar, h_gbar, h_hbar = moments.products.total().T
    own = gg - 2 * weight * gh + weight**2 * hh
    along = g_gbar - weight * (g_hbar + h_gbar) + weight**2 * h_hbar
    others = (units * along - own) / (units - 1)
    square, error = float(others.mean()), 2 * float(others.std(ddof=1)) / math.sqrt(units)
    if not square >= 2 * error > 0:
        return None
    noise = moments.tr_gg - 2 * weight * moments.tr_gh + weight**2 * moments.tr_hh
    return max(noise, 0.0) / square


def _over(batch: int, share: float) -> float | None:
    return batch / share if share > 0 and math.isfinite(batch / share) else None
