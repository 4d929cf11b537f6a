"""One batch spread over several processes: sums, shares and gathered rows.

Every function is the identity in a single process. Gradients are meant for an engine that averages
them over ranks (DistributedDataParallel), so that the average is the gradient of the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def world_size() -> int:
    """Return the number of processes that share a batch; 1 outside of torch.distributed."""
    shared = dist.is_available() and dist.is_initialized() and not _ALONE.get()
    return dist.get_world_size() if shared else 1


@contextlib.contextmanager
def alone() -> Generator[None]:
    """Let this process take the batches in here for whole ones, whatever the others do."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


def share_of_batch(local_mean: Tensor, count: Tensor | int) -> Tensor:
    """Turn a mean over this rank's rows into its share of the mean over all ranks' rows.

    Args:
        local_mean: Scalar mean over ``count`` rows here; 0 where ``count`` is 0.
        count: Rows, or sum of row weights, that the mean runs over on this rank.

    Returns:
        ``local_mean * count * ranks / total``: averaged over the ranks it is the global mean, and
        so is its gradient.
    """
    if world_size() == 1:
        return local_mean
    kind = torch.promote_types(local_mean.dtype, torch.float32)  # bfloat16 cannot count to 257
    counts = torch.as_tensor(count, dtype=kind, device=local_mean.device).detach()
    total = counts.clone()
    dist.all_reduce(total)
    share = counts / total.clamp_min(torch.finfo(kind).tiny)
    return local_mean * (share * world_size()).to(local_mean.dtype)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Add a tensor over all ranks, with gradient: the backward pass adds the gradients too."""
    return tensor if world_size() == 1 else _SumOverRanks.apply(tensor)


def gather_rows(rows: Tensor) -> Tensor:
    """Stack every rank's rows, in rank order, without gradient; ranks may hold unequal numbers."""
    if world_size() == 1:
        return rows.detach()
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([rows.shape[0]], device=rows.device))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])
