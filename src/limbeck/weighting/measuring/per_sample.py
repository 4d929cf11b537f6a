"""Moments by per-sample gradients: torch.func over the student as a function of its parameters."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.func import vjp, vmap

from limbeck.weighting.measuring.collecting import Collector
from limbeck.weighting.measuring.problem import Parameters, Part, Problem, chosen


MEMORY = 512 * 2**20  # bytes that the gradients of a chunk of rows may take


def collect(problem: Problem, parts: list[Part], collector: Collector) -> None:
    """Give the collector both gradients of every row.

    Args:
        problem: The student, in eval mode.
        parts: The rows.
        collector: Takes the gradients, some rows at a time.
    """
    each = sum(value.numel() * value.element_size() for value in problem.parameters.values())
    chunk = max(1, min(64, MEMORY // (2 * each)))
    for part in parts:
        for rows in torch.arange(len(part.batch)).split(chunk):
            collector.add(*gradients_of_rows(problem, chosen(part, rows.to(problem.device))))


def gradients_of_rows(problem: Problem, part: Part) -> tuple[Parameters, Parameters]:
    """Return what every row's derivatives pull back: g and h, each [rows, *parameter's shape]."""
    parameters = {name: value.detach() for name, value in problem.parameters.items()}

    def of_row(row: Any, g_row: Any, h_row: Any) -> tuple[Parameters, Parameters]:
        alone = {k: v[None] for k, v in row.items()} if isinstance(row, dict) else row[None]
        pull = vjp(lambda values: problem.function(values, cast(Any, alone)), parameters)[1]
        first, second = (pull(tuple(one[None] for one in side))[0] for side in (g_row, h_row))
        return first, second

    return cast(Any, vmap(of_row, randomness="different")(part.batch.inputs, part.g, part.h))
