"""Moments of gradients measured by one of two processes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from helpers.answers import Answering
from helpers.gradients import Convolutions, kd, mlp, rows

from limbeck.weighting.measuring.moments import gradient_moments


CASES: dict[str, dict[str, Any]] = {
    "per_sample": {"method": "per_sample"},
    "gram": {"method": "gram"},
    "groups": {"method": "groups", "group_rows": 3},
    "probes": {"method": "probes", "curvature": False},
    "last_layer": {"method": "last_layer", "curvature": False},
    "training": {"training": True, "group_rows": 3},
    "named loss": {"loss": "kd"},
    "answers": {"loss": "k3", "curvature": False},
}


def measured(name: str) -> Any:
    """Return the moments of a case: 41 rows, some without a label."""
    x, y = rows(41, inputs=36)
    y = torch.where(torch.arange(41) % 6 == 0, -1, y)
    settings = {"loss": kd} | CASES[name]
    teacher: Any = mlp(8, 2, inputs=36)
    if name == "answers":
        teacher = Answering(teacher, 41, uneven=True)  # as wide as the last sample of a process
    return gradient_moments(Convolutions(1), teacher, (x, y), **settings)


def run_rank(rank: int, folder: str) -> None:
    """Write every case's moments as this process sees them."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    torch.save({name: measured(name) for name in CASES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
