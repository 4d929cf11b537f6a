"""Halves of a batch, and sums of gradients over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.ranks import world_size
from limbeck.types import Batch, Outputs
from limbeck.weighting.measuring.problem import Part, chosen


LEAST = 2  # rows of a part: batch norm needs them
TERMS = ("task", "distillation")
Gradients = list[Tensor]


@dataclass
class Half:
    """Sums over one half-batch on this process, of the mean gradients of its parts.

    Attributes:
        task: Gradients of the task, each part's times what its mean is over.
        distillation: The same of the distillation term.
        weights: What the sums are to be divided by, of either.
    """

    task: Gradients
    distillation: Gradients
    weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def like(cls, trained: Sequence[Tensor]) -> Half:
        """Return a half without rows."""
        # All processes must have one type, also one that has no rows of this half.
        nothing = torch.zeros((), dtype=wide_on(trained[0].device), device=trained[0].device)
        return cls(zeros(trained), zeros(trained), dict.fromkeys(TERMS, nothing))

    def add(self, name: str, gradients: Sequence[Tensor], weight: Tensor) -> None:
        """Take a part's mean gradient in."""
        for total, one in zip(getattr(self, name), gradients, strict=True):
            total.add_(one.to(total.dtype) * weight.to(total.dtype))
        self.weights[name] = self.weights[name] + weight.to(self.weights[name])

    def over_ranks(self) -> None:
        """Add the sums of all processes."""
        if world_size() == 1:
            return
        for name in TERMS:
            self.weights[name] = summed(self.weights[name].clone())
            for one in getattr(self, name):
                dist.all_reduce(one)

    def mean(self, name: str) -> Gradients:
        """Return the mean gradient; NaN where nothing of the half counts, as without labels."""
        return [one / self.weights[name].to(one.dtype) for one in getattr(self, name)]


def mean_of_both(halves: Sequence[Half], name: str) -> Gradients:
    """Return the mean gradient of the whole batch; zeros where nothing of it counts."""
    whole = torch.stack([half.weights[name] for half in halves]).sum()
    share = torch.where(whole > 0, 1 / whole, 0.0)
    pairs = zip(*(getattr(half, name) for half in halves), strict=True)
    return [(one + two) * share.to(one.dtype) for one, two in pairs]


def wide_on(device: torch.device) -> torch.dtype:
    """Return the type that numbers of rows, labels and weights are summed in."""
    return torch.float32 if device.type == "mps" else torch.float64  # mps has no other


def middle_of(sizes: Sequence[int]) -> int | None:
    """Return where to cut a batch into halves, so that no part of a micro-batch is too small.

    Args:
        sizes: Rows of its micro-batches, of one process after the other.

    Returns:
        The cut nearest to the middle that leaves two rows at least of every micro-batch on either
        side, or none of it; None where there is no such cut.

    Example:
        >>> middle_of([16]), middle_of([5, 5, 4, 4]), middle_of([3]), middle_of([2, 2, 2])
        (8, 10, None, 4)
    """
    if min(sizes) < LEAST:
        return None
    whole, allowed, start = sum(sizes), set[int](), 0
    for size in sizes:
        allowed |= {start, start + size, *range(start + LEAST, start + size - LEAST + 1)}
        start += size
    inside = allowed - {0, whole}
    # As the odd row of a batch is the first half's: of two cuts as near the later one.
    return min(inside, key=lambda cut: (abs(2 * cut - whole), -cut), default=None)


def split(
    batch: Batch, said: list[Outputs], first: int
) -> tuple[tuple[Batch, list[Outputs]] | None, tuple[Batch, list[Outputs]] | None]:
    """Cut a batch after its first rows; an empty side is None."""
    if first in (0, len(batch)):
        whole = (batch, said)
        return (whole, None) if first else (None, whole)
    rows = torch.arange(len(batch), device=batch.index.device).tensor_split([first])
    parts = [
        (chosen(Part(batch, (), ()), one).batch, [_rows_of(answer, one) for answer in said])
        for one in rows
    ]
    return parts[0], parts[1]


def _rows_of(said: Outputs, rows: Tensor) -> Outputs:
    return said.map(lambda value: value[rows])


def summed(values: Tensor) -> Tensor:
    """Return sums over the processes."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def zeros(like: Sequence[Tensor]) -> Gradients:
    """Return zeros in the shapes of parameters, in float32 at least."""
    wide = torch.float32
    return [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, wide)) for p in like]
