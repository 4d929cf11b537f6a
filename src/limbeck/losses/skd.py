"""Streamlined knowledge distillation (SKD): directions of logits, by their Mahalanobis distance."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_between, check_positive, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.kd import kd_loss
from limbeck.losses.numerics import at_least_float32, unit_rows, without_autocast
from limbeck.losses.whole_batch import all_rows
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def gram_mahalanobis_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    ridge: float = 0.1,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Bring the angles between the student's rows of logits to the teacher's.

    .. math:: \frac{1}{b} \sum_i \sqrt{d_i\, \Sigma^{-1} d_i^\top}, \qquad
              D = \frac{1}{c} (\hat Z_S \hat Z_S^\top - \hat Z_T \hat Z_T^\top), \qquad
              \Sigma = \mathrm{cov}(D) + \rho I

    where :math:`\hat Z` are the logits with rows of length 1, :math:`d_i` the rows of D, and the
    covariance is that of D's columns over its rows (unbiased). As each row is measured by the
    spread of all, the loss hardly grows with D once that is larger than the ridge.

    Args:
        student_logits: The student's logits; gradients flow into these, through the covariance as
            well.
        teacher_logits: The teacher's logits; detached here.
        ridge: What is added to the covariance's diagonal, above zero.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call, and each of them computes the whole.

    Returns:
        The loss of the batch [no unit], at least zero; zero, with a zero gradient, when all angles
        agree (as in a batch of one, and in one without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``ridge`` is not above zero.

    Example:
        Equal for the student, orthogonal for the teacher: D is (0, 1; 1, 0) / 2, its covariance
        (1, -1; -1, 1) / 8. With ridge 0.75 the inverse is (7, 1; 1, 7) / 6, so both rows give
        sqrt(7 / 24).

        >>> student = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> gram_mahalanobis_loss(student, torch.eye(2), ridge=0.75)
        tensor(0.5401)

    Note:
        Cost grows with the cube of the whole batch's size. A row of zeros is orthogonal to all.

    Source:
        Streamlined Knowledge Distillation, CVPR 2026; as in HyunJunSik/StreamLined, without its
        mask, which multiplies a number of the whole batch.
    """
    check_same_shape(
        "gram_mahalanobis_loss", student_logits=student_logits, teacher_logits=teacher_logits
    )
    check_positive("gram_mahalanobis_loss", ridge=ridge)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    student, teacher = (all_rows(z, across_ranks) for z in (student, teacher))
    count, classes = student.shape
    if count < 2:  # a row has no angle to itself; a number that carries a zero gradient
        return 0.0 * student.sum()
    s, t = unit_rows(student), unit_rows(teacher)
    with without_autocast(s):
        difference = (s @ s.T - t @ t.T) / max(classes, 1)
        centred = difference - difference.mean(dim=0)
        covariance = centred.T @ centred / (count - 1)
        factor, _ = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(count).to(covariance))
        whitened = torch.linalg.solve_triangular(factor, difference.T, upper=False)
    squares = whitened.square().sum(dim=0)
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0).mean()


class SKD(nn.Module):
    """KD plus :func:`gram_mahalanobis_loss` as a training term: no parameters, no features.

    Args:
        temperature: Of the divergence (:func:`limbeck.losses.kd_loss`), above zero.
        gram_weight: Weight of the other term beside it, at least zero.
        ridge: As in the function.
        across_ranks: Whether the angles are those between all processes' rows.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.1, 0.9)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        gram_weight: float = 1.0,
        ridge: float = 0.1,
        across_ranks: bool = True,
    ) -> None:
        super().__init__()
        check_positive("SKD", temperature=temperature, ridge=ridge)
        check_between("SKD", 0.0, float("inf"), gram_weight=gram_weight)
        self.temperature, self.gram_weight = temperature, gram_weight
        self.ridge, self.across_ranks = ridge, across_ranks

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; labels are not used."""
        mine, theirs = logits_of("SKD", student, teacher)
        divergence = kd_loss(mine, theirs, temperature=self.temperature)
        if self.across_ranks:
            divergence = share_of_batch(divergence, mine.shape[0])
        gram = gram_mahalanobis_loss(mine, theirs, ridge=self.ridge, across_ranks=self.across_ranks)
        return divergence + self.gram_weight * gram
