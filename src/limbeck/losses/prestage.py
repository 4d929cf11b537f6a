"""Terms that shape the student in the first epochs of a run and are gone afterwards."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_between
from limbeck.losses.features import feature_of
from limbeck.losses.numerics import at_least_float32
from limbeck.types import Batch, Outputs


class PreStage(nn.Module, ABC):
    """A distillation term of the first epochs: zero, with zero gradient, in all later ones.

    It is the student that the term trains, with the run's optimiser, beside the task term. Where
    nobody calls ``begin_epoch``, the term holds always.

    Args:
        where: Name of the loss, for messages.
        share: Share of the run's epochs in which the term holds; at least one epoch.

    Raises:
        ArgumentError: If ``share`` is not between 0 and 1.
    """

    layers: dict[str, tuple[str, ...]]

    def __init__(self, where: str, share: float) -> None:
        super().__init__()
        check_between(where, 0.0, 1.0, share=share)
        self.where, self.share = where, share
        self.holds = True

    @abstractmethod
    def term(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the term of the first epochs."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Note whether an epoch, counted from 0, is among the first."""
        self.holds = epoch < max(math.floor(epochs * self.share), 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the term, or zero in epochs after the first."""
        if self.holds:
            return self.term(student, teacher, batch)
        name = self.layers["student"][0]
        (zero,) = at_least_float32(feature_of(self.where, "student", student, name).new_zeros(()))
        # A distributed wrapper wants a gradient for every parameter.
        return zero + sum((0.0 * part.sum() for part in self.parameters()), start=zero)
