"""What one of two processes does with the functions that spread a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.ranks import gather_rows, share_of_batch, sum_over_ranks, world_size
from limbeck.tasks import Classification, MultiLabel, Regression
from limbeck.types import Batch, Outputs


SPLIT = 5
ROWS = 8


def case(name: str) -> tuple[Any, Tensor, Batch]:
    """Return a task, logits and a whole batch with weights and unlabelled rows."""
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, 3, generator=source, dtype=torch.float64)
    weights = torch.arange(ROWS) * 0.5
    index = torch.arange(ROWS)
    if name == "multilabel":
        task, targets = MultiLabel(), (logits > 0).long()
        targets[1, 1] = -1
    elif name == "regression":
        task, targets = Regression(), logits.flip(0).clone()
        targets[6, 2] = torch.nan
    else:
        class_weights = torch.tensor([1.0, 0.25, 3.0], dtype=torch.float64)
        task = Classification(class_weights=class_weights, label_smoothing=0.1)
        targets = torch.tensor([0, 1, 2, -1, 1, 2, -1, 0])
        targets[SPLIT:] = -1 if name == "one rank unlabelled" else targets[SPLIT:]
    return task, logits, Batch({}, targets, index, index * 0, weights)


TASKS = ("classification", "one rank unlabelled", "multilabel", "regression")


def value_and_gradient(name: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return a task's loss on some rows and its gradient on all logits."""
    task, logits, whole = case(name)
    assert whole.targets is not None
    assert whole.weights is not None
    batch = Batch({}, whole.targets[rows], rows, rows * 0, whole.weights[rows])
    logits.requires_grad_()
    value = task.loss(Outputs(logits[rows]), batch)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def run_rank(rank: int, folder: str) -> None:
    """Run everything on this rank and save it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        torch.save(_found(rank), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def _found(rank: int) -> dict[str, Any]:
    mine = torch.arange(ROWS).split([SPLIT, ROWS - SPLIT])[rank]
    found: dict[str, Any] = {"world": world_size()}
    found["tasks"] = {name: value_and_gradient(name, mine) for name in TASKS}
    mean = torch.tensor([2.0, 5.0][rank], requires_grad=True)
    share = share_of_batch(mean, [3, 1][rank])
    share.backward()
    found["share"] = share.detach(), mean.grad
    found["share of none"] = share_of_batch(torch.tensor(0.0), 0)
    half = torch.tensor(1.0, dtype=torch.bfloat16)
    found["share in bfloat16"] = share_of_batch(half * (1 - rank), [257, 1][rank])
    tensor = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) * (rank + 1)
    tensor.requires_grad_()
    total = sum_over_ranks(tensor.T)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]) * (10**rank)
    (total * weight.T.contiguous().T).sum().backward()
    found["sum"] = total.detach(), tensor.grad
    found["rows"] = {
        str(kind): gather_rows(torch.arange(6).reshape(3, 2)[: 3 - 2 * rank].to(kind) + 0)
        for kind in (torch.float64, torch.float32, torch.bfloat16, torch.int64)
    }
    found["rows"]["torch.bool"] = gather_rows(torch.tensor([True, False, True])[: 3 - 2 * rank])
    found["one empty"] = gather_rows(torch.ones(2 * rank, 4).T.reshape(2 * rank, 4))
    gathered = gather_rows(torch.ones(2, requires_grad=True))
    found["without gradient"] = not gathered.requires_grad
    return found
