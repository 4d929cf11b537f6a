"""Which units a process measures, and all processes' units in their order again."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.checks import DataError
from limbeck.ranks import gather_rows, world_size


def stripe(units: Tensor) -> Tensor:
    """Return every so-manieth unit, along the first axis: those of this process.

    Raises:
        DataError: If there are fewer units than processes.
    """
    if world_size() == 1:
        return units
    if len(units) < world_size():
        raise DataError(
            f"gradient_moments: expected as many rows or groups as there are processes at least; "
            f"got {len(units)} for {world_size()}. Measure more rows, or smaller groups."
        )
    return units[dist.get_rank() :: world_size()]


def all_stripes(rows: Tensor, each: int = 1) -> Tensor:
    """Return what all processes have of their units, in the order before :func:`stripe`.

    Args:
        rows: Of this process's units, along the first axis, without gradient.
        each: Rows a unit.
    """
    gathered = gather_rows(rows)
    if world_size() == 1:
        return gathered
    units = torch.arange(len(gathered) // each, device=rows.device)
    order = torch.cat([units[rank :: world_size()] for rank in range(world_size())])
    return gathered.unflatten(0, (-1, each))[order.argsort()].flatten(0, 1)
