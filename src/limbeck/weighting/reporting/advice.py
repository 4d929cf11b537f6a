"""From gradient moments to the distillation weight: one step, a horizon, loss units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from limbeck.checks import ArgumentError, check_positive
from limbeck.estimates import Estimate
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.products import MOMENTS
from limbeck.weighting.reporting.diagnosis import Diagnosis, action_for, diagnosed, rows_needed
from limbeck.weighting.theory.fieller import Ratio, ratio_of, weight_estimate
from limbeck.weighting.theory.laws import noise_floor
from limbeck.weighting.theory.reshuffling import reshuffled_share
from limbeck.weighting.theory.step_laws import effective_learning_rate, horizon as horizon_of


BLOCKS = 16  # of units, for the jackknife
LEAST_NOISE = 1e-9  # share; a full gradient has none
Number = float | int


@dataclass(frozen=True)
class WeightAdvice:
    """How much to distil, by three readings of "best", and what to do about it.

    Attributes:
        one_step: Weight that makes the next step's gradient most exact, in [0, 1]. Far too large
            for training: noise averages out over steps and bias does not.
        horizon: Weight for the steps asked for, or for the long run, with one curvature.
        loss: Weight of the lowest plateau of the training loss, with the whole curvature; None
            where the moments hold none.
        diagnosis: What limits distillation.
        action: What would help most.
        kappa: What the bias is multiplied with in ``horizon``, minus one, noise of whole epochs
            included; None where not known.
        floor: Plateau of the excess training loss without distillation [nats].
        plateau: The same at the weight ``loss``, as predicted [nats]; None where that is None or
            unresolved.
        samples_needed: Rows that would resolve the bias; a least number where it is not resolved.
        settings: Learning rate, batch size, momentum, horizon, steps of an epoch, and the share of
            the noise that it leaves.
    """

    one_step: Estimate
    horizon: Estimate
    loss: Estimate | None
    diagnosis: Diagnosis
    action: str
    kappa: float | None
    floor: float
    plateau: float | None
    samples_needed: float
    settings: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        weights = {"one_step": self.one_step, "horizon": self.horizon, "loss": self.loss}
        return {
            **{name: None if one is None else one.to_dict() for name, one in weights.items()},
            "diagnosis": self.diagnosis,
            "action": self.action,
            "kappa": _finite(self.kappa),
            "floor": self.floor,
            "plateau": self.plateau,
            "samples_needed": _finite(self.samples_needed),
            "settings": dict(self.settings),
        }

    def __str__(self) -> str:
        """Return the three weights, the diagnosis and the action."""
        return "\n".join(
            [
                f"one step:  {self.one_step}",
                f"long run:  {self.horizon}" if self.settings["horizon"] is None
                else f"{self.settings['horizon']} steps: {self.horizon}",
                f"loss:      {'not measured' if self.loss is None else self.loss}",
                f"diagnosis: {self.diagnosis}",
                self.action,
            ]
        )  # fmt: skip


def recommend_weight(
    moments: GradientMoments,
    *,
    learning_rate: float,
    batch_size: int,
    momentum: float = 0.0,
    horizon: int | None = None,
    steps_per_epoch: int | None = None,
) -> WeightAdvice:
    r"""Return the distillation weight that measured moments ask for, with intervals.

    .. math:: \lambda^* = \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{hh} + B (1 + \kappa)\, |\bar h|^2},
              \qquad \lambda^*_f = \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{hh} + (4 B / \gamma)\, D_T}

    :math:`\kappa = 0` for one step; for a horizon of t steps the exact :math:`\kappa(t)` of one
    curvature, the measured one along the bias; without measured curvature 1 + kappa = t.

    Args:
        moments: Of :func:`limbeck.gradient_moments`, near the plateau.
        learning_rate: :math:`\gamma` of training.
        batch_size: B of training.
        momentum: Of u <- mom u + grad, in [0, 1): gamma becomes gamma / (1 - mom). Zero for
            averages that are normalised, as Adam's.
        horizon: Steps that are left; None is the long run.
        steps_per_epoch: Where every epoch takes each row once: its steps. The noise that is left at
            its end is smaller then (:func:`~limbeck.weighting.theory.reshuffling.reshuffled_share`,
            with the measured curvature), and so are the weights of the long run and the floor.
            None: independent batches, as where rows are augmented anew each time.

    Returns:
        The three weights, each clipped to [0, 1] with the unclipped in ``raw``; status
        "unresolved" where an interval has no bounds, or, but for one step, where the bias is not
        two standard errors above zero: then the value is not to be used. Intervals are Fieller's;
        that of ``loss`` takes its variances from a jackknife over 16 groups of units.

    Raises:
        ArgumentError: If a number is outside of its range.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; constants and intervals derived.
    """
    check_positive("recommend_weight", learning_rate=learning_rate, batch_size=batch_size)
    if horizon is not None and horizon < 1:
        raise ArgumentError(
            f"recommend_weight: expected `horizon` of 1 step at least, or None for the long run; "
            f"got {horizon}."
        )
    rate = effective_learning_rate(learning_rate, momentum=momentum)
    growth, policy = _growth(moments, rate, horizon)
    noise = 1.0
    if steps_per_epoch is not None and horizon is None and moments.mu_hat is not None:
        pace = rate * max(moments.mu_hat, 0.0)
        noise = max(float(reshuffled_share(pace, steps_per_epoch)), LEAST_NOISE)
    settings = {
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "momentum": momentum,
        "horizon": horizon,
        "steps_per_epoch": steps_per_epoch,
        "noise_left": noise,
    }
    one_step = _by_ratio(moments, float(batch_size), {"kappa": 0.0})
    if growth is None:
        lasting = replace(
            one_step, lower=0.0, status="unresolved", raw=None, settings={"kappa": policy}
        )
        lasting = replace(lasting, value=min(lasting.value, lasting.upper))
    else:
        growth /= noise
        lasting = _by_ratio(moments, batch_size * growth, {"kappa": growth - 1, "policy": policy})
        lasting = _used(lasting, moments)
    loss = _by_loss(moments, 4 * batch_size / (rate * noise))
    verdict = loss or lasting
    diagnosis = diagnosed(
        moments,
        batch_size=batch_size,
        bias_factor=None if growth is None else batch_size * growth,
        resolved=verdict.status == "resolved",
    )
    floor = noise * noise_floor(moments.tr_gg, learning_rate=rate, batch_size=batch_size)
    return WeightAdvice(
        one_step=one_step,
        horizon=lasting,
        loss=loss,
        diagnosis=diagnosis,
        action=action_for(diagnosis, moments),
        kappa=None if growth is None else growth - 1,
        floor=floor,
        plateau=_plateau(moments, loss, floor),
        samples_needed=rows_needed(moments)[0],
        settings=settings,
    )


def _growth(moments: GradientMoments, rate: float, steps: int | None) -> tuple[float | None, str]:
    """Return 1 + kappa and where it comes from."""
    curvature = moments.mu_hat
    if curvature is None or curvature <= 0:
        if steps is None:
            return None, "unknown: measure with curvature=True, or name a horizon"
        return float(steps), "steps"
    # A step across the valley keeps no memory: the bias of one step is all.
    if rate * curvature >= 1:
        return 1.0, "curvature"
    found = horizon_of(
        math.inf if steps is None else steps, learning_rate=rate, curvature=curvature
    )
    return found, "curvature"


def _by_ratio(moments: GradientMoments, factor: float, settings: dict[str, Any]) -> Estimate:
    found = np.array([getattr(moments, name) for name in MOMENTS])
    ratio = ratio_of(found, moments.covariance, factor)
    bottom = moments.tr_hh + factor * max(moments.hbar2, 0.0)
    return _weight(moments, ratio, bottom, settings)


def _by_loss(moments: GradientMoments, factor: float) -> Estimate | None:
    """Return the weight in loss units; its variances by leaving out blocks of units."""
    curvature = moments.curvature
    if curvature is None:
        return None
    units, blocks = moments.units, min(BLOCKS, moments.units // 2)
    block = np.arange(units) * blocks // units
    row_block = np.repeat(block, moments.products.rows)
    parts = moments.influences()
    left = []
    for one in range(blocks):
        kept = block != one
        moved = parts[~kept][:, [0, 2]].sum(0) / kept.sum()
        rows = row_block != one
        halves = [curvature.rows[rows & (curvature.half == side)].mean() for side in (0, 1)]
        left.append(
            [
                moments.tr_gh - moved[0],
                # The bias is a product of the halves' means: their errors add up.
                moments.tr_hh - moved[1] + factor * (sum(halves) - curvature.D_T),
            ]
        )
    whole = np.array([moments.tr_gh, moments.tr_hh + factor * curvature.D_T])
    pseudo = blocks * whole - (blocks - 1) * np.array(left)
    covariance = np.cov(pseudo.T) / blocks
    ratio = Ratio(
        float(whole[0]),
        float(whole[1]),
        float(covariance[0, 0]),
        float(covariance[0, 1]),
        float(covariance[1, 1]),
    )
    bottom = moments.tr_hh + factor * max(curvature.D_T, 0.0)
    from scipy.stats import t as student_t

    settings = {
        "D_T": curvature.D_T,
        "blocks": blocks,
        "solver": "converged" if curvature.converged else "not converged",
    }
    found = _weight(moments, ratio, bottom, settings, z=float(student_t.ppf(0.975, blocks - 1)))
    found = _used(found, moments)
    return found if curvature.converged else replace(found, status="unresolved")


def _weight(
    moments: GradientMoments,
    ratio: Ratio,
    bottom: float,
    settings: dict[str, Any],
    z: float | None = None,
) -> Estimate:
    value = moments.tr_gh / bottom if bottom > 0 else 0.0
    wide = {} if z is None else {"z": z}
    found = weight_estimate(ratio, value, n=moments.n, settings=settings, **wide)
    # Without noise in h nothing is known about the weight, and nothing depends on it.
    return found if moments.tr_hh > 0 else replace(found, status="unresolved")


def _used(estimate: Estimate, moments: GradientMoments) -> Estimate:
    """Mark a weight that hangs on a bias which is not seen."""
    seen = moments.resolved("hbar2")
    return estimate if seen else replace(estimate, status="unresolved")


def _plateau(moments: GradientMoments, weight: Estimate | None, floor: float) -> float | None:
    if weight is None or weight.status == "unresolved" or moments.D_T is None:
        return None
    lam = weight.value
    left = 1 - 2 * lam * moments.tr_gh / moments.tr_gg + lam**2 * moments.tr_hh / moments.tr_gg
    return floor * left + lam**2 * max(moments.D_T, 0.0)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
