"""A model's outputs over a whole data set, and the metrics of its task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.capture import Capture
from limbeck.data import Data, bound
from limbeck.ranks import gather_rows, world_size
from limbeck.tasks import task_of
from limbeck.training.summing import SummedTask, summed_metrics
from limbeck.types import Batch, Outputs, Task, Teacher


@torch.inference_mode()
def outputs_over(
    model: nn.Module | Teacher,
    data: Any,
    *,
    places: Tensor | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    autocast: bool = False,
) -> tuple[Outputs, Batch]:
    """Run a model in eval mode over all rows, in order, without augmentation.

    Under several processes each runs its share and all get all rows.

    Args:
        model: A module or a Teacher; its mode is restored.
        data: Anything that :class:`limbeck.Data` takes.
        places: Positions of the rows to run, ascending; None for all.
        batch_size: Rows at a time on each process.
        device: Where it runs.
        autocast: Run under bf16 autocast.

    Returns:
        The logits of all rows, None where the model gives none, and the rows' targets and positions
        as one batch without inputs, on the CPU.
    """
    rows = Data.of(data).viewed(None)
    modes = _into_eval(model) if isinstance(model, nn.Module) else {}
    run = Capture(model) if isinstance(model, nn.Module) else None
    where = torch.device(device)
    logits, targets, index, weights = [], [], [], []
    rank = torch.distributed.get_rank() if world_size() > 1 else 0
    chosen = torch.arange(len(rows)) if places is None else places
    mine = [
        part.tensor_split(world_size())[rank] for part in chosen.split(batch_size * world_size())
    ]
    plan = [(part, torch.zeros_like(part)) for part in mine if len(part)]
    try:
        for batch in rows.batches(plan, where):
            with torch.autocast(where.type, torch.bfloat16, enabled=autocast):
                said = run(batch.inputs) if run else model(batch)
            logits.append(said.logits)
            index.append(batch.index)
            targets.append(batch.targets)
            weights.append(batch.weights)
    finally:
        for part, mode in modes.items():
            part.training = mode
    found_at = _all_rows(index, where)
    order = found_at.argsort()
    found = None
    if logits and logits[0] is not None:
        found = _all_rows(logits, where)[order]
        found = found if found.dtype in (torch.float32, torch.float64) else found.float()
    return Outputs(found), Batch(
        inputs={},
        targets=None if targets and targets[0] is None else _all_rows(targets, where)[order],
        index=found_at[order],
        view=torch.zeros_like(found_at),
        weights=None if weights and weights[0] is None else _all_rows(weights, where)[order],
    )


def evaluate(
    model: nn.Module,
    data: Any,
    task: str | Task = "classification",
    *,
    teacher: Teacher | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    autocast: bool = False,
) -> dict[str, float]:
    """Return the task's metrics of a model over all rows.

    Args:
        model: A module.
        data: Anything that :class:`limbeck.Data` takes.
        task: Name of a task, or the user's own.
        teacher: Where the data has no targets, its outputs stand in for them.
        batch_size: Rows at a time.
        device: Where it runs.
        autocast: Run under bf16 autocast.

    Returns:
        Metrics by name; empty where no row is labelled.
    """
    chosen = task_of(task)
    if isinstance(chosen, SummedTask):
        return summed_metrics(
            model,
            Data.of(data),
            chosen,
            batch_size=batch_size,
            device=device,
            autocast=autocast,
        )
    outputs, batch = outputs_over(
        model, data, batch_size=batch_size, device=device, autocast=autocast
    )
    if batch.targets is None and teacher is not None:
        rows = Data.of(data).viewed(None)
        said, _ = outputs_over(bound(teacher, rows), rows, batch_size=batch_size, device=device)
        batch = replace(batch, targets=said.logits)
    if batch.targets is None:
        return {}
    return chosen.metrics(outputs, batch)


def _into_eval(model: nn.Module) -> dict[nn.Module, bool]:
    modes = {part: part.training for part in model.modules()}
    model.eval()
    return modes


def _all_rows(parts: list[Any], device: torch.device) -> Tensor:
    # A rank whose share is empty cannot know the width of the rows, so batches are cut to avoid it.
    return gather_rows(torch.cat(parts).to(device)).cpu()
