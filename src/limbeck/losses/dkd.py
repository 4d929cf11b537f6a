"""Decoupled knowledge distillation (DKD)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.checks import check_between, check_positive
from limbeck.losses.divergence import (
    binary_divergence_rows,
    check_labelled,
    divergence_rows,
    log_odds,
    mean_over_labelled,
    number_labelled,
    targets_of,
)
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def dkd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"],
    *,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    nontarget_weight: float = 8.0,
) -> Float[Tensor, ""]:
    r"""Match how sure the teacher is of the label, and apart from it how it ranks the others.

    .. math:: \alpha\, \tau^2\, \mathrm{KL}(b^T \,\|\, b^S)
              + \beta\, \tau^2\, \mathrm{KL}(\hat p^T \,\|\, \hat p^S), \qquad
              b = (p_y, 1 - p_y), \quad \hat p = \mathrm{softmax}(z_{k \ne y} / \tau)

    with :math:`p = \mathrm{softmax}(z / \tau)`. In plain KD the second term has the factor
    :math:`1 - p^T_y`, which silences it wherever the teacher is sure.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        targets: Class indices; rows with a negative one are unlabelled and left out.
        temperature: Softening of all distributions, above zero.
        target_weight: Weight alpha of the first term (TCKD), at least zero.
        nontarget_weight: Weight beta of the second term (NCKD), at least zero. Published for
            CIFAR-100: 2, 6 or 8, the larger where the teacher is surer; for ImageNet 0.5 at
            temperature 1.

    Returns:
        The mean over the labelled rows [nats, times temperature squared], at least zero; zero when
        the two distributions agree, and zero with a zero gradient when no row has a label. For two
        classes the second term is zero.

    Raises:
        ShapeError: If logits and targets do not fit, or there is a single class.
        ArgumentError: If the temperature is not above zero, or a weight is negative.

    Example:
        With two classes it is plain KD: 2 (0.8808 - 0.1192).

        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> dkd_loss(student, teacher, torch.tensor([0]), temperature=1.0)
        tensor(1.5232)

    Note:
        Computed from log-odds, in float32 at least: a student that is sure of a wrong class gives
        a finite value, where the logarithm of a softmax gives infinity.

    Source:
        Zhao, Cui, Song, Qiu and Liang (2022), arXiv:2203.08679. Weights as in
        megvii-research/mdistiller, which also warms the term up over 20 epochs.
    """
    check_labelled("dkd_loss", student_logits, teacher_logits, targets)
    _check_hyperparameters("dkd_loss", temperature, target_weight, nontarget_weight)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    student, teacher = student / temperature, teacher / temperature
    labels = targets.clamp_min(0).long()
    target = binary_divergence_rows(log_odds(student, labels), log_odds(teacher, labels))
    others = torch.arange(student.shape[1], device=labels.device) != labels[:, None]
    nontarget = divergence_rows(student, teacher, others)
    rows = target_weight * target + nontarget_weight * nontarget
    return temperature**2 * mean_over_labelled(rows, targets)


class DKD(nn.Module):
    """:func:`dkd_loss` as a training term: no parameters, no features, labels from the batch."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = False  # a mean over the labelled ones

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        target_weight: float = 1.0,
        nontarget_weight: float = 8.0,
    ) -> None:
        super().__init__()
        _check_hyperparameters("DKD", temperature, target_weight, nontarget_weight)
        self.temperature = temperature
        self.target_weight, self.nontarget_weight = target_weight, nontarget_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the labelled rows."""
        mine, theirs = logits_of("DKD", student, teacher)
        targets = targets_of("DKD", batch)
        value = dkd_loss(
            mine,
            theirs,
            targets,
            temperature=self.temperature,
            target_weight=self.target_weight,
            nontarget_weight=self.nontarget_weight,
        )
        return share_of_batch(value, number_labelled(targets, value))


def _check_hyperparameters(
    where: str, temperature: float, target_weight: float, nontarget_weight: float
) -> None:
    check_positive(where, temperature=temperature)
    check_between(
        where,
        0.0,
        float("inf"),
        target_weight=target_weight,
        nontarget_weight=nontarget_weight,
    )
