"""LumiNet: logits standardised class by class over the batch."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_positive, check_same_shape
from limbeck.losses.divergence import divergence_rows
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch, sum_over_ranks
from limbeck.types import Batch, Outputs


def luminet_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    scale: float = 33.0,
    temperature: float = 4.0,
    eps: float = 1e-5,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Match which samples of the batch each class is given to, rather than the logits themselves.

    .. math:: \alpha^2\, \mathrm{KL}(q^T \,\|\, q^S), \qquad
              q_i = \mathrm{softmax}(h_i / \tau), \qquad
              h_{ik} = \frac{z_{ik} - \bar z_k}{\sqrt{\mathrm{var}_k + \epsilon}}

    with mean and biased variance of every class over the batch. There is no factor
    :math:`\tau^2`.

    Args:
        student_logits: The student's logits; gradients flow into these, also through their mean
            and variance.
        teacher_logits: The teacher's logits; detached here.
        scale: The factor alpha, above zero, which enters squared. Published with temperature and
            weight of the task: (33, 4, 2) for ResNet-32x4 to ResNet-8x4, (70, 8, 1) and (75, 8, 1)
            for others.
        temperature: Softening of both distributions, above zero.
        eps: Added to the variances, above zero.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The batch mean [nats, times alpha squared], at least zero; zero when the standardised
        logits agree up to a shift of the row, as for a batch of one, and for one without rows.

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``scale``, ``temperature`` or ``eps`` is not above zero.

    Example:
        The columns become 1 and -1, for the student exchanged: both rows have KL 1.5232 between
        the softmax of (1, -1) and of (-1, 1).

        >>> import torch
        >>> student = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
        >>> luminet_loss(student, 9 * student.flip(0), scale=1.0, temperature=1.0)
        tensor(1.5232)

    Source:
        Hossain and others (2023), arXiv:2310.03669; constants as in ismail31416/LumiNet, which
        also warms the term up over 20 epochs.
    """
    check_same_shape("luminet_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_positive("luminet_loss", scale=scale, temperature=temperature, eps=eps)
    student, teacher = (
        _by_column(z, eps, across_ranks) / temperature
        for z in at_least_float32(student_logits, teacher_logits.detach())
    )
    value = scale**2 * divergence_rows(student, teacher).sum() / max(student.shape[0], 1)
    return share_of_batch(value, student.shape[0]) if across_ranks else value


class LumiNet(nn.Module):
    """:func:`luminet_loss` as a training term: no parameters, no features.

    Args:
        scale: As in the function, and so are ``temperature`` and ``eps``.
        temperature: See there.
        eps: See there.
        across_ranks: Whether mean and variance are those of all processes' rows.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (2.0, 1.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        scale: float = 33.0,
        temperature: float = 4.0,
        eps: float = 1e-5,
        across_ranks: bool = True,
    ) -> None:
        super().__init__()
        check_positive("LumiNet", scale=scale, temperature=temperature, eps=eps)
        self.scale, self.temperature, self.eps = scale, temperature, eps
        self.across_ranks = across_ranks

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; labels are not used."""
        mine, theirs = logits_of("LumiNet", student, teacher)
        return luminet_loss(
            mine,
            theirs,
            scale=self.scale,
            temperature=self.temperature,
            eps=self.eps,
            across_ranks=self.across_ranks,
        )


def _by_column(logits: Tensor, eps: float, across_ranks: bool) -> Tensor:
    """Return the logits with mean 0 and variance near 1 in every column over the whole batch."""

    def mean(values: Tensor) -> Tensor:
        total = sum_over_ranks(values.sum(dim=0)) if across_ranks else values.sum(dim=0)
        return total / rows.clamp_min(1.0)

    count = logits.new_full((), float(logits.shape[0]))
    rows = sum_over_ranks(count) if across_ranks else count
    # Twice: what rounding leaves of a constant column the first time is gone after the second.
    centred = logits - mean(logits.detach())
    centred = centred - mean(centred)
    return centred * (mean(centred.square()) + eps).rsqrt()
