"""Do limbeck's figures, taken before a distillation, tell what it will bring?

What was found: a pilot of 5 % of the run and the plain cross-entropy difference order KD's gains in
accuracy best (Kendall's tau 0.50 [0.41, 0.61] and 0.50 [0.37, 0.59]), distillable bits do so less
(0.18 [0.09, 0.27]) and add nothing to that difference; a regression on ten figures misses the gains
of teachers that it has not seen by 6.2 points (the pilot by 13.5, the mean by 18.0), and its 90 %
intervals hold 91 % of them at 0.45 times the pilot's width (docs/results/forecast.md).

No claim was made beforehand. 108 cells: three data sets (digits, Fashion-MNIST, CIFAR-10), each
with nine teachers (good, small, under-trained, over-trained, of noisy labels, untrained, of other
classes, of another crop of the image, of other features), two students and two budgets (all rows
labelled, or a few of them). In each the control, KD and ITRD as published are trained three times
with the same starts and orders; the control has as many steps, on the labelled rows. Before that
limbeck.forecasting takes its figures from seed 0 and rows held out from all. What counts is the
gain over the control on test rows, in accuracy and cross-entropy.

    python benchmarks/predictive_validity.py --data FOLDER [--seeds 3] [--workers 2] [--cells TEXT]

FOLDER holds ``cifar10``. Runs are appended to --out and not made again, so that it can be stopped
at any time. The result is results/predictive_validity.json, the figure predictive_validity.svg and
the grid that limbeck.forecast is fitted to (src/limbeck/forecasting/grid.json).
"""

from __future__ import annotations

import argparse
import json
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from asked import Remembered
from common import RESULTS, ROOT, write
from resumable import carry_out
from validity_cells import (
    CELLS,
    Cell,
    Places,
    budget_of,
    material,
    student_of,
    teacher_of,
)
from validity_figure import figure
from validity_page import write_tables
from validity_summary import grid_of, summarised

from limbeck.forecasting.gathering import EARLY, PILOT, Case, gather
from limbeck.forecasting.grid import grid_text, read_grid
from limbeck.forecasting.model import with_misses
from limbeck.forecasting.short_runs import control, distilled, gains
from limbeck.record import hardware, versions
from limbeck.training.evaluate import outputs_over


GRID = ROOT / "src" / "limbeck" / "forecasting" / "grid.json"
SHOWN = (
    "cross_entropy_gap", "accuracy_gap", "distillable", "distillable_kmeans", "pilot_accuracy",
    "unique_student",
)  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {"kd": {"loss": "kd"}, "itrd": {"loss": "itrd"}}


class Run(NamedTuple):
    """One job: the figures of a cell, or one training."""

    cell: Cell
    what: str  # "figures", "control", "kd" or "itrd"
    seed: int


def alike(run: tuple[Cell, str, int]) -> Run:
    """Return the run that stands for it: a control does not depend on the teacher."""
    run = Run(*run)
    if run.what != "control":
        return run
    teacher = next(one.teacher for one in CELLS if one.view == run.cell.view)
    return run._replace(cell=run.cell._replace(teacher=teacher))


@lru_cache(maxsize=4)
def answers(places: Places, data: str, kind: str) -> Remembered:
    """Return what a teacher says of the students' rows: logits and penultimate features."""
    model, rows = teacher_of(places, data, kind), material(places, data).student
    seen: list[torch.Tensor] = []
    hook = model.get_submodule("inner.classifier").register_forward_pre_hook(
        lambda _, given: seen.append(given[0].detach())
    )
    logits, _ = outputs_over(model, rows)
    hook.remove()
    assert logits.logits is not None
    return Remembered(logits.logits, torch.cat(seen))


