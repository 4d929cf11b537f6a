"""Similarity-preserving distillation (SP)."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ShapeError
from limbeck.losses.connectors import Layer, layer_names
from limbeck.losses.features import feature_of, pooled
from limbeck.losses.numerics import at_least_float32, unit_rows, without_autocast
from limbeck.losses.whole_batch import all_rows
from limbeck.types import Batch, Outputs


def similarity_loss(
    student: Float[Tensor, "batch ..."],
    teacher: Float[Tensor, "batch ..."],
    *,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Let samples that are alike for the teacher be alike for the student.

    .. math:: \frac{1}{b^2} \|\tilde G^S - \tilde G^T\|_F^2, \qquad G = F F^\top

    :math:`\tilde G` is G with every row divided by its length, F the flattened features.

    Args:
        student: The student's features, of any shape; gradients flow into these.
        teacher: The teacher's features, of any shape; detached here.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The loss of the batch [no unit, no nats], in [0, 4/b]; zero where the similarities agree up
        to a factor for each row (and for a batch without rows). A sample that is zero has
        similarity zero to all.

    Raises:
        ShapeError: If the numbers of rows differ.

    Example:
        All rows are alike for the student (entries 1/√2), none for the teacher (the identity):
        (2 (1/2) + 2 (1 - 1/√2)²)/4 = 0.2929.

        >>> import torch
        >>> similarity_loss(torch.ones(2, 1), torch.eye(2))
        tensor(0.2929)

    Source:
        Tung and Mori (2019), arXiv:1907.09682.
    """
    if min(student.ndim, teacher.ndim) < 1 or len(student) != len(teacher):
        raise ShapeError(
            "similarity_loss: expected features with one row a sample; got student "
            f"{tuple(student.shape)}, teacher {tuple(teacher.shape)}. Give both the same batch."
        )
    sides = at_least_float32(student, teacher.detach())
    mine, theirs = (_similarities(all_rows(side, across_ranks)) for side in sides)
    return (mine - theirs).square().sum() / max(mine.numel(), 1)


def _similarities(rows: Tensor) -> Tensor:
    flat = rows.reshape(len(rows), rows[:1].numel() if len(rows) else 0)
    with without_autocast(flat):
        return unit_rows(flat @ flat.T)


class SP(nn.Module):
    """:func:`similarity_loss`, summed over layers, as a training term: no parameters.

    Maps are flattened; token states are averaged over tokens first, as the third word of one text
    has nothing to do with the third of another.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher".
        across_ranks: Whether samples are compared with all processes' rows.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 3000.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(self, layer: Layer = "layer3", *, across_ranks: bool = True) -> None:
        super().__init__()
        self.layers = layer_names("SP", layer)
        self.across_ranks = across_ranks

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch, summed over layers; targets are not used."""
        values = []
        for names in zip(self.layers["student"], self.layers["teacher"], strict=True):
            mine = feature_of("SP", "student", student, names[0])
            theirs = feature_of("SP", "teacher", teacher, names[1])
            mine, theirs = (pooled(one, batch) if one.ndim == 3 else one for one in (mine, theirs))
            values.append(similarity_loss(mine, theirs, across_ranks=self.across_ranks))
        return sum(values[1:], start=values[0])
