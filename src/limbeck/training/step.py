"""One training step's forward pass: student, task term and distillation terms in one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.capture import Capture
from limbeck.losses import WeightedSum
from limbeck.training.clock import Clock
from limbeck.types import Batch, Outputs, Task


class Step(nn.Module):
    """Everything with parameters to train, so that a distributed wrapper covers all of it.

    Args:
        capture: The student with its hooks.
        task: Gives the task term.
        losses: One distillation term for each teacher; their mean counts.
        weights: Of the task term and of the distillation term.
        compiled_rows: Run batches of so many rows through torch.compile, others as they are.
        trained: The student's modules that learn, where the others rest; None where all learn.
    """

    def __init__(
        self,
        capture: Capture,
        task: Task,
        losses: Sequence[nn.Module],
        weights: tuple[float, float],
        *,
        compiled_rows: int | None = None,
        trained: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.student = capture.module
        self.losses = nn.ModuleList(losses)
        self.capture, self.task, self.weights = capture, task, weights
        self.trained = trained
        # In a dict: a second attribute would register the student's parameters twice.
        self._compiled: dict[int, Any] = (
            {compiled_rows: torch.compile(capture.module)} if compiled_rows else {}
        )

    def train(self, mode: bool = True) -> Step:
        """Enter training mode, but for what rests; or eval mode."""
        super().train(mode)
        if mode and self.trained is not None:
            self.student.eval()
            for part in self.trained:
                part.train()
        return self

    def forward(
        self, batch: Batch, teachers: Sequence[Outputs], factor: float, clock: Clock
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total [nats] and its detached, unweighted terms by name.

        Args:
            batch: The rows.
            teachers: Each teacher's outputs for them.
            factor: Warm-up factor of the distillation term.
            clock: Told when the student and the losses are done.
        """
        outputs = self.capture(batch.inputs, through=self._compiled.get(len(batch)))
        clock.lap("student")
        task_weight, weight = self.weights
        task = self.task.loss(outputs, batch)
        terms = {"task": task.detach()}
        total = task_weight * task
        for position, (loss, said) in enumerate(zip(self.losses, teachers, strict=True)):
            parts = _parts(loss, outputs, said, batch)
            value = loss.combined(parts) if isinstance(loss, WeightedSum) else parts["distillation"]
            total = total + (factor * weight / len(self.losses)) * value
            for name, part in parts.items():
                terms[name if len(self.losses) == 1 else f"{name} {position}"] = part.detach()
        terms["total"] = total.detach()
        clock.lap("loss")
        return total, terms


def _parts(loss: nn.Module, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
    if isinstance(loss, WeightedSum):
        return loss.terms(student, teacher, batch)
    return {"distillation": loss(student, teacher, batch)}
