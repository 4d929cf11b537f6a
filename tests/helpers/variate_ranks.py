"""What one of two processes does with a loss that keeps statistics, with few rows or none."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from helpers.logits import drawn
from torch import Tensor

from limbeck.losses import ControlVariate
from limbeck.types import Batch, Outputs


STEPS, ROWS = 3, 8
SPLITS = (5, ROWS)  # rows of the first rank; of all of them there are none left for the second


def steps(split: int | None, rank: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return value, gradient and averages of a few steps on this rank's rows (None: all)."""
    loss = ControlVariate(draws=2, clip=None).double()
    found = []
    for step in range(STEPS):
        student, teacher = drawn(ROWS, 5, seed=step), drawn(ROWS, 5, seed=step + 10)
        rows = torch.arange(ROWS)
        if split is not None:
            rows = rows.split([split, ROWS - split])[rank]
        student.requires_grad_()
        batch = Batch(rows, None, rows + ROWS * step, torch.zeros_like(rows))
        value = loss(Outputs(student[rows]), Outputs(teacher[rows]), batch)
        value.backward()
        assert student.grad is not None
        found.append((value.detach(), student.grad, loss.adaptive.moments.clone()))
    return found


def run_rank(rank: int, folder: str) -> None:
    """Save this rank's steps, values and gradients averaged over the ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found = {}
        for split in SPLITS:
            found[split, rank] = steps(split, rank)
            for value, gradient, _ in found[split, rank]:
                for tensor in (value, gradient):
                    dist.all_reduce(tensor)
                    tensor /= 2
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
