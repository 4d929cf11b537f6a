"""Relational knowledge distillation (RKD)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from limbeck.checks import check_between, check_positive, check_same_rows
from limbeck.losses.connectors import Layer, layer_names, pooled_pairs
from limbeck.losses.numerics import SHORTEST_ROW, at_least_float32, without_autocast
from limbeck.losses.whole_batch import all_rows
from limbeck.types import Batch, Outputs


def rkd_loss(
    student: Float[Tensor, "batch student_width"],
    teacher: Float[Tensor, "batch teacher_width"],
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    across_ranks: bool = False,
    max_numbers: int = 1 << 24,
) -> Float[Tensor, ""]:
    r"""Keep the teacher's distances between pairs and angles of triples of samples.

    .. math:: \frac{w_D}{b^2} \sum_{ij} h(D^S_{ij} - D^T_{ij})
              + \frac{w_A}{b^3} \sum_{ijk} h(A^S_{ijk} - A^T_{ijk}), \qquad
              A_{ijk} = \langle e_{ij}, e_{ik} \rangle, \quad
              e_{ij} = \frac{f_j - f_i}{\|f_j - f_i\|}

    D are the distances divided by the mean of those above zero, and h is the smooth absolute value
    of Huber with threshold 1: :math:`x^2/2` up to 1, :math:`|x| - 1/2` beyond.

    Args:
        student: The student's features; gradients flow into these, also through the mean distance.
        teacher: The teacher's features, of any width; detached here.
        distance_weight: Weight :math:`w_D` of the pairs, at least zero.
        angle_weight: Weight :math:`w_A` of the triples, at least zero; at zero they are skipped.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.
        max_numbers: How many differences and angles of one side are held at once. Beyond it the
            triples are taken in tiles that the backward pass computes again; one of b (b + width)
            numbers is the least. The value does not depend on it.

    Returns:
        The weighted sum [no unit, no nats], at least zero; zero where the shapes that the samples
        form are similar, up to rotation, shift and scale (and for fewer than two rows).

    Raises:
        ShapeError: If the numbers of rows differ.
        ArgumentError: If a weight is negative, or ``max_numbers`` not above zero.

    Example:
        Three points on a line, equally spaced for the teacher: distances 1, 1, 2 over 4/3. For the
        student 1, 2, 3 over 2. The differences are 1/4, 1/4 and 0 (each for two of nine pairs):
        4 (1/32)/9 = 0.0139. Directions agree.

        >>> student, teacher = (
        ...     torch.tensor([[0.0], [1.0], [3.0]]),
        ...     torch.tensor([[0.0], [1.0], [2.0]]),
        ... )
        >>> rkd_loss(student, teacher, distance_weight=1.0)
        tensor(0.0139)

    Source:
        Park, Kim, Lu and Cho (2019), arXiv:1904.05068; weights and the mean over all entries, with
        the pairs of a sample and itself, as in the CRD set-up, arXiv:1910.10699.
    """
    check_same_rows("rkd_loss", student=student, teacher=teacher)
    check_between("rkd_loss", 0.0, 1e30, distance_weight=distance_weight, angle_weight=angle_weight)
    check_positive("rkd_loss", max_numbers=max_numbers)
    mine, theirs = at_least_float32(student, teacher.detach())
    mine, theirs = all_rows(mine, across_ranks), all_rows(theirs, across_ranks)
    rows = len(mine)
    with_angles = angle_weight > 0
    width = max(mine.shape[1], theirs.shape[1])
    height = max(1, max_numbers // max(1, rows * (width + (rows if with_angles else 0))))
    distances, angles = [], mine.new_zeros(())
    for start in range(0, rows, height):
        given = mine, theirs, start, start + height, with_angles
        if height >= rows:
            found = _relations(*given)
        else:
            found = checkpoint(_relations, *given, use_reentrant=False, preserve_rng_state=False)
        distances.append(found[:2])
        angles = angles + found[2]
    pairs = mine.sum() * 0.0
    if rows:
        own, other = (_scaled(torch.cat(side)) for side in zip(*distances, strict=True))
        pairs = F.smooth_l1_loss(own, other)
    return distance_weight * pairs + angle_weight * angles / max(rows, 1) ** 3


def _relations(
    student: Tensor, teacher: Tensor, start: int, stop: int, with_angles: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both sides' distances from some rows to all, and the summed loss of angles there."""
    lengths, angles = [], []
    for rows in (student, teacher):
        difference = rows[None, :] - rows[start:stop, None]
        length = torch.linalg.vector_norm(difference, dim=2)
        lengths.append(length)
        if with_angles:
            unit = difference / torch.where(length > SHORTEST_ROW, length, 1.0)[:, :, None]
            with without_autocast(unit):
                angles.append(unit @ unit.transpose(1, 2))
    total = student.new_zeros(())
    if with_angles:
        total = F.smooth_l1_loss(angles[0], angles[1], reduction="sum")
    return lengths[0], lengths[1], total


def _scaled(distances: Tensor) -> Tensor:
    """Divide by the mean of the distances above zero; all zeros stay zeros."""
    positive = distances > SHORTEST_ROW
    mean = distances.sum() / positive.sum().clamp_min(1)
    return distances / torch.where(positive.any(), mean, 1.0)


class RKD(nn.Module):
    """:func:`rkd_loss`, summed over layers, as a training term: no parameters.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher". Maps
            are averaged over space and token states over tokens
            (:func:`limbeck.losses.pooled`).
        distance_weight: As in the function, and so is ``angle_weight``.
        angle_weight: See there.
        across_ranks: Whether samples are compared with all processes' rows.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        layer: Layer = "penultimate",
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        across_ranks: bool = True,
    ) -> None:
        super().__init__()
        check_between("RKD", 0.0, 1e30, distance_weight=distance_weight, angle_weight=angle_weight)
        self.layers = layer_names("RKD", layer)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight
        self.across_ranks = across_ranks

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch, summed over layers; targets are not used."""
        values = [
            rkd_loss(
                mine,
                theirs,
                distance_weight=self.distance_weight,
                angle_weight=self.angle_weight,
                across_ranks=self.across_ranks,
            )
            for mine, theirs in pooled_pairs("RKD", self.layers, student, teacher, batch)
        ]
        return sum(values[1:], start=values[0])
