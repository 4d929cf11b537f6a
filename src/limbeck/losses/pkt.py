"""Probabilistic knowledge transfer (PKT)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_positive, check_same_rows
from limbeck.losses.connectors import Layer, layer_names, pooled_pairs
from limbeck.losses.numerics import SHORTEST_ROW, at_least_float32, without_autocast
from limbeck.losses.whole_batch import all_rows
from limbeck.types import Batch, Outputs


def pkt_loss(
    student: Float[Tensor, "batch student_width"],
    teacher: Float[Tensor, "batch teacher_width"],
    *,
    eps: float = 1e-7,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Match the distribution of every sample over its neighbours in the batch.

    .. math:: \frac{1}{b^2} \sum_{ij} P^T_{ij}
              \ln \frac{P^T_{ij} + \epsilon}{P^S_{ij} + \epsilon}, \qquad
              P_{ij} = \frac{1 + \cos_{ij}}{\sum_l (1 + \cos_{il})}

    Args:
        student: The student's features; gradients flow into these.
        teacher: The teacher's features, of any width; detached here.
        eps: Above zero; added to probabilities, and to lengths before division.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The divergence of a row's distribution, averaged over rows and divided by the batch size
        once more [nats / b], at least zero but for eps; zero where the distributions agree (and
        for fewer than two rows). A row of zeros has cosine 0 to all, also to itself.

    Raises:
        ShapeError: If the numbers of rows differ.
        ArgumentError: If ``eps`` is not above zero.

    Example:
        The teacher's rows are (2/3, 1/3) and its reverse, the student's (1/2, 1/2): each row's
        divergence is ln(4/3) 2/3 + ln(2/3)/3 = 0.0566, and 2 of them over 4 make 0.0283.

        >>> import torch
        >>> pkt_loss(torch.ones(2, 1), torch.eye(2))
        tensor(0.0283)

    Source:
        Passalis and Tefas (2018), arXiv:1803.10837; with the diagonal and the mean over all
        entries, as in the authors' code and the CRD set-up, arXiv:1910.10699.
    """
    check_same_rows("pkt_loss", student=student, teacher=teacher)
    check_positive("pkt_loss", eps=eps)
    sides = at_least_float32(student, teacher.detach())
    mine, theirs = (_neighbours(all_rows(side, across_ranks), eps) for side in sides)
    terms = theirs * ((theirs + eps).log() - (mine + eps).log())
    return terms.sum() / max(terms.numel(), 1)


def _neighbours(rows: Tensor, eps: float) -> Tensor:
    """Return the distribution of every row over all rows."""
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # Not length + eps for zeros: the gradient of a dead row would be 1/eps.
    unit = rows / torch.where(length > SHORTEST_ROW, length + eps, 1.0)
    with without_autocast(unit):
        likeness = ((unit @ unit.T + 1.0) / 2.0).clamp_min(0.0)
    return likeness / likeness.sum(dim=1, keepdim=True)


class PKT(nn.Module):
    """:func:`pkt_loss`, summed over layers, as a training term: no parameters.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher". Maps
            are averaged over space and token states over tokens
            (:func:`limbeck.losses.pooled`).
        eps: As in the function.
        across_ranks: Whether samples are compared with all processes' rows.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 30000.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self, layer: Layer = "penultimate", *, eps: float = 1e-7, across_ranks: bool = True
    ) -> None:
        super().__init__()
        check_positive("PKT", eps=eps)
        self.layers = layer_names("PKT", layer)
        self.eps, self.across_ranks = eps, across_ranks

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch, summed over layers; targets are not used."""
        values = [
            pkt_loss(
                mine,
                theirs,
                eps=self.eps,
                across_ranks=self.across_ranks,
            )
            for mine, theirs in pooled_pairs("PKT", self.layers, student, teacher, batch)
        ]
        return sum(values[1:], start=values[0])
