"""How sure a difference between models on the same rows is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from limbeck.randomness import generator
from limbeck.types import Batch, Outputs, Task


def resampled_metrics(
    said: Mapping[str, Outputs], rows: Batch, task: Task, metric: str | None, *, draws: int = 100
) -> dict[str, list[float]]:
    """Return a metric of each model over the same random choices of rows, with replacement.

    Args:
        said: What the models gave for the rows, logits on the CPU, by name.
        rows: Targets and positions of the rows.
        task: Gives the metrics.
        metric: Which; None for the first.
        draws: How many choices.

    Returns:
        For each model one number a choice, in the unit of the metric.

    Source:
        Paired bootstrap: Efron and Tibshirani (1993), chapter 16.
    """
    source = generator(0, "rows of a race")
    found: dict[str, list[float]] = {name: [] for name in said}
    for _ in range(draws):
        chosen = torch.randint(len(rows), (len(rows),), generator=source)
        part = replace(
            rows,
            targets=_of(rows.targets, chosen),
            index=rows.index[chosen],
            view=rows.view[chosen],
            weights=_of(rows.weights, chosen),
        )
        for name, outputs in said.items():
            values = task.metrics(Outputs(_of(outputs.logits, chosen)), part)
            found[name].append(values[metric] if metric else next(iter(values.values())))
    return found


def _of(values: Tensor | None, chosen: Tensor) -> Tensor | None:
    return None if values is None else values[chosen]
