"""How many stored views a student needs: its accuracy and cost with 1, 4, 8, 16 and a live teacher.

Three seeds: 85.13 % right with one view, 85.46, 85.42 and 85.44 with 4, 8 and 16, 85.36 live (a new
view in each of 40 epochs); paired differences to live -0.23 [-0.78, 0.32], 0.09 [-0.37, 0.55],
0.06 [-0.25, 0.37], 0.08 [-0.16, 0.32] points (results/store_views.json).

    python benchmarks/store_views.py [--seeds 3] [--workers 2] [--quick]

Fashion-MNIST (Debian's dataset-fashion-mnist; digits with --quick), 4,000 unlabelled-by-choice
rows: the student sees no labels (weight 1), so that what it learns is the teacher's. Every side is
``limbeck.distill`` with the same seeds, batches and learning rates over 40 epochs of shifted
images; only the views differ: V stored ones in turn, or a new one each epoch from the live teacher.
The cost counts the teacher's passes over the rows: V for a store, one an epoch live.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write
from resumable import Row, carry_out
from scipy import stats

import limbeck
from limbeck.data import Data
from limbeck.zoo.data import load_dataset
from limbeck.zoo.networks import network


SIDES = ("none", "1", "4", "8", "16", "live")
FULL: dict[str, Any] = {
    "data": "fashion-mnist", "teacher_rows": 20_000, "rows": 4000, "test": 10_000,
    "teacher": {"width": 32, "depth": 3}, "student": {"width": 8, "depth": 3},
    "teacher_epochs": 8, "epochs": 40,
}  # fmt: skip
QUICK: dict[str, Any] = FULL | {
    "data": "digits", "teacher_rows": 500, "rows": 200, "test": 200, "teacher_epochs": 12,
    "epochs": 3,
}  # fmt: skip
COMMON: dict[str, Any] = {"device": "cpu", "progress": False, "schedule": "cosine"}


@lru_cache(maxsize=1)
def material(quick: bool) -> tuple[dict[str, Any], Data, Data, Any]:
    """Return the sizes, the student's rows, test rows, and the teacher."""
    sizes = QUICK if quick else FULL
    found = load_dataset(sizes["data"], validation=0.0, augment="shift")
    order = torch.randperm(len(found.train), generator=torch.Generator().manual_seed(0))
    theirs = found.train.subset(order[: sizes["teacher_rows"]])
    mine = found.train.subset(order[sizes["teacher_rows"] :][: sizes["rows"]])
    test = found.test.subset(torch.arange(min(sizes["test"], len(found.test))))
    torch.manual_seed(0)
    teacher = network("small_cnn", num_classes=10, channels=1, **sizes["teacher"])
    options = COMMON | {"epochs": sizes["teacher_epochs"], "batch_size": 128, "learning_rate": 0.1}
    limbeck.distill(teacher, None, theirs, seed=0, **options)
    return sizes, mine, test, teacher


def run(key: tuple[str, int], *, quick: bool) -> Row:
    side, seed = key
    torch.set_num_threads(1)
    sizes, mine, test, teacher = material(quick)
    torch.manual_seed(1000 + seed)
    student = network("small_cnn", num_classes=10, channels=1, **sizes["student"])
    options = COMMON | {
        "epochs": sizes["epochs"], "batch_size": 64, "learning_rate": 0.05, "test": test,
        "seed": seed, "loss": "kd",
    }  # fmt: skip
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        guide, passes, stored = teacher, sizes["epochs"], 0
        if side == "none":
            guide, passes = None, 0
        elif side != "live":
            guide = limbeck.cache(teacher, mine, folder, views=int(side), device="cpu")
            passes, stored = int(side), guide.manifest.bytes
            options["views"] = int(side)
        weight = None if guide is None else 1.0
        result = limbeck.distill(student, guide, mine, weight=weight, **options)
    found = result.record.results["last"]["test"]
    return {
        "side": side, "seed": seed, "accuracy": found["accuracy"],
        "cross_entropy": found["cross_entropy"], "teacher_passes": passes, "bytes": stored,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def interval(values: np.ndarray) -> list[float]:
    """Return the mean with its 95 % interval (Student's t)."""
    middle, spread = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    reach = stats.t.ppf(0.975, len(values) - 1) * spread
    return [float(middle), float(middle - reach), float(middle + reach)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a look at the script itself")
    parser.add_argument("--runs", type=Path, default=Path("runs/store_views.jsonl"))
    o = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    plan = [(side, seed) for seed in range(o.seeds) for side in SIDES]
    rows = carry_out(
        plan, partial(run, quick=o.quick), lambda row: (row["side"], row["seed"]), o.runs,
        o.workers,
    )  # fmt: skip
    sides: dict[str, Any] = {}
    for side in SIDES:
        of_side = [rows[side, seed] for seed in range(o.seeds)]
        accuracy = np.array([100 * row["accuracy"] for row in of_side])
        live = np.array([100 * rows["live", seed]["accuracy"] for seed in range(o.seeds)])
        sides[side] = {
            "accuracy": interval(accuracy),
            "against_live_points": interval(accuracy - live) if side != "live" else None,
            "cross_entropy": interval(np.array([row["cross_entropy"] for row in of_side])),
            "teacher_passes": of_side[0]["teacher_passes"],
            "bytes": of_side[0]["bytes"],
            "seconds": interval(np.array([row["seconds"] for row in of_side])),
        }
        told = " ".join(f"{x:.2f}" for x in sides[side]["accuracy"])
        print(f"{side}: {told} %, {sides[side]['seconds'][0]:.0f} s")
    if not o.quick:
        sizes, _, test, teacher = material(False)
        from limbeck.training.evaluate import evaluate

        result = {
            "settings": sizes | {"seeds": o.seeds, "workers": o.workers, "loss": "kd", "weight": 1},
            "teacher_accuracy": evaluate(teacher, test)["accuracy"],
            "sides": sides,
        }
        write("store_views", result, ("scipy",))
        print(f"rows: {RESULTS}")


if __name__ == "__main__":
    main()