def carried_out(run: Run, places: Places) -> dict[str, Any]:
    """Carry out one job."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    cell, what, seed = run
    parts = material(places, cell.data)
    told: dict[str, Any] = {"cell": list(cell), "what": what, "seed": seed}
    if what == "teacher":
        test, rows = outputs_over(teacher_of(places, cell.data, cell.teacher), parts.test)
        return told | scored(test.logits, rows.targets, started)
    student, budget = student_of(cell, seed), budget_of(places, cell, seed)
    if what == "figures":
        teacher = teacher_of(places, cell.data, cell.teacher)
        case = Case(teacher, student, budget, parts.validation, 10, seed=seed)
        found, pilots = gather(case, pilots=METHODS)
        told["figures"], told["group_seconds"] = found.figures, found.seconds
        told["pilots"] = {name: one.figures for name, one in pilots.items()}
        told["pilot_seconds"] = {name: one.seconds["pilot"] for name, one in pilots.items()}
        return told | {"seconds": time.perf_counter() - started}
    if what == "control":
        model = control(student, budget)
    else:
        said = answers(places, cell.data, cell.teacher)
        model = distilled(student, said, budget, **METHODS[what])
    test, rows = outputs_over(model, parts.test)
    return told | scored(test.logits, rows.targets, started)


def scored(logits: Any, targets: Any, started: float) -> dict[str, float]:
    """Return accuracy [%], the bits below the cross-entropy of a guess, and the time."""
    _, bits = gains(torch.zeros_like(logits), logits, targets)
    right = 100.0 * (logits.argmax(1) == targets).double().mean().item()
    return {"accuracy": right, "bits": bits, "seconds": time.perf_counter() - started}


def key(row: dict[str, Any]) -> Run:
    return Run(Cell(*row["cell"]), row["what"], row["seed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cells", default="", help="only cells whose name has this text")
    parser.add_argument("--out", type=Path, default=Path("runs/predictive_validity"))
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    cells = [cell for cell in CELLS if o.cells in " ".join(cell)]
    seeds, path = range(o.seeds), o.out / "runs.jsonl"
    job = partial(carried_out, places=Places(o.data, o.out))
    # A teacher is trained once, before two workers ask for it.
    guides = [Run(cell._replace(student="", budget=""), "teacher", 0) for cell in cells]
    carry_out(dict.fromkeys(guides), job, key, path, o.workers)
    plan = [Run(cell, "figures", 0) for cell in cells]
    plan += [
        alike(Run(cell, what, seed))
        for seed in seeds
        for cell in cells
        for what in ("control", *METHODS)
    ]
    found = carry_out(dict.fromkeys(plan), job, key, path, o.workers)
    if o.cells:
        return
    teachers = carry_out(dict.fromkeys(guides), job, key, path, o.workers)
    told = {
        "seeds": o.seeds, "hardware": hardware(), "versions": versions(),
        "early_share": EARLY, "pilot_share": PILOT,
    }  # fmt: skip
    grid = grid_of(found, cells, methods=METHODS, seeds=seeds, alike=alike, about=told)
    grid = read_grid(grid_text(grid))  # as it ships: numbers to six digits
    GRID.write_text(grid_text(with_misses(grid)), encoding="utf8")
    tables = summarised(grid)
    for method, outcomes in tables.items():
        for outcome, one in outcomes.items():
            print(f"\n{method}, {outcome} [{one['unit']}]")
            for name, way in one["forecasts"].items():
                print(
                    f"  {name:30} error {way['rmse']:.2f}, covers {way['coverage']:.2f}, "
                    f"width {way['width']:.2f}"
                )
    ranked = tables["kd"]["accuracy"]["correlations"]
    (RESULTS / "predictive_validity.svg").write_text(
        figure(grid, SHOWN, "kd", "accuracy", ranked), encoding="utf8"
    )
    result = {
        "seeds": o.seeds,
        "cells": len(cells),
        "runs": len(found),
        "core_hours": sum(row["seconds"] for row in found.values()) / 3600,
        "teachers": [
            {"data": run.cell.data, "teacher": run.cell.teacher, "accuracy": row["accuracy"]}
            for run, row in teachers.items()
        ],
        "tables": tables,
    }
    path = write("predictive_validity", result, ("scipy",))
    write_tables(json.loads(path.read_text("utf8")))


if __name__ == "__main__":
    main()
