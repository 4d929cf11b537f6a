"""SimKD: the map that a student ends in against the map that the teacher's classifier reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ShapeError
from limbeck.losses.connectors import STAGES, Layer, layer_names, pairs_of
from limbeck.losses.fitnet import hint_loss
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


MAPS: Mapping[str, str] = {"student": "projector", "teacher": STAGES[-1]}


class SimKD(nn.Module):
    """:func:`hint_loss` of two layers as they are, as a training term: no parameters.

    It is for students of :func:`limbeck.students.reusing_head`, which end in a projector to the
    teacher's channels and in the teacher's own classifier. The published training has no other
    term: the weights are 0 for the task and 1 for this.

    Args:
        layer: A layer for both sides, or a dict of one each for "student" and "teacher": the
            projected map, and the map that global average pooling averages.

    Source:
        Chen, Mei, Zhang, Wang, Feng and Chen (2022), arXiv:2203.14001; the mean over entries is
        that of the authors' code (DefangChen/SimKD).
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, layer: Layer = MAPS) -> None:
        super().__init__()
        self.layers = layer_names("SimKD", layer, one=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        (pair,) = pairs_of("SimKD", self.layers, student, teacher, batch)
        if pair.student.shape[1] != pair.teacher.shape[1]:
            raise ShapeError(
                f"{pair.where}: expected as many channels on both sides. Make the student with "
                "limbeck.students.reusing_head and name its `projector`, or take fitnet, which "
                "has a regressor of its own."
            )
        value = hint_loss(pair.student, pair.teacher, mask=pair.mask)
        return share_of_batch(value, len(pair.student))
