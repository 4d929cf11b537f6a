"""Skew KL divergence (DistiLLM): the teacher against a mixture of student and teacher."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def skew_kl_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    alpha: float = 0.1,
    reverse: bool = False,
) -> Float[Tensor, ""]:
    r"""Match the teacher by a divergence that stays bounded where the student has nothing.

    .. math:: \mathrm{KL}(t \,\|\, \alpha t + (1 - \alpha) p) \qquad \text{or} \qquad
              \mathrm{KL}(p \,\|\, \alpha p + (1 - \alpha) t)

    The second, ``reverse``, is for text that the student wrote.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        alpha: Share of the first distribution in the mixture, in [0, 1); at 0 the first is KL(t, p)
            and the second KL(p, t).
        reverse: Take the second.

    Returns:
        The batch mean [nats], from zero to -ln alpha; zero when the two distributions agree (and
        for a batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``alpha`` is outside of [0, 1).

    Example:
        The mixture of a sure teacher and 1/2 in equal parts has 3/4 of its label: ln(4/3).

        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[99.0, 0.0]])
        >>> skew_kl_loss(student, teacher, alpha=0.5)
        tensor(0.2877)

    Source:
        Ko, Kim, Chen and Yun (2024), arXiv:2402.03898 (skew KL); Ko and others (2025),
        arXiv:2503.07067 (its use on both kinds of text). The default of alpha is the first's.
    """
    check_same_shape("skew_kl_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_alpha("skew_kl_loss", alpha)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    first, second = F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)
    if reverse:
        first, second = second, first
    divergence = (first.exp() * (first - mixture(first, second, alpha))).sum()
    return divergence / max(student.shape[0], 1)


def mixture(
    first: Float[Tensor, "batch classes"], second: Float[Tensor, "batch classes"], share: float
) -> Float[Tensor, "batch classes"]:
    """Return the logarithm of ``share`` of the first and the rest of the second distribution."""
    if share in (0.0, 1.0):
        return first if share else second
    return torch.logaddexp(first + math.log(share), second + math.log1p(-share))


def check_alpha(where: str, alpha: float) -> None:
    """Raise ArgumentError unless the mixture has something of the other distribution."""
    if not 0.0 <= alpha < 1.0:
        raise ArgumentError(f"{where}: expected `alpha` in [0, 1); got {alpha}.")


class SkewKL(nn.Module):
    """:func:`skew_kl_loss` as a training term: no parameters, no features."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, alpha: float = 0.1, reverse: bool = False) -> None:
        super().__init__()
        check_alpha("SkewKL", alpha)
        self.alpha, self.reverse = alpha, reverse

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("SkewKL", student, teacher)
        value = skew_kl_loss(mine, theirs, alpha=self.alpha, reverse=self.reverse)
        return share_of_batch(value, mine.shape[0])
