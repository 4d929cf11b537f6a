"""Attention transfer (AT)."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import ShapeError
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    layer_names,
    mean_of_samples,
    pairs_of,
    same_size,
)
from limbeck.losses.numerics import at_least_float32, unit_rows
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def attention_transfer_loss(
    student: Float[Tensor, "batch student_channels *positions"],
    teacher: Float[Tensor, "batch teacher_channels *other_positions"],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Let the student be active where the teacher is, whatever the channels.

    .. math:: \frac{1}{b\,n} \sum_{i,p} (q^S_{ip} - q^T_{ip})^2, \qquad
              q_i = \frac{a_i}{\|a_i\|}, \qquad a_{ip} = \frac{1}{C} \sum_c f_{icp}^2

    with n positions p.

    Args:
        student: The student's maps, or token states with the channels first; gradients flow into
            these.
        teacher: The teacher's, of any number of channels; detached here. Of two maps of unlike
            size the larger is average-pooled to the smaller.
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The batch mean [no unit, no nats], in [0, 2/n]; zero where both are active at the same
        positions (and for a batch without rows). A sample that is zero everywhere has q = 0.

    Raises:
        ShapeError: If the features have no positions, or sizes or rows do not fit.

    Example:
        Each side is active at one of two positions, not the same: (1 + 1)/2.

        >>> import torch
        >>> attention_transfer_loss(torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, -1.0]]]]))
        tensor(1.)

    Source:
        Zagoruyko and Komodakis (2017), arXiv:1612.03928; the mean over positions and the squared
        norm are those of the authors' code, where the text has the norm of the difference.
    """
    if min(student.ndim, teacher.ndim) < 3 or len(student) != len(teacher):
        raise ShapeError(
            "attention_transfer_loss: expected maps or token states of the same rows; got student "
            f"{tuple(student.shape)}, teacher {tuple(teacher.shape)}. Choose layers that are not "
            "pooled."
        )
    sides = at_least_float32(student, teacher.detach())
    if mask is not None:
        sides = tuple(side.masked_fill(~mask[:, None], 0.0) for side in sides)
    mine, theirs = (
        unit_rows(side.square().mean(dim=1).flatten(1)) for side in same_size(sides[0], sides[1])
    )
    return mean_of_samples((mine - theirs).square()[:, None], mask)


class AT(nn.Module):
    """:func:`attention_transfer_loss`, summed over layers, as a training term: no parameters.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher"; maps
            or token states.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1000.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, layer: Layer = STAGES) -> None:
        super().__init__()
        self.layers = layer_names("AT", layer)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = pairs_of("AT", self.layers, student, teacher, batch)
        total = pairs[0].student.new_zeros(())
        for pair in pairs:
            total = total + attention_transfer_loss(pair.student, pair.teacher, mask=pair.mask)
        return share_of_batch(total, len(pairs[0].student))
