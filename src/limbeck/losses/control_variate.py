"""Cross-entropy on sampled labels with the noise taken out by their reported probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import check_between
from limbeck.losses.asked import Drawn, MeanOfDrawn
from limbeck.losses.k3 import CLIP
from limbeck.losses.numerics import at_least_float32
from limbeck.losses.sampled import (
    bounded_excess,
    check_clip,
    check_sampled,
    log_bound,
    log_probabilities_of,
    log_ratio,
    mean_of_draws,
    weights_of_draws,
)
from limbeck.ranks import sum_over_ranks


def control_variate_loss(
    student_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "*draws"],
    log_probabilities: Float[Tensor, "*draws"],
    *,
    weight: float | Float[Tensor, ""],
    clip: float | None = None,
    weights: Float[Tensor, "*draws"] | None = None,
) -> Float[Tensor, ""]:
    r"""Score the labels that the teacher drew, less the noise that their numbers explain.

    .. math:: g_\lambda = \lambda r - \log p(a), \qquad r = p(a) / t(a), \quad a \sim t

    For every :math:`\lambda` the mean gradient is that of KL(t, p), because the mean of r times the
    label's score is zero; what :math:`\lambda` changes is the noise. 0 is cross-entropy, 1 has the
    gradient of :func:`~limbeck.losses.k3_loss`; the least noise is at
    :math:`\lambda^* = E[r s] / E[r^2 s]`, s the squared length of the score, which
    :class:`AdaptiveControlVariate` follows.

    Args:
        student_logits: The student's logits; gradients flow into these.
        labels: Labels drawn from the teacher, one or several a row; -1 is an absent one.
        log_probabilities: What the teacher reported for them [nats, at most 0]; detached here.
        weight: The :math:`\lambda`, in [0, 1]; a constant in the backward pass. A tensor is not
            looked at.
        clip: Largest r in the gradient, at least 1, as in :func:`~limbeck.losses.k3_loss`.
        weights: Weight of every label, at least zero, such as how many draws it stands for; None
            means 1.

    Returns:
        The weighted mean over the labels [nats], at least zero. It has no fixed zero: its mean over
        draws is :math:`\lambda` + KL(t, p) + the teacher's entropy. Zero where there is no label.

    Raises:
        ShapeError: If logits, labels, numbers and weights do not fit each other.
        ArgumentError: If ``weight`` is outside of [0, 1] or ``clip`` below 1.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        The student has 1/2 where the teacher reported 1/4: half of 2, plus ln 2.

        >>> label, reported = torch.tensor([0]), torch.tensor([0.25]).log()
        >>> control_variate_loss(torch.zeros(1, 2), label, reported, weight=0.5)
        tensor(1.6931)

    Source:
        Derived, from arXiv:2310.07838's access to sampled probabilities; see
        ``k3_loss`` for the case of 1.
    """
    check_sampled("control_variate_loss", student_logits, labels, log_probabilities, weights)
    check_clip("control_variate_loss", clip)
    if not isinstance(weight, Tensor):  # a tensor is not looked at: that would wait for it
        check_between("control_variate_loss", 0.0, 1.0, weight=weight)
    student = log_probabilities_of(student_logits, labels)
    terms = control_variate_terms(
        student, log_ratio(student, log_probabilities, labels), weight, clip
    )
    return mean_of_draws(terms, labels, weights)


def control_variate_terms(
    student: Float[Tensor, "*draws"],
    ratio: Float[Tensor, "*draws"],
    weight: float | Float[Tensor, ""],
    clip: float | None,
) -> Float[Tensor, "*draws"]:
    """Return every label's loss by its log p and log r."""
    if isinstance(weight, Tensor):
        weight = weight.detach().to(ratio.dtype)
    return weight * (1.0 + bounded_excess(ratio, clip)) - student


