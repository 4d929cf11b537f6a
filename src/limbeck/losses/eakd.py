"""Entropy-based adaptive distillation (EA-KD): uncertain samples weigh more."""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import check_positive, check_same_shape
from limbeck.losses.divergence import divergence_rows
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def eakd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float = 4.0,
    entropy_temperature: float = 3.0,
) -> Float[Tensor, ""]:
    r"""Match softened distributions, the more where the teacher is uncertain and the student too.

    .. math:: \frac{\tau^2}{b} \sum_i w_i\, \mathrm{KL}(p^T_{i,\tau} \,\|\, p^S_{i,\tau}), \qquad
              w_i = \tfrac12 H(p^T_{i,\tau'}) \Bigl(1 + \frac{H(p^S_{i,\tau'})}{\ln c}\Bigr)

    The weights carry no gradient.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        temperature: Softening tau of the divergence, above zero.
        entropy_temperature: Softening tau' of the entropies, above zero.

    Returns:
        The batch mean [nats, times temperature squared, weighted by 0 to ln c], at least zero;
        zero when the two distributions agree or the teacher is sure of every sample (and for a
        batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If a temperature is not above zero.

    Example:
        The teacher has 4/5 and entropy 0.5004, the student is at the largest entropy, so the
        weight is 0.5004; the divergence is ln 2 less 0.5004, which is 0.1927.

        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[4.0, 1.0]]).log()
        >>> eakd_loss(student, teacher, temperature=1.0, entropy_temperature=1.0)
        tensor(0.0964)

    Source:
        Su, Tseng, Pu, Zhao, Yang, Chen and Lee (2025), arXiv:2311.13621. The code, cpsu00/EA-KD,
        divides the student's entropy by ln c on ImageNet, but by 100 instead of ln 100 on
        CIFAR-100, and adds 1e-10 to probabilities; here it is ln c always, and nothing added.
    """
    check_same_shape("eakd_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_positive("eakd_loss", temperature=temperature, entropy_temperature=entropy_temperature)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    weights = _weights(student.detach() / entropy_temperature, teacher / entropy_temperature)
    rows = divergence_rows(student / temperature, teacher / temperature)
    return temperature**2 * (weights * rows).sum() / max(student.shape[0], 1)


class EAKD(nn.Module):
    """:func:`eakd_loss` as a training term: no parameters, no features."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.1, 0.9)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 4.0, entropy_temperature: float = 3.0) -> None:
        super().__init__()
        check_positive("EAKD", temperature=temperature, entropy_temperature=entropy_temperature)
        self.temperature, self.entropy_temperature = temperature, entropy_temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("EAKD", student, teacher)
        value = eakd_loss(
            mine,
            theirs,
            temperature=self.temperature,
            entropy_temperature=self.entropy_temperature,
        )
        return share_of_batch(value, mine.shape[0])


def _weights(student: Tensor, teacher: Tensor) -> Tensor:
    largest = math.log(max(student.shape[1], 2))  # of a single class every entropy is 0
    return 0.5 * _entropy(teacher) * (1.0 + _entropy(student) / largest)


def _entropy(scores: Tensor) -> Tensor:
    logarithms = F.log_softmax(scores, dim=1)
    return -(logarithms.exp() * logarithms).sum(dim=1)
