"""The unbiased divergence of sampled labels that has no noise at the teacher (k3)."""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor

from limbeck.losses.asked import Drawn, MeanOfDrawn
from limbeck.losses.sampled import (
    bounded_excess,
    check_clip,
    check_sampled,
    log_probabilities_of,
    log_ratio,
    mean_of_draws,
)


CLIP = math.e**3  # of section 4 M's simulations


def k3_loss(
    student_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "*draws"],
    log_probabilities: Float[Tensor, "*draws"],
    *,
    clip: float | None = None,
    weights: Float[Tensor, "*draws"] | None = None,
) -> Float[Tensor, ""]:
    r"""Estimate KL(teacher, student) from labels that the teacher drew and reported.

    .. math:: r - 1 - \log r, \qquad r = p(a) / t(a), \quad a \sim t

    The mean over draws is the divergence and its gradient the divergence's gradient p - t in the
    logits (without a clip). Every single label's loss is zero at p(a) = t(a), so the noise of
    sampling dies out as the student comes near the teacher. Far from it, where p(a) is many times
    t(a), it is noisier than cross-entropy: clip r, or take
    :func:`~limbeck.losses.control_variate_loss`.

    Args:
        student_logits: The student's logits; gradients flow into these.
        labels: Labels drawn from the teacher, one or several a row; -1 is an absent one.
        log_probabilities: What the teacher reported for them [nats, at most 0]; detached here.
        clip: Largest r in the gradient, at least 1: beyond it r goes on along its tangent in log r,
            which biases only labels that the student has far too likely. None takes all that a
            drawn label can have, up to e^30.
        weights: Weight of every label, at least zero, such as how many draws it stands for; None
            means 1.

    Returns:
        The weighted mean over the labels [nats], at least zero; zero when the student has the
        reported numbers (and where there is no label).

    Raises:
        ShapeError: If logits, labels, numbers and weights do not fit each other.
        ArgumentError: If ``clip`` is below 1.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        The student has 1/2 where the teacher reported 1/4: 2 - 1 - ln 2.

        >>> import torch
        >>> k3_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0.25]).log())
        tensor(0.3069)

    Note:
        The ratio is exp(log p - log t), in float32 at least; probabilities are never divided.

    Source:
        Schulman (2020), "Approximating KL divergence" (a note), the third estimator, with the
        roles of the two distributions of distillation; clip derived.
    """
    check_sampled("k3_loss", student_logits, labels, log_probabilities, weights)
    check_clip("k3_loss", clip)
    ratio = log_ratio(log_probabilities_of(student_logits, labels), log_probabilities, labels)
    return mean_of_draws(k3_terms(ratio, clip), labels, weights)


def k3_terms(ratio: Float[Tensor, "*draws"], clip: float | None) -> Float[Tensor, "*draws"]:
    """Return every label's loss by its log r."""
    return bounded_excess(ratio, clip) - ratio


class K3(MeanOfDrawn):
    """:func:`k3_loss` as a training term, on labels that the teacher drew.

    Args:
        draws: Labels a sample, of a live teacher; of answers all are used.
        clip: As in the function.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    def __init__(
        self,
        *,
        draws: int = 1,
        clip: float | None = CLIP,
        seed: int = 0,
        redraw: bool = False,
    ) -> None:
        super().__init__(draws=draws, seed=seed, redraw=redraw)
        check_clip("K3", clip)
        self.clip = clip

    def value(self, logits: Float[Tensor, "batch classes"], drawn: Drawn) -> Float[Tensor, ""]:
        """Return the mean over the samples that have labels, by the student's logits."""
        return k3_loss(
            logits, drawn.labels, drawn.log_probabilities, clip=self.clip, weights=drawn.weights
        )
