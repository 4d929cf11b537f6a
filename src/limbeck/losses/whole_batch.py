"""The rows of all ranks as one batch, for losses that compare samples with each other."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.ranks import gather_rows, world_size


def rows_before(rows: Tensor) -> int:
    """Return how many rows the ranks before this one hold."""
    if world_size() == 1:
        return 0
    counts = gather_rows(torch.tensor([rows.shape[0]], device=rows.device))
    return int(counts[: dist.get_rank()].sum())


def all_rows(rows: Tensor, across_ranks: bool = True) -> Tensor:
    """Stack every rank's rows, in rank order, with a gradient for this rank's own.

    The gradient is multiplied by the number of ranks. So a value that every rank computes from all
    rows has, averaged over the ranks, the gradient that one process with the whole batch would
    give, without communication in the backward pass. Ranks may hold unequal numbers of rows; all
    else of the shape must be equal.

    Args:
        rows: This rank's rows, on the first axis.
        across_ranks: False returns ``rows`` as they are.
    """
    if not across_ranks or world_size() == 1:
        return rows
    everybody, first = gather_rows(rows), rows_before(rows)
    own = rows + (world_size() - 1) * (rows - rows.detach())
    return torch.cat([everybody[:first], own, everybody[first + len(rows) :]])
