"""A sum over all pairs of rows that never holds all pairs at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from limbeck.losses.numerics import without_autocast


def pair_sum(
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
    ratio: Tensor,
    *,
    first: int,
    clamp: bool,
    max_pairs: int,
) -> Tensor:
    r"""Return :math:`\sum_{i \ne j} S_{ij}^2 (1 - r\,T_{ij}^2)` for two Gram matrices.

    The gradient with respect to the student's rows counts every pair from both its ends, as is
    right where the columns are the same rows. So a process may give its own rows and everybody's
    columns, and needs no communication in the backward pass.

    Args:
        rows: Student's and teacher's unit vectors of the pairs' first members.
        columns: The same of all the second members, among them ``rows``.
        ratio: Scalar r, without gradient.
        first: Where in ``columns`` the ``rows`` begin; such pairs of a row with itself are skipped.
        clamp: Whether :math:`1 - r\,T_{ij}^2` is kept from falling below zero.
        max_pairs: How many pairs are held at once; at least one row of them always is.

    Returns:
        The sum, a scalar.
    """
    height = max(1, max_pairs // max(1, columns[0].shape[0]))
    return _PairSum.apply(*rows, *columns, ratio, (first, clamp, height))


class _PairSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        teacher_rows: Tensor,
        columns: Tensor,
        teacher_columns: Tensor,
        ratio: Tensor,
        settings: tuple[int, bool, int],
    ) -> Tensor:
        tensors = rows, teacher_rows, columns, teacher_columns, ratio
        ctx.save_for_backward(*tensors)
        ctx.settings = settings
        total = rows.new_zeros(())
        for gram, weight in _tiles(*tensors, *settings):
            total = total + (gram.square() * weight).sum()
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        columns = ctx.saved_tensors[2]
        with without_autocast(columns):
            parts = [
                (gram * weight) @ columns
                for gram, weight in _tiles(*ctx.saved_tensors, *ctx.settings)
            ]
        whole = torch.cat(parts) if parts else torch.zeros_like(ctx.saved_tensors[0])
        return 4.0 * gradients[0] * whole, None, None, None, None, None


def _tiles(
    rows: Tensor,
    teacher_rows: Tensor,
    columns: Tensor,
    teacher_columns: Tensor,
    ratio: Tensor,
    first: int,
    clamp: bool,
    height: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, rows.shape[0], height):
        stop = start + height
        with without_autocast(rows):
            gram = rows[start:stop] @ columns.T
            weight = 1.0 - ratio * (teacher_rows[start:stop] @ teacher_columns.T).square()
        if clamp:
            weight = weight.clamp_min(0.0)
        weight.diagonal(first + start).zero_()
        yield gram, weight
