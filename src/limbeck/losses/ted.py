"""Task-aware distillation (TED): filters learn the task first, then the student is matched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, check_between
from limbeck.labels import cross_entropy
from limbeck.losses.connectors import STAGES, Layer, layer_names
from limbeck.losses.filters import Filter, filterable_pairs, head, resting
from limbeck.losses.match import match_loss
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


class TED(nn.Module):
    """Task-aware layer-wise distillation, in two stages that the training loop runs.

    In the first epochs a filter and a classifier head on each side learn to tell the label from the
    resting networks' layers. Then the heads are dropped, the teacher's filter rests, and student
    and student filter are brought to the filtered teacher by the mean squared error.

    Args:
        layer: Layers that are compared: a name, several, or one or several for each of "student"
            and "teacher".
        share: Share of the run's epochs in which filters and heads learn; at least one epoch.
        seed: Of the filters' first weights.

    Raises:
        ArgumentError: If the layers are not in pairs, or ``share`` is not between 0 and 1.

    Note:
        The student starts from where it is: pass one that was trained on labels to begin as the
        paper of TED does. Distillation of logits, which the original adds, is left to ``kd``.

    Source:
        Liang et al. (2023), arXiv:2210.01351, for language models; for networks on images as in
        Dissanayake et al. (2025), arXiv:2411.07483, equations 43 and 44, with the mean over
        positions and channels of the authors' code.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 10.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        layer: Layer = STAGES,
        *,
        share: float = 0.125,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_between("TED", 0.0, 1.0, share=share)
        self.layers = layer_names("TED", layer)
        self.share, self.seed = share, seed
        self.filters = nn.ModuleDict({side: nn.ModuleList() for side in ("student", "teacher")})
        self.heads = nn.ModuleDict({side: nn.ModuleList() for side in ("student", "teacher")})

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make filters and heads for the shapes of a first batch, unless there are some."""
        if len(self._filters("student")):
            return
        if student.logits is None:
            raise ArgumentError(
                "TED: expected a student with logits, to know the classes; got none. Distil a "
                "classifier."
            )
        classes = student.logits.shape[1]
        for place, pair in enumerate(self._pairs(student, teacher, batch)):
            out = pair[0].shape[1]
            for side, rows, middle in zip(
                ("student", "teacher"), pair, (2 * out, None), strict=True
            ):
                widths = rows.shape[1], middle or rows.shape[1], out
                named = {"seed": self.seed, "name": f"ted {side} {place}", "like": rows}
                self._filters(side).append(Filter(widths, **named))
                self._heads(side).append(head(out * rows[0, 0].numel(), classes, **named))

    def auxiliary_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the first stage trains: all filters and heads."""
        yield from self.parameters()

    def main_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the second stage trains beside the student: its filters."""
        yield from self._filters("student").parameters()

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Return whether an epoch, counted from 0, belongs to the first stage."""
        return epoch < max(math.floor(epochs * self.share), 1)

    def auxiliary_loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the cross-entropy of all heads on the labelled rows, summed [nats]."""
        self._check_prepared()
        if batch.targets is None:
            raise ArgumentError(
                "TED: expected labels, which its filters learn; got rows without any. Distil "
                "unlabelled rows with kd, itrd or vid."
            )
        labelled = int((batch.targets >= 0).sum())
        values = []
        for place, pair in enumerate(self._pairs(student, teacher, batch)):
            for side, rows in zip(("student", "teacher"), pair, strict=True):
                filtered = self._filters(side)[place](rows.detach())
                logits = self._heads(side)[place](torch.relu(filtered).flatten(1))
                values.append(share_of_batch(cross_entropy(logits, batch.targets), labelled))
        return torch.stack(values).sum()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the squared errors of the filtered layers, summed."""
        self._check_prepared()
        values = []
        for place, (mine, theirs) in enumerate(self._pairs(student, teacher, batch)):
            with resting(self._filters("teacher")[place]):
                goal = self._filters("teacher")[place](theirs)
            value = match_loss(self._filters("student")[place](mine), goal)
            values.append(share_of_batch(value, len(mine)))
        return torch.stack(values).sum()

    def _filters(self, side: str) -> nn.ModuleList:
        return self.filters[side]  # type: ignore[return-value]

    def _heads(self, side: str) -> nn.ModuleList:
        return self.heads[side]  # type: ignore[return-value]

    def _pairs(
        self, student: Outputs, teacher: Outputs, batch: Batch
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return filterable_pairs("TED", self.layers, student, teacher, batch)

    def _check_prepared(self) -> None:
        if not len(self._filters("student")):
            raise ArgumentError(
                "TED: expected filters; got a loss that is not prepared. Call `prepare(student, "
                "teacher, batch)` before the optimiser is made."
            )
