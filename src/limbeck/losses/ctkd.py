"""Curriculum temperature (CTKD): a temperature that is trained against the student."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_between, check_positive, check_same_shape
from limbeck.losses.divergence import divergence_rows
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


STAGES = 10  # the authors' ramp takes a step an epoch, for ten epochs


def ctkd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    theta: Float[Tensor, ""],
    *,
    reversal: float | Float[Tensor, ""] = 1.0,
    lowest: float = 1.0,
    span: float = 20.0,
) -> Float[Tensor, ""]:
    r"""Match softened distributions at a temperature that learns to make this hard.

    .. math:: \tau^2\, \mathrm{KL}(p^T_\tau \,\|\, p^S_\tau), \qquad
              \tau = \tau_0 + \Delta\, \mathrm{sigmoid}(\theta)

    The gradient of :math:`\theta` is multiplied by :math:`-\lambda`, so that descent on it is
    ascent of the loss.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        theta: What the temperature is made of; its gradient is reversed.
        reversal: The factor lambda of the reversed gradient, in [0, 1]; the value does not depend
            on it.
        lowest: Lowest temperature tau_0, above zero.
        span: How far above it the temperature may go, at least zero.

    Returns:
        The batch mean [nats, times temperature squared], at least zero; zero when the two
        distributions agree (and for a batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If a hyperparameter is outside of its range.

    Example:
        At theta 0 the temperature is 1 + 2/2 = 2: the probabilities are those of logits (2, 0) at
        temperature 1, exchanged, so 4 times 1.5232.

        >>> student, teacher = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
        >>> ctkd_loss(student, teacher, torch.tensor(0.0), span=2.0)
        tensor(6.0928)

    Source:
        Li, Li, Yang, Zhao, Song, Luo, Li and Yang (2023), arXiv:2211.16231, the global
        temperature; range as in zhengli97/CTKD.
    """
    check_same_shape("ctkd_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    _check_range("ctkd_loss", lowest, span)
    if not isinstance(reversal, Tensor):  # a tensor is not looked at: that would wait for it
        check_between("ctkd_loss", 0.0, 1.0, reversal=reversal)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    still = theta.detach()
    temperature = lowest + span * torch.sigmoid(still - reversal * (theta - still))
    rows = divergence_rows(student / temperature, teacher / temperature)
    return (temperature**2 * rows.sum() / max(student.shape[0], 1)).to(student.dtype)


class CTKD(nn.Module):
    """:func:`ctkd_loss` as a training term that owns ``theta``: one learned number, no features.

    A loss is not told the epoch, so the ramp of the reversal runs over steps: each call in training
    mode with gradients counts one in a buffer. It rises from 0 to 1 on half a cosine, in ten equal
    stages as in the authors' code, where a stage is an epoch; the first stage already has 0.024.

    Args:
        start: First value of theta; 1 is a temperature of 15.6.
        lowest: As in the function, and so is ``span``.
        span: See there.
        ramp_steps: Calls until the reversal is complete, at least 1: ten epochs, times the
            micro-batches of a step. The default is that for 50,000 samples in batches of 64.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.1, 0.9)
    mean_over_samples: ClassVar[bool] = True

    steps: Tensor

    def __init__(
        self,
        *,
        start: float = 1.0,
        lowest: float = 1.0,
        span: float = 20.0,
        ramp_steps: int = 7820,
    ) -> None:
        super().__init__()
        _check_range("CTKD", lowest, span)
        check_positive("CTKD", ramp_steps=ramp_steps)
        self.lowest, self.span, self.ramp_steps = lowest, span, ramp_steps
        self.theta = nn.Parameter(torch.tensor(float(start)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """The present temperature, without gradient."""
        return self.lowest + self.span * torch.sigmoid(self.theta.detach())

    @property
    def reversal(self) -> Float[Tensor, ""]:
        """The factor by which the gradient of theta is reversed at the present step."""
        stage = (1 + self.steps * STAGES // self.ramp_steps).clamp_max(STAGES)
        return 0.5 - 0.5 * torch.cos(math.pi / STAGES * stage.to(self.theta.dtype))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("CTKD", student, teacher)
        value = ctkd_loss(
            mine,
            theirs,
            self.theta,
            reversal=self.reversal,
            lowest=self.lowest,
            span=self.span,
        )
        if self.training and torch.is_grad_enabled():
            self.steps += 1
        return share_of_batch(value, mine.shape[0])


def _check_range(where: str, lowest: float, span: float) -> None:
    check_positive(where, lowest=lowest)
    check_between(where, 0.0, float("inf"), span=span)
