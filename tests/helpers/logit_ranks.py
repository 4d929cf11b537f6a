"""What one of two processes does with the losses on logits, one of them with few rows or none."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from helpers.logits import LABELS, batch_of, logits
from torch import Tensor

from limbeck.losses import (
    CTKD,
    DIST,
    DKD,
    EAKD,
    MLKD,
    RLD,
    SKD,
    TTM,
    WTTM,
    LumiNet,
    Standardised,
    dist_loss,
    gram_mahalanobis_loss,
    luminet_loss,
    mlkd_loss,
)
from limbeck.types import Outputs


LOSSES = {
    loss.__name__: loss
    for loss in (CTKD, DIST, DKD, EAKD, MLKD, RLD, SKD, TTM, WTTM, LumiNet, Standardised)
}
LOCAL = {
    loss.__name__: loss for loss in (dist_loss, gram_mahalanobis_loss, luminet_loss, mlkd_loss)
}
SPLITS = (4, 6)  # rows of the first rank; of 6 there are none left for the second
UNLABELLED = torch.tensor([0, 1, -1, 3, -1, -1])  # the second rank of split 4 has no label


def value_and_gradient(name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return a loss on some rows and its gradient on all of the student's logits."""
    student, teacher = logits()
    targets = UNLABELLED if name in ("DKD", "RLD") else LABELS
    student.requires_grad_()
    args = Outputs(student[rows]), Outputs(teacher[rows]), batch_of(len(rows), targets[rows])
    value = LOSSES[name]().double()(*args)
    value.backward()
    assert student.grad is not None
    return value.detach(), student.grad


def run_rank(rank: int, folder: str) -> None:
    """Run every loss on this rank's rows and save the averages over two ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found = {}
        for split in SPLITS:
            rows = torch.arange(6).split([split, 6 - split])[rank]
            for name in LOSSES:
                found[name, split] = value_and_gradient(name, rows)
                for tensor in found[name, split]:
                    dist.all_reduce(tensor)
                    tensor /= 2
            for name, loss in LOCAL.items():
                found[name, split, rank] = loss(*(z[rows] for z in logits()))
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
