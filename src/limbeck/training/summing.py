"""Metrics that are sums over parts of the data, so that no logits of all rows are ever kept."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limbeck.capture import Capture
from limbeck.data import Data
from limbeck.ranks import world_size
from limbeck.types import Batch, Outputs


LOGITS = 2**25  # of one forward pass at most, unless a single row has more


@runtime_checkable
class SummedTask(Protocol):
    """A task whose metrics can be taken from sums over batches."""

    def sums(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return sums over the rows of a batch."""
        ...

    def of_sums(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the metrics by the sums over all rows."""
        ...


@torch.inference_mode()
def summed_metrics(
    model: nn.Module,
    data: Data,
    task: SummedTask,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    autocast: bool = False,
) -> dict[str, float]:
    """Return a task's metrics of a model in eval mode over all rows, without augmentation.

    Under several processes each runs its share and all get the same numbers.

    Args:
        model: A module; its mode is restored.
        data: The rows.
        task: Gives sums, and metrics of sums.
        batch_size: Rows at a time at most; fewer where the outputs of one are large.
        device: Where it runs.
        autocast: Run under bf16 autocast.

    Returns:
        Metrics by name; empty where no row is labelled.
    """
    rows, where = data.viewed(None), torch.device(device)
    ranks = world_size()
    rank = dist.get_rank() if ranks > 1 else 0
    mine = torch.arange(len(rows)).tensor_split(ranks)[rank]
    modes = {part: part.training for part in model.modules()}
    model.eval()
    run = Capture(model)
    totals: dict[str, Tensor] = {}
    try:
        plan = [mine[:1], *mine[1:].split(_rows_at_a_time(run, rows, where, batch_size))]
        pairs = [(part, torch.zeros_like(part)) for part in plan if len(part)]
        for batch in rows.batches(pairs, where):
            with torch.autocast(where.type, torch.bfloat16, enabled=autocast):
                said = run(batch.inputs)
            for name, value in task.sums(said, batch).items():
                totals[name] = totals[name] + value if name in totals else value
    finally:
        for part, mode in modes.items():
            part.training = mode
    if ranks > 1:
        totals = _over_ranks(totals, where)
    return task.of_sums(totals)


def _rows_at_a_time(run: Capture, rows: Data, device: torch.device, most: int) -> int:
    """Return how many rows go through the model at once, by the outputs of the first."""
    first = next(rows.batches(rows.in_order(1)[:1], device))
    logits = run(first.inputs).logits
    size = 1 if logits is None else logits.numel()
    return max(1, min(most, LOGITS // max(size, 1)))


def _over_ranks(totals: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    names: list[list[str] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(names, list(totals))  # a rank without rows knows no names
    known = next((found for found in names if found), [])
    none = torch.zeros((), dtype=torch.float64, device=device)
    values = torch.stack([none, *(totals.get(name, none).double() for name in known)])[1:]
    dist.all_reduce(values)
    return dict(zip(known, values, strict=True))
