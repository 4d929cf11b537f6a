"""Knowledge distillation on softened logits (KD)."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import check_positive, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def kd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    r"""Match the student's softened class distribution to the teacher's.

    .. math:: \tau^2\, \mathrm{KL}(p^T_\tau \,\|\, p^S_\tau), \qquad
              p_\tau = \mathrm{softmax}(z / \tau)

    The factor :math:`\tau^2` keeps the size of the gradient when the temperature :math:`\tau`
    changes. It is the default where teacher and student share their classes.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        temperature: Softening of both distributions, above zero.

    Returns:
        The batch mean [nats, times temperature squared], at least zero; zero when the two
        distributions agree (and for a batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``temperature`` is not above zero.

    Example:
        The probabilities are e²/(e²+1) = 0.8808 and its rest, exchanged: KL = 2 (0.8808 - 0.1192).

        >>> import torch
        >>> kd_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), temperature=1.0)
        tensor(1.5232)

    Note:
        Computed in log-space, in float32 at least.

    Source:
        Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 2.
    """
    check_same_shape("kd_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_positive("kd_loss", temperature=temperature)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum()
    return temperature**2 * divergence / max(student.shape[0], 1)


class KD(nn.Module):
    """:func:`kd_loss` as a training term: no parameters, no features."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.1, 0.9)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, temperature: float = 4.0) -> None:
        super().__init__()
        check_positive("KD", temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("KD", student, teacher)
        value = kd_loss(mine, theirs, temperature=self.temperature)
        return share_of_batch(value, mine.shape[0])
