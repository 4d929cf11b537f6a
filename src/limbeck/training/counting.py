"""Micro-batches whose terms are means over something else than rows, such as labelled tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from limbeck.training.step import Step
from limbeck.training.weighed_by import counted_by
from limbeck.types import Batch


Count = Callable[[Batch], Tensor]


class Ratios(NamedTuple):
    """Factors of a micro-batch's terms, beside its share of the step's rows.

    Attributes:
        task: Of the task term.
        distillation: Of the distillation terms.
    """

    task: float = 1.0
    distillation: float = 1.0

    def on(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return terms by name with their factors; the total has them already."""
        if self == (1.0, 1.0):
            return terms
        factors = {"task": self.task, "total": 1.0}
        return {name: factors.get(name, self.distillation) * v for name, v in terms.items()}


def with_ratios(
    step: Step, batches: Iterator[Batch], rows: int, pieces: int, accelerator: Accelerator
) -> tuple[Iterator[Batch], Iterator[Ratios]]:
    """Return a step's micro-batches, and factors that make their gradients those of the whole.

    A micro-batch is weighed by its rows, which is right for means over rows. A task or loss with a
    method ``counted(batch)`` (which gives the number that its mean is over) gets on top of that
    its share of what is counted, on all processes, over its share of the rows. For that the
    inputs of all micro-batches of a step are read before the first is used.

    Args:
        step: Has the task and the losses.
        batches: Where the next micro-batches come from.
        rows: Rows of this process in the step.
        pieces: Micro-batches of a step at most.
        accelerator: Adds over processes.
    """
    counts = (counted_by(step.task), counted_by(next(iter(step.losses), None)))
    if pieces == 1 or counts == (None, None):
        return batches, itertools.repeat(Ratios())
    held: list[Batch] = []
    while sum(map(len, held)) < rows:
        held.append(next(batches))
    lines = [_ratios(count, held, rows, pieces, accelerator) for count in counts]
    return iter(held), itertools.starmap(Ratios, zip(*lines, strict=True))


def _ratios(
    count: Count | None, held: list[Batch], rows: int, pieces: int, accelerator: Accelerator
) -> list[float]:
    if count is None:
        return [1.0] * len(held)
    own = torch.zeros(pieces, device=accelerator.device)
    own[: len(held)] = torch.stack([count(batch) for batch in held]).to(own)
    counts = accelerator.reduce(own, "sum")
    assert isinstance(counts, Tensor)
    shares = (counts / counts.sum().clamp_min(torch.finfo(own.dtype).tiny)).tolist()
    return [share * rows / len(batch) for share, batch in zip(shares, held, strict=False)]
