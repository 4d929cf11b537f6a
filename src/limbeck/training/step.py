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
        weights: tuple[float | Tensor, float | Tensor],
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
        self,
        batch: Batch,
        teachers: Sequence[Outputs],
        factor: float,
        clock: Clock,
        task_factor: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total [nats] and its detached, unweighted terms by name.

        Args:
            batch: The rows.
            teachers: Each teacher's outputs for them.
            factor: Of the distillation term, such as that of its warm-up.
            clock: Told when the student and the losses are done.
            task_factor: Of the task term.
        """
        task, distillation, terms = self.terms(batch, teachers, clock)
        task_weight, weight = self.weights
        total = task_weight * task_factor * task
        if distillation is not None:
            total = total + factor * weight * distillation
        terms["total"] = total.detach()
        clock.lap("loss")
        return total, terms

    def terms(
        self, batch: Batch, teachers: Sequence[Outputs], clock: Clock
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Return the task's term, the teachers' mean distillation term, and all by name, detached.

        Args:
            batch: The rows.
            teachers: Each teacher's outputs for them; without any there is no distillation term.
            clock: Told when the student is done.
        """
        outputs = self.capture(batch.inputs, through=self._compiled.get(len(batch)))
        clock.lap("student")
        task = self.task.loss(outputs, batch)
        terms, values = {"task": task.detach()}, []
        for position, (loss, said) in enumerate(zip(self.losses, teachers, strict=True)):
            parts = _parts(loss, outputs, said, batch)
            values.append(
                loss.combined(parts) if isinstance(loss, WeightedSum) else parts["distillation"]
            )
            for name, part in parts.items():
                terms[name if len(self.losses) == 1 else f"{name} {position}"] = part.detach()
        mean = sum(values[1:], start=values[0]) / len(values) if values else None
        return task, mean, terms


def _parts(loss: nn.Module, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
    if isinstance(loss, WeightedSum):
        return loss.terms(student, teacher, batch)
    return {"distillation": loss(student, teacher, batch)}
