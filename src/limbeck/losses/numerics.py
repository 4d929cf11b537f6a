"""Precision, normalisation and moments that the losses share."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from limbeck.ranks import sum_over_ranks, world_size


SHORTEST_ROW = 1e-12


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in one float type that is float32 or wider; float64 stays float64."""
    kind = torch.float32
    for tensor in tensors:
        kind = torch.promote_types(kind, tensor.dtype)
    return tuple(tensor.to(kind) for tensor in tensors)


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Return a context in which products of float32 matrices on this device stay float32."""
    return torch.autocast(tensor.device.type, enabled=False)


def unit_rows(rows: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
    """Divide every row by its length; a row of zeros stays one, with a finite gradient."""
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(length > SHORTEST_ROW, length, 1.0)


def nonzero_rows(rows: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
    """Return 1 for every row that :func:`unit_rows` gave unit length, 0 for a row of zeros."""
    return (torch.linalg.vector_norm(rows.detach(), dim=1) > SHORTEST_ROW).to(rows.dtype)


def centred_moments(
    student: Tensor, teacher: Tensor, across_ranks: bool
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the number of rows and the sums of s s, t t and s t after centring, by feature."""
    if not across_ranks or world_size() == 1:
        return student.new_full((), float(len(student))), moments_of_columns(student, teacher)
    joined = torch.cat([student, teacher], dim=1)
    # Shifted by the largest value, a constant feature is exactly 0 and so is its variance.
    highest = (
        joined.detach().amax(0) if len(joined) else joined.new_full(joined.shape[1:], -math.inf)
    )
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    shifted = joined - highest
    rows = sum_over_ranks(shifted.new_full((), float(len(joined))))
    centred = shifted - sum_over_ranks(shifted.sum(0)) / rows.clamp_min(1.0)
    s, t = centred.split(student.shape[1], dim=1)
    ss, tt, st = sum_over_ranks(torch.stack([(s * s).sum(0), (t * t).sum(0), (s * t).sum(0)]))
    return rows, (ss, tt, st)


def moments_of_columns(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of s s, t t and s t after centring each column of these rows."""
    # Shifted by its first number, a constant column is exactly 0 and so is its variance.
    shifted = (rows - rows.detach()[:1] for rows in (student, teacher))
    s, t = (rows - rows.sum(0) / max(len(rows), 1) for rows in shifted)
    return (s * s).sum(0), (t * t).sum(0), (s * t).sum(0)
