"""Losses that alternate: epochs that train parts of the loss instead of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limbeck.checks import ArgumentError
from limbeck.ranks import world_size
from limbeck.training.clock import Clock
from limbeck.training.step import Step
from limbeck.types import Batch, Outputs


Optimizer = torch.optim.Optimizer
METHODS = ("auxiliary_loss", "auxiliary_parameters", "main_parameters", "begin_epoch")


class Alternation:
    """The auxiliary epochs of a run, with an optimiser of their own whose momentum lasts.

    What only auxiliary epochs train takes no gradient in the others, so that the main optimiser
    and a distributed wrapper, which are made after this, know nothing of it.

    Args:
        step: The step whose losses may alternate.
        optimizer_of: Makes the optimiser of some parameters.
    """

    def __init__(
        self, step: Step, optimizer_of: Callable[[Iterable[nn.Parameter]], Optimizer]
    ) -> None:
        self.step = step
        self.losses: list[Any] = [loss for loss in step.losses if hasattr(loss, METHODS[0])]
        self.listeners: list[Any] = [
            loss for loss in step.losses if hasattr(loss, "begin_epoch") and loss not in self.losses
        ]
        for loss in self.losses:
            _check(loss)
        self.parameters = [p for loss in self.losses for p in loss.auxiliary_parameters()]
        shared = {id(p) for loss in self.losses for p in loss.main_parameters()}
        self.only = [p for p in self.parameters if id(p) not in shared]
        self._rest(True)
        self.optimizer = optimizer_of(self.parameters) if self.parameters else None
        self.active = False

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Tell the losses, and put the student to rest where the epoch is an auxiliary one."""
        for loss in self.listeners:
            loss.begin_epoch(epoch, epochs)
        told = [loss.begin_epoch(epoch, epochs) for loss in self.losses]
        self.active = any(told)
        self._rest(not self.active)
        if self.active:
            self.step.student.eval()

    def forward(
        self, batch: Batch, teachers: Sequence[Outputs], clock: Clock
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of the auxiliary losses, as the total and as a term."""
        with torch.no_grad():
            student = self.step.capture(batch.inputs)
        clock.lap("student")
        pairs = zip(self.losses, teachers, strict=True)
        values = [loss.auxiliary_loss(student, said, batch) for loss, said in pairs]
        total = torch.stack(values).mean()
        clock.lap("loss")
        return total, {"auxiliary": total.detach(), "total": total.detach()}

    def average_gradients(self) -> None:
        """Average the gradients over the processes, as the wrapper does for all other parts."""
        if world_size() == 1:
            return
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size()

    def _rest(self, rests: bool) -> None:
        for parameter in self.only:
            parameter.requires_grad_(not rests)


def _check(loss: nn.Module) -> None:
    missing = [name for name in METHODS if not hasattr(loss, name)]
    if missing:
        raise ArgumentError(
            f"loss: expected {type(loss).__name__}, which has an auxiliary loss, to have "
            f"{', '.join(METHODS[1:])} too; got none of {', '.join(missing)}. See "
            "limbeck.types.Loss."
        )
