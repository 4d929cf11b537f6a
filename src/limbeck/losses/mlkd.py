"""Multi-level logit distillation (MLKD), on one view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, check_between, check_positive, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.kd import kd_loss
from limbeck.losses.numerics import at_least_float32, without_autocast
from limbeck.losses.whole_batch import all_rows
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def mlkd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperatures: Sequence[float | int] = TEMPERATURES,
    instance_weight: float = 1.0,
    class_weight: float = 1.0,
    batch_weight: float = 1.0,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Match the class distributions, their correlations over the batch, and between its samples.

    .. math:: \sum_\tau \Bigl[ \tau^2\, \mathrm{KL}(p^T_\tau \,\|\, p^S_\tau)
              + \frac{1}{c} \|P_T^\top P_T - P_S^\top P_S\|_F^2
              + \frac{1}{b} \|P_T P_T^\top - P_S P_S^\top\|_F^2 \Bigr]

    where the rows of :math:`P` are the distributions :math:`\mathrm{softmax}(z / \tau)`.

    The published recipe shows each sample twice, weakly and strongly augmented, and adds these
    terms for both, less those that its code drops. Here is one view: a batch carries one view of
    each sample, and a teacher that was stored answers for that one. Left out as well are the masks
    of that code, which multiply numbers of the whole batch and act as a factor of about a half.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        temperatures: Softenings that are summed over, each above zero.
        instance_weight: Weight of the divergence, at least zero.
        class_weight: Weight of the term between classes, at least zero.
        batch_weight: Weight of the term between samples, at least zero.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The loss of the batch [nats times temperature squared, plus two terms without unit], at
        least zero; zero when the distributions agree (and for a batch without rows). The term
        between classes grows with the square of the batch's size.

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If there is no temperature, one is not above zero, or a weight is negative.

    Example:
        The probabilities are 0.8808 and 0.1192, exchanged: KL 1.5232; P^T P differs by 0.7616 and
        -0.7616 on its diagonal, so 2 (0.7616)² / 2 = 0.58; P P^T does not differ.

        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> mlkd_loss(student, teacher, temperatures=(1.0,))
        tensor(2.1032)

    Source:
        Jin, Wang and Lin (2023), Multi-Level Logit Distillation, CVPR; normalisation as in
        Jin-Ying/Multi-Level-Logit-Distillation.
    """
    check_same_shape("mlkd_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    _check_hyperparameters("mlkd_loss", temperatures, instance_weight, class_weight, batch_weight)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    divergence = sum(
        (kd_loss(student, teacher, temperature=temperature) for temperature in temperatures),
        start=student.new_zeros(()),
    )
    if across_ranks:
        divergence = share_of_batch(divergence, student.shape[0])
        student, teacher = all_rows(student), all_rows(teacher)
    between = student.new_zeros(())
    for temperature in temperatures:
        s, t = ((z / temperature).softmax(dim=1) for z in (student, teacher))
        between = between + class_weight * _gram_difference(s.T, t.T)
        between = between + batch_weight * _gram_difference(s, t)
    return instance_weight * divergence + between


class MLKD(nn.Module):
    """:func:`mlkd_loss` as a training term: no parameters, no features.

    Args:
        temperatures: As in the function, and so are the weights.
        instance_weight: See there.
        class_weight: See there.
        batch_weight: See there.
        across_ranks: Whether the last two terms run over all processes' rows.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.1, 0.9)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        temperatures: Sequence[float | int] = TEMPERATURES,
        instance_weight: float = 1.0,
        class_weight: float = 1.0,
        batch_weight: float = 1.0,
        across_ranks: bool = True,
    ) -> None:
        super().__init__()
        _check_hyperparameters("MLKD", temperatures, instance_weight, class_weight, batch_weight)
        self.temperatures = tuple(map(float, temperatures))
        self.instance_weight, self.class_weight = instance_weight, class_weight
        self.batch_weight, self.across_ranks = batch_weight, across_ranks

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; labels are not used."""
        mine, theirs = logits_of("MLKD", student, teacher)
        return mlkd_loss(
            mine,
            theirs,
            temperatures=self.temperatures,
            instance_weight=self.instance_weight,
            class_weight=self.class_weight,
            batch_weight=self.batch_weight,
            across_ranks=self.across_ranks,
        )


def _gram_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared difference of two Gram matrices, by the number of vectors (rows)."""
    with without_autocast(student):
        difference = teacher @ teacher.T - student @ student.T
    return difference.square().sum() / max(student.shape[0], 1)


def _check_hyperparameters(
    where: str,
    temperatures: Sequence[float | int],
    instance_weight: float,
    class_weight: float,
    batch_weight: float,
) -> None:
    if not temperatures:
        raise ArgumentError(f"{where}: expected at least one of `temperatures`; got none.")
    for temperature in temperatures:
        check_positive(where, temperatures=temperature)
    check_between(
        where,
        0.0,
        float("inf"),
        instance_weight=instance_weight,
        class_weight=class_weight,
        batch_weight=batch_weight,
    )
