"""The mean gradients of the task and of task minus distillation: one backward pass each."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.ranks import sum_over_ranks
from limbeck.weighting.measuring.problem import Parameters, Part, Problem


def mean_gradients(problem: Problem, parts: list[Part], rows: int) -> tuple[Parameters, Parameters]:
    """Return gbar and hbar over the rows of all processes.

    Args:
        problem: The student.
        parts: This process's rows.
        rows: The number of rows of all processes.
    """
    sums: list[Parameters] = [
        {name: wide_zeros(value) for name, value in problem.parameters.items()} for _ in range(2)
    ]
    for part in parts:
        for total, found in zip(sums, problem.pulled_back(part.batch, part.g, part.h), strict=True):
            for name, value in found.items():
                total[name] += value
    g, h = ({name: sum_over_ranks(value) / rows for name, value in side.items()} for side in sums)
    return g, h


def wide_zeros(like: Tensor) -> Tensor:
    """Return zeros to add gradients to, in float32 at least: bfloat16 has eight bits."""
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