class AdaptiveControlVariate(nn.Module):
    r"""The :math:`\lambda` of :func:`control_variate_loss` with the least noise, while training.

    It keeps exponential averages of r s and of r^2 s over the labels of all ranks, as buffers, so
    that a checkpoint has them, and takes their quotient, within [0, 1], for the next step. Before
    anything was observed it is 0, cross-entropy.

    Call it in the place of the function on sampled labels; or hand its ``weight`` to a loss and
    tell :meth:`observe` what came.

    Args:
        decay: What an average keeps of itself at a step, in [0, 1).
        clip: Largest r, at least 1, as in the function; None for no bound.

    Raises:
        ArgumentError: If ``decay`` or ``clip`` is outside of its range.

    Example:
        p is 1/2 for both labels, so r is 2 where 1/4 was reported and 2/3 where 3/4 was. The scores
        have the same length: 1/4 of 2 and 3/4 of 2/3 are 1, over 1/4 of 4 and 3/4 of 4/9, 4/3.

        >>> adaptive = AdaptiveControlVariate()
        >>> labels, shares = torch.tensor([[0, 1]]), torch.tensor([[0.25, 0.75]])
        >>> adaptive(torch.zeros(1, 2), labels, shares.log(), weights=shares)
        tensor(0.6931)
        >>> adaptive.weight
        tensor(0.7500)
    """

    moments: Tensor

    def __init__(self, *, decay: float = 0.98, clip: float | None = None) -> None:
        super().__init__()
        check_between("AdaptiveControlVariate", 0.0, 1.0 - 1e-9, decay=decay)
        check_clip("AdaptiveControlVariate", clip)
        self.decay, self.clip = decay, clip
        self.register_buffer("moments", torch.zeros(2))

    @property
    def weight(self) -> Float[Tensor, ""]:
        """The present lambda, without gradient."""
        above, below = self.moments.clone()
        return (above / below.clamp_min(torch.finfo(below.dtype).tiny)).clamp(0.0, 1.0)

    @torch.no_grad()
    def observe(
        self,
        ratio: Float[Tensor, "*draws"],
        squared_scores: Float[Tensor, "*draws"],
        weights: Float[Tensor, "*draws"],
    ) -> None:
        """Move the averages towards the labels of this step, on all ranks alike.

        Args:
            ratio: log r of every label.
            squared_scores: Squared length of the gradient of log p(a), for instance in the logits:
                1 - 2 p(a) + the sum of the squared p.
            weights: Of the labels; 0 for an absent one. All ranks must call, also without labels.
        """
        r = ratio.detach().clamp_max(log_bound(self.clip)).exp()
        rs = weights * r * squared_scores
        sums = sum_over_ranks(torch.stack([rs.sum(), (rs * r).sum(), weights.sum()]))
        means = (sums[:2] / sums[2].clamp_min(torch.finfo(sums.dtype).tiny)).to(self.moments)
        moved = self.decay * self.moments + (1.0 - self.decay) * means
        self.moments.copy_(torch.where(sums[2] > 0, moved, self.moments))

    def forward(
        self,
        student_logits: Float[Tensor, "batch classes"],
        labels: Int[Tensor, "*draws"],
        log_probabilities: Float[Tensor, "*draws"],
        weights: Float[Tensor, "*draws"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss at the present lambda, and learn from the labels while training."""
        value = control_variate_loss(
            student_logits,
            labels,
            log_probabilities,
            weight=self.weight,
            clip=self.clip,
            weights=weights,
        )
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                student = log_probabilities_of(student_logits, labels)
                ratio = log_ratio(student, log_probabilities, labels)
                kept = weights_of_draws(student, labels, weights)
                self.observe(ratio, squared_scores(student_logits, student), kept)
        return value


def squared_scores(
    student_logits: Float[Tensor, "batch classes"], student: Float[Tensor, "*draws"]
) -> Float[Tensor, "*draws"]:
    """Return 1 - 2 p(a) + |p|^2 of labels with log-probabilities ``student``."""
    (logits,) = at_least_float32(student_logits)
    squares = (2.0 * F.log_softmax(logits, dim=1)).exp().sum(dim=1)
    return 1.0 - 2.0 * student.exp() + squares.reshape(-1, *[1] * (student.ndim - 1))


class ControlVariate(MeanOfDrawn):
    """:class:`AdaptiveControlVariate` as a training term, on labels that the teacher drew.

    It is a mean over samples at any lambda, which is that of earlier steps.

    Args:
        draws: Labels a sample, of a live teacher; of answers all are used.
        weight: A fixed lambda in [0, 1]; None follows the one of least noise.
        decay: See :class:`AdaptiveControlVariate`.
        clip: Largest r, at least 1, as in :func:`control_variate_loss`.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    def __init__(
        self,
        *,
        draws: int = 1,
        weight: float | None = None,
        decay: float = 0.98,
        clip: float | None = CLIP,
        seed: int = 0,
        redraw: bool = False,
    ) -> None:
        super().__init__(draws=draws, seed=seed, redraw=redraw)
        if weight is not None:
            check_between("ControlVariate", 0.0, 1.0, weight=weight)
        self.weight = weight
        self.adaptive = AdaptiveControlVariate(decay=decay, clip=clip)

    def value(self, logits: Float[Tensor, "batch classes"], drawn: Drawn) -> Float[Tensor, ""]:
        """Return the mean over the samples that have labels, by the student's logits."""
        if self.weight is None:
            return self.adaptive(logits, *drawn)
        return control_variate_loss(
            logits,
            drawn.labels,
            drawn.log_probabilities,
            weight=self.weight,
            clip=self.adaptive.clip,
            weights=drawn.weights,
        )
