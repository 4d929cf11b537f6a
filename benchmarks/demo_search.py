"""How the demo's settings were chosen: on validation images, with seeds that the demo does not use.

For every learning rate each student on the rows that could serve it (all rows as they are; the
labelled rows alone; a mixture in which half are labelled), over seeds 100 to 103: mean validation
accuracy and its spread, in results/demo_search.json. The demo takes for each student the rate and
the rows that are best for it here, the controls included.

    python benchmarks/demo_search.py
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from common import write

from limbeck.cli.demo import trained
from limbeck.cli.demo_material import CONTROL, Plan, labelled_alone, student_rows
from limbeck.data import Data
from limbeck.zoo.data import DataSet, load_dataset
from limbeck.zoo.data.splits import cut


RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
SEEDS = range(100, 104)
ARMS = (
    (CONTROL, "mixed"),
    (CONTROL, "all rows"),
    (CONTROL, "labelled rows"),
    ("label-smoothing", "mixed"),
    ("label-smoothing", "labelled rows"),
    ("kd", "mixed"),
    ("itrd", "mixed"),
)


def rows_of(kind: str, digits: DataSet, positions: torch.Tensor, labels: int, seed: int) -> Data:
    """Return the rows of one kind, as many of them as the mixture has, so that steps are equal."""
    mixed = student_rows(digits, positions, labels, seed)
    if kind == "mixed":
        return mixed
    if kind == "labelled rows":
        return labelled_alone(mixed)
    first = torch.arange(len(positions))
    return mixed.subset(first.repeat(-(-len(mixed) // len(first)))[: len(mixed)])


def main() -> None:
    torch.set_num_threads(1)
    digits = load_dataset("digits", validation=0.2)
    assert digits.train.targets is not None  # digits are labelled
    mine, theirs = cut(digits.train.targets, 0.5, 0, "teacher and students")
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan()
        teacher_rows = digits.train.subset(mine)
        guide = trained(digits, teacher_rows, None, "teacher", 0, plan, Path(folder)).student
        for rate in RATES:
            for name, kind in ARMS:
                accuracies = []
                for seed in SEEDS:
                    run = trained(
                        digits,
                        rows_of(kind, digits, theirs, plan.labels, seed),
                        guide if name in ("kd", "itrd") else None,
                        name,
                        seed,
                        replace(plan, learning_rates={name: rate}),
                        Path(folder),
                    )
                    accuracies.append(run.record.results["last"]["validation"]["accuracy"])
                row = {"learning_rate": rate, "student": name, "rows": kind, "n": len(accuracies)}
                row |= {"mean": fmean(accuracies), "standard_deviation": stdev(accuracies)}
                found.append(row)
                print(f"{rate:<5} {name:16} {kind:14} {row['mean']:.4f}", flush=True)
    write("demo_search", {"metric": "validation accuracy", "cells": found})


if __name__ == "__main__":
    main()
