"""Distillation from a stronger teacher by correlations within and between samples (DIST)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_between, check_positive, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32, centred_moments
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


GUARD = 1e-8  # added to the product of the two lengths, as in the authors' code


def dist_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float = 4.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Make the student's class probabilities correlate with the teacher's, by rows and columns.

    .. math:: \tau^2 \Bigl[\beta \Bigl(1 - \frac{1}{b} \sum_i \rho(p^S_{i,:}, p^T_{i,:})\Bigr)
              + \gamma \Bigl(1 - \frac{1}{c} \sum_k \rho(p^S_{:,k}, p^T_{:,k})\Bigr)\Bigr]

    :math:`\rho` is Pearson's correlation and :math:`p = \mathrm{softmax}(z / \tau)`. A student that
    is too small to reach the teacher's probabilities can still reach their relations.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        temperature: Softening of both distributions, above zero. The paper takes 4 for CIFAR-100
            and 1 for ImageNet.
        inter_weight: Weight beta of the term between the classes of a sample, at least zero.
        intra_weight: Weight gamma of the term between the samples for a class, at least zero.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The loss of the batch [no unit, times temperature squared], from 0 to 2 (beta + gamma)
        times temperature squared; zero where all correlations are 1, up to a guard of 1e-8 in
        the denominators that is felt where probabilities hardly vary. A row or column that is
        constant for student or teacher has correlation 0; so a batch of one counts 1 in the
        second term. Zero for a batch without rows.

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If the temperature is not above zero, or a weight is negative.

    Example:
        Every row and every column anticorrelates: (1 + 1) + (1 + 1).

        >>> student = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> dist_loss(student, student.flip(0), temperature=1.0)
        tensor(4.)

    Source:
        Huang, You, Wang, Qian and Xu (2022), arXiv:2205.10536; guard of the denominator as
        in hunto/DIST_KD.
    """
    check_same_shape("dist_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    _check_hyperparameters("dist_loss", temperature, inter_weight, intra_weight)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    student, teacher = ((z / temperature).softmax(dim=1) for z in (student, teacher))
    rows, of_columns = centred_moments(student, teacher, across_ranks)
    moments = zip(_moments_of_rows(student, teacher), of_columns, strict=True)
    apart = 1.0 - _correlations(*(torch.cat(pair) for pair in moments))
    count, classes = student.shape
    inter = rows.new_full((), inter_weight / max(count, 1))
    if across_ranks:
        inter = share_of_batch(inter, count)
    intra = (rows > 0).to(rows.dtype) * (intra_weight / max(classes, 1))
    return temperature**2 * (apart @ torch.cat([inter.expand(count), intra.expand(classes)]))


class DIST(nn.Module):
    """:func:`dist_loss` as a training term: no parameters, no features.

    Args:
        temperature: As in the function, and so are the weights.
        inter_weight: See there.
        intra_weight: See there.
        across_ranks: Whether columns run over all processes' rows.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 2.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        across_ranks: bool = True,
    ) -> None:
        super().__init__()
        _check_hyperparameters("DIST", temperature, inter_weight, intra_weight)
        self.temperature, self.across_ranks = temperature, across_ranks
        self.inter_weight, self.intra_weight = inter_weight, intra_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; labels are not used."""
        mine, theirs = logits_of("DIST", student, teacher)
        return dist_loss(
            mine,
            theirs,
            temperature=self.temperature,
            inter_weight=self.inter_weight,
            intra_weight=self.intra_weight,
            across_ranks=self.across_ranks,
        )


def _moments_of_rows(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s, t = (p - 1.0 / max(p.shape[1], 1) for p in (student, teacher))  # of a row's mean
    return (s * s).sum(dim=1), (t * t).sum(dim=1), (s * t).sum(dim=1)


def _correlations(ss: Tensor, tt: Tensor, st: Tensor) -> Tensor:
    """Return Pearson's correlations from centred sums; 0, without gradient, where one is constant.

    The lengths are multiplied after the root, so that small ones do not vanish first.
    """
    constant = (ss <= 0) | (tt <= 0)
    lone = constant.to(ss.dtype)
    found = st / ((ss + lone).sqrt() * (tt + lone).sqrt() + GUARD)
    return found.masked_fill(constant, 0.0)


def _check_hyperparameters(
    where: str, temperature: float, inter_weight: float, intra_weight: float
) -> None:
    check_positive(where, temperature=temperature)
    check_between(where, 0.0, float("inf"), inter_weight=inter_weight, intra_weight=intra_weight)
