"""Halves of a batch, and sums of gradients over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.ranks import world_size
from limbeck.types import Batch, Outputs
from limbeck.weighting.measuring.problem import Part, chosen


Gradients = list[Tensor]


@dataclass
class Half:
    """Sums over the rows of one half-batch on this process."""

    rows: int
    task: Gradients
    distillation: Gradients


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
    features = {name: value[rows] for name, value in said.features.items()}
    return replace(
        said, logits=None if said.logits is None else said.logits[rows], features=features
    )


def mean_of(half: Half, name: str) -> Gradients:
    """Return the mean gradient over a half's rows on all processes."""
    sums: Gradients = getattr(half, name)
    rows = sums[0].new_full((), float(half.rows))
    if world_size() > 1:
        dist.all_reduce(rows)
        for one in sums:
            dist.all_reduce(one)
    return [one / rows for one in sums]


def summed(values: Tensor) -> Tensor:
    """Return sums over the processes."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def zeros(like: Sequence[Tensor]) -> Gradients:
    """Return zeros in the shapes of parameters, in float32 at least."""
    wide = torch.float32
    return [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, wide)) for p in like]
