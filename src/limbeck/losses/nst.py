"""Neuron selectivity transfer (NST)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ShapeError
from limbeck.losses.connectors import STAGES, Layer, layer_names, pairs_of, same_size
from limbeck.losses.numerics import SHORTEST_ROW, at_least_float32, without_autocast
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def nst_loss(
    student: Float[Tensor, "batch student_channels *positions"],
    teacher: Float[Tensor, "batch teacher_channels *other_positions"],
) -> Float[Tensor, ""]:
    r"""Let the student's channels be distributed over positions as the teacher's are.

    .. math:: \frac{1}{b} \sum_i \Bigl( \operatorname*{mean}_{c,c'} k(s_{ic}, s_{ic'})
              + \operatorname*{mean}_{c,c'} k(t_{ic}, t_{ic'})
              - 2 \operatorname*{mean}_{c,c'} k(s_{ic}, t_{ic'}) \Bigr), \qquad
              k(x, y) = \langle x, y \rangle^2

    It is the squared maximum mean discrepancy between the two sets of channels, each channel a
    vector over positions, of length 1.

    Args:
        student: The student's maps, or token states with the channels first and zeros where a
            token does not count; gradients flow into these.
        teacher: The teacher's, of any number of channels; detached here. Of two maps of unlike
            size the larger is average-pooled to the smaller.

    Returns:
        The batch mean [no unit, no nats], in [0, 2]; zero where the second moments of the channels
        agree (and for a batch without rows). A channel that is zero everywhere stays zero.

    Raises:
        ShapeError: If the features have no positions, or sizes or rows do not fit.

    Example:
        One channel each, orthogonal: 1 + 1 - 0.

        >>> import torch
        >>> nst_loss(torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, -1.0]]]]))
        tensor(2.)

    Note:
        Computed as the squared difference of the two second moments where there are fewer
        positions than channels, from the kernel's sums elsewhere.

    Source:
        Huang and Wang (2017), arXiv:1707.01219, with the polynomial kernel of degree 2.
    """
    if min(student.ndim, teacher.ndim) < 3 or len(student) != len(teacher):
        raise ShapeError(
            "nst_loss: expected maps or token states of the same rows; got student "
            f"{tuple(student.shape)}, teacher {tuple(teacher.shape)}. Choose layers that are not "
            "pooled."
        )
    sides = same_size(*at_least_float32(student, teacher.detach()))
    mine, theirs = (_selectivity(side.flatten(2)) for side in sides)
    with without_autocast(mine):
        if mine.shape[2] < max(mine.shape[1], theirs.shape[1]):
            gap = mine.transpose(1, 2) @ mine - theirs.transpose(1, 2) @ theirs
            total = gap.square().sum()
        else:
            own, other, cross = (
                (one @ two.transpose(1, 2)).square().sum()
                for one, two in ((mine, mine), (theirs, theirs), (mine, theirs))
            )
            total = own + other - 2.0 * cross
    return total / max(len(mine), 1)


def _selectivity(channels: Tensor) -> Tensor:
    """Give every channel the same length, such that their second moments are means."""
    length = torch.linalg.vector_norm(channels, dim=2, keepdim=True)
    count = channels.shape[1]
    return channels / torch.where(length > SHORTEST_ROW, length, 1.0) / max(count, 1) ** 0.5


class NST(nn.Module):
    """:func:`nst_loss`, summed over layers, as a training term: no parameters.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher"; maps
            or token states.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 50.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, layer: Layer = STAGES) -> None:
        super().__init__()
        self.layers = layer_names("NST", layer)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = pairs_of("NST", self.layers, student, teacher, batch)
        total = pairs[0].student.new_zeros(())
        for pair in pairs:
            total = total + nst_loss(pair.student, pair.teacher)
        return share_of_batch(total, len(pairs[0].student))
