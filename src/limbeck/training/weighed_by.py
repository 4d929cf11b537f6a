"""What the mean of a term runs over: rows, labelled rows, tokens, or their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.labels import total_weight
from limbeck.losses import WeightedSum
from limbeck.tasks import Classification, MultiLabel, Regression, Task
from limbeck.training.halves import TERMS, summed, wide_on
from limbeck.training.step import Step
from limbeck.types import Batch, Outputs


def of_parts(
    step: Step,
    batch: Batch,
    parts: Sequence[tuple[Batch, list[Outputs]] | None],
    accumulate: int,
) -> list[dict[str, Tensor] | None]:
    """Return for each part of a micro-batch what its terms' means count for in the whole batch.

    A micro-batch counts by its rows, as in plain steps, unless a term counts something else.

    Args:
        step: Has the task and the losses.
        batch: The micro-batch of this process.
        parts: What it was cut into, each with what the teachers said.
        accumulate: Micro-batches of a step.

    Returns:
        By "task" and "distillation" a number for each part; None for a part that is not there.
    """
    term = next(iter(step.losses), None)
    found = [
        None
        if part is None
        else {"task": of_task(step.task, part[0]), "distillation": of_term(term, part[1], part[0])}
        for part in parts
    ]
    if accumulate == 1:
        return found
    there = [(one, part[0]) for one, part in zip(found, parts, strict=True) if one and part]
    counts = [_rows(batch), *(torch.stack([one[name] for one, _ in there]).sum() for name in TERMS)]
    rows, *totals = summed(torch.stack([one.to(counts[0]) for one in counts])).unbind()
    for name, counting, total in zip(TERMS, (step.task, term), totals, strict=True):
        if counted_by(counting) is None:
            for one, part in there:
                # A micro-batch without labels counts by its rows too: its mean is zero.
                one[name] = torch.where(total > 0, one[name] * rows / total, _rows(part))
    return found


def counted_by(term: Any) -> Any:
    """Return the ``counted`` of a term that is a mean over something else than rows, or None.

    A sum of terms counts what all of them do.
    """
    if isinstance(term, WeightedSum):
        parts = [counted_by(part) for part in term.losses.values()]
        return parts[0] if all(parts) else None
    return getattr(term, "counted", None)


def of_task(task: Task, batch: Batch) -> Tensor:
    """Return what the task's mean over a batch is over; for a user's own task the rows.

    Args:
        task: Gives the loss.
        batch: The rows.

    Returns:
        A number on the device of the batch; 0 where no row has a label.
    """
    own, targets = counted_by(task), batch.targets
    rows = _rows(batch)
    if own is not None:
        return own(batch)
    if targets is None or not isinstance(task, (Classification, MultiLabel, Regression)):
        return rows
    if isinstance(task, Classification):
        return total_weight(targets, batch.weights, task.class_weights, like=rows)
    known = torch.isfinite(targets)
    if isinstance(task, MultiLabel):
        known = known & (targets >= 0)
    entries = known.flatten(1).sum(1).to(rows) if known.ndim > 1 else known.to(rows)
    return entries.sum() if batch.weights is None else (entries * batch.weights.to(rows)).sum()


def of_term(term: Any, said: Sequence[Outputs], batch: Batch) -> Tensor:
    """Return what the distillation term's mean over a batch is over.

    Args:
        term: Of the first teacher.
        said: What the teachers said of the batch.
        batch: The rows.

    Returns:
        Rows, or those that the teacher gave a label of, or what the term itself counts.
    """
    own = counted_by(term)
    if own is not None:
        return own(batch)
    answers = said[0].answers
    rows = _rows(batch)
    if answers is None or said[0].logits is not None or answers.labels.ndim != 2:
        return rows
    given = answers.labels >= 0
    if answers.counts is not None:
        given = given & (answers.counts > 0)
    return given.any(dim=1).sum().to(rows)


def _rows(batch: Batch) -> Tensor:
    device = batch.index.device
    return torch.tensor(float(len(batch)), dtype=wide_on(device), device=device)
