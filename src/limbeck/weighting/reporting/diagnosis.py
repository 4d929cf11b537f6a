"""What is the matter with a teacher, by name, and the one action that would help most."""

from __future__ import annotations

import math
from typing import Literal

from limbeck.weighting.measuring.gradient_moments import GradientMoments


Diagnosis = Literal[
    "healthy",
    "interpolating teacher",
    "anti-correlated teacher",
    "far from the optimum",
    "unresolved",
    "biased teacher",
]
SAME_AS_LABELS = 0.05  # tr_hh / tr_gg below this: the teacher says what the labels say
ACTIONS: dict[Diagnosis, str] = {
    "healthy": "Distil with the weight of the long run, and measure again when the learning rate "
    "falls: the weight falls with it.",
    "interpolating teacher": "Take a teacher that was stopped earlier or cross-fitted, or a higher "
    "temperature: this one repeats the labels, and its weight changes next to nothing.",
    # tr_gh <= 0 says that tr_gd >= tr_gg: what is wrong is the size of d more than its direction.
    "anti-correlated teacher": "Train without this teacher (weight 0), or lower its gradient by a "
    "lower temperature or a smaller factor inside of the loss: it is {size:.3g} times as large as "
    "the task's (correlation {alike:.2f}), so that every weight adds noise. Where the correlation "
    "is low, look for classes in another order or another preprocessing.",
    "far from the optimum": "Train on and measure again nearer to the plateau: the gradient is "
    "still larger than its noise, and the law of the weight is about the noise.",
    "unresolved": "Measure more rows: {rows}. Until then use no weight of the long run.",
    "biased teacher": "Lower the weight as advised, or take the unbiased mode (subtract the mean "
    "of h): the teacher's bias costs more than the noise it removes.",
}


def diagnosed(
    moments: GradientMoments, *, batch_size: int, bias_factor: float | None, resolved: bool
) -> Diagnosis:
    """Return what limits distillation here, the worst first.

    Args:
        moments: At the student's present state.
        batch_size: B of training.
        bias_factor: B (1 + kappa) of the long run, or None where it is not known.
        resolved: Whether the weight of the long run has a bounded interval.
    """
    if moments.tr_hh <= SAME_AS_LABELS * moments.tr_gg:
        return "interpolating teacher"
    if moments.tr_gh <= 0:
        return "anti-correlated teacher"
    if moments.gbar2 * batch_size > moments.tr_gg:
        return "far from the optimum"
    if not resolved:
        return "unresolved"
    if bias_factor is not None and bias_factor > moments.B_T:
        return "biased teacher"
    return "healthy"


def action_for(diagnosis: Diagnosis, moments: GradientMoments) -> str:
    """Return the action, with how many rows are needed where that is the matter."""
    if diagnosis == "anti-correlated teacher":
        size, alike = distillation_gradient(moments)
        return ACTIONS[diagnosis].format(size=size, alike=alike)
    if diagnosis != "unresolved":
        return ACTIONS[diagnosis]
    needed, least = rows_needed(moments)
    rows = "more than the data may hold" if math.isinf(needed) else f"{math.ceil(needed)}"
    return ACTIONS[diagnosis].format(rows=f"at least {rows}" if least else f"about {rows}")


def distillation_gradient(moments: GradientMoments) -> tuple[float, float]:
    r"""Return how large a row's distillation gradient d = g - h is, and how much it is like g.

    .. math:: \sqrt{\mathrm{tr}_{dd} / \mathrm{tr}_{gg}}, \qquad
              \frac{\mathrm{tr}_{gd}}{\sqrt{\mathrm{tr}_{gg}\, \mathrm{tr}_{dd}}}

    Args:
        moments: Of some rows.

    Returns:
        The ratio of the two deviations, and the correlation in [-1, 1]; zeros where one is
        constant.

    Source:
        Derived.
    """
    of_both = moments.tr_gg - moments.tr_gh
    own = of_both - moments.tr_gh + moments.tr_hh
    if moments.tr_gg <= 0 or own <= 0:
        return 0.0, 0.0
    return math.sqrt(own / moments.tr_gg), of_both / math.sqrt(own * moments.tr_gg)


def rows_needed(moments: GradientMoments) -> tuple[float, bool]:
    r"""Return how many rows show the bias at three standard errors, and whether that is a least.

    .. math:: n \ge 3\, B_T \sqrt{2 / r}

    with r the number of directions of the noise. Where the bias is not resolved, its upper
    confidence limit stands for it, and the number is a least one; where r is not known, the present
    standard error is scaled by 1 / n.

    Args:
        moments: Of some rows.

    Source:
        Derived.
    """
    error = moments.standard_errors["hbar2"]
    seen = moments.resolved("hbar2")
    bias = moments.hbar2 if seen else max(moments.hbar2, 0.0) + 2 * error
    if bias <= 0:
        return math.inf, True
    if moments.noise_dimensions is None or math.isinf(moments.noise_dimensions):
        return moments.n * 3 * error / bias, not seen
    return 3 * moments.tr_hh / bias * math.sqrt(2 / moments.noise_dimensions), not seen
