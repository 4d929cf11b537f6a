"""What one of two processes does with a weight meter."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from helpers.gradients import kd, mlp, rows
from torch.nn import functional as F

from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.meter import WeightMeter


# The first half of the whole batch is rows 0, 1, 2 and 6: of rank 0 it has three, of rank 1 one.
HALVES = {0: ((0, 1, 2), (3, 4, 5)), 1: ((6,), (7,)), None: ((0, 1, 2, 6), (3, 4, 5, 7))}


def measured_by(mode: str, rank: int | None = None) -> list[dict[str, float]]:
    """Return what a meter records of two batches; None is a process that has all rows."""
    student, teacher = mlp(3, 1), mlp(4, 2)
    weight = AdaptiveWeight(mode, every=1, warmup=0, slew=None, freeze_width=None)
    meter = WeightMeter(weight, torch.optim.SGD(student.parameters(), lr=0.1), steps=50)
    for step in range(2):
        x, y = rows(8, seed=step)
        parts = [(student(x[list(at)]), y[list(at)], teacher(x[list(at)])) for at in HALVES[rank]]
        halves = [(F.cross_entropy(z, t), kd(z, q.detach())) for z, t, q in parts]
        said, true = torch.cat([q for *_, q in parts]), torch.cat([t for _, t, _ in parts])
        loss = F.cross_entropy(said, true).detach()
        meter.observe(step, halves, [z for z, *_ in parts], teacher_loss=loss)
    return weight.history()


def run_rank(rank: int, folder: str) -> None:
    """Write what this process's meters record."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    found = {mode: measured_by(mode, rank) for mode in ("hbar", "losspair")}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
