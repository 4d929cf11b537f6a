"""Transformed teacher matching (TTM), and weighted by how flat the teacher is (WTTM)."""

from __future__ import annotations

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


def ttm_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    exponent: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Match the student, as it is, to a teacher whose probabilities are raised to a power.

    .. math:: \mathrm{KL}(p^{T,\gamma} \,\|\, p^S), \qquad
              p^{T,\gamma}_k = \frac{(p^T_k)^\gamma}{\sum_l (p^T_l)^\gamma}, \qquad
              p = \mathrm{softmax}(z)

    The power :math:`\gamma` is one over a temperature; the student has none. Against plain KD, to
    leave out the student's temperature amounts to one more term, a Renyi entropy that regularises.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        exponent: The power gamma, above zero; below one it flattens. Published: 0.1 to 0.4.

    Returns:
        The batch mean [nats], at least zero; zero when the student equals the transformed teacher
        (and for a batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``exponent`` is not above zero.

    Example:
        The teacher's odds 16 become 4, so 4/5 against the student's 1/2: ln 2 less the entropy,
        0.6931 - 0.5004.

        >>> import torch
        >>> ttm_loss(torch.zeros(1, 2), torch.tensor([[16.0, 1.0]]).log(), exponent=0.5)
        tensor(0.1927)

    Source:
        Zheng and Yang (2024), arXiv:2402.11148; as in zkxufo/TTM.
    """
    check_same_shape("ttm_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_positive("ttm_loss", exponent=exponent)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    return divergence_rows(student, exponent * teacher).sum() / max(student.shape[0], 1)


def wttm_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    exponent: float = 0.1,
) -> Float[Tensor, ""]:
    r"""Match as :func:`ttm_loss` does, and heed samples more where the teacher is flat.

    .. math:: \frac{1}{b} \sum_i U_i\, \mathrm{KL}(p^{T,\gamma}_i \,\|\, p^S_i), \qquad
              U_i = \sum_k (p^T_{ik})^\gamma

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        exponent: The power gamma, above zero; below one it flattens. Published: 0.1 to 0.4 for
            CIFAR-100, 0.7 and 0.8 for ImageNet.

    Returns:
        The batch mean [nats, weighted by 1 to c^(1 - gamma) where gamma is at most 1], at least
        zero; zero when the student equals the transformed teacher (and for a batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``exponent`` is not above zero.

    Example:
        The sample of :func:`ttm_loss` has U = (4 + 1) / sqrt(17) = 1.2127: 0.1927 times that.

        >>> import torch
        >>> wttm_loss(torch.zeros(1, 2), torch.tensor([[16.0, 1.0]]).log(), exponent=0.5)
        tensor(0.2337)

    Source:
        Zheng and Yang (2024), arXiv:2402.11148; as in zkxufo/TTM.
    """
    check_same_shape("wttm_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_positive("wttm_loss", exponent=exponent)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    powers = exponent * F.log_softmax(teacher, dim=1)
    weighted = powers.logsumexp(dim=1).exp() * divergence_rows(student, powers)
    return weighted.sum() / max(student.shape[0], 1)


class TTM(nn.Module):
    """:func:`ttm_loss` as a training term: no parameters, no features.

    The paper tunes power and weight for every pair of networks, from (0.1, 101) to (0.3, 7); the
    default is what it takes for WRN-40-2 to WRN-40-1.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 76.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, exponent: float = 0.1) -> None:
        super().__init__()
        check_positive("TTM", exponent=exponent)
        self.exponent = exponent

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("TTM", student, teacher)
        return share_of_batch(ttm_loss(mine, theirs, exponent=self.exponent), mine.shape[0])


class WTTM(nn.Module):
    """:func:`wttm_loss` as a training term: no parameters, no features.

    The paper tunes power and weight for every pair of networks, from (0.3, 1.5) to (0.4, 16); the
    default is what it takes for WRN-40-2 to WRN-40-1.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 3.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, exponent: float = 0.1) -> None:
        super().__init__()
        check_positive("WTTM", exponent=exponent)
        self.exponent = exponent

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("WTTM", student, teacher)
        return share_of_batch(wttm_loss(mine, theirs, exponent=self.exponent), mine.shape[0])
