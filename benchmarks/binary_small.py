"""Does ITRD from a full-precision teacher help a binary ResNet-20 on CIFAR-10, at small scale?

No claim is made beforehand. The teacher is akamaster's pretrained ResNet-56 (93.4 %), asked once
for every training image as it is; the student, ``binary:resnet20`` of 1-bit weights and
activations, is trained on --rows images without augmentation (so that what the teacher said holds),
by the published rule for tau, SGD 0.1 with warm-up and cosine, alone and with ITRD on the
normalised pooled feature. Test accuracy on 10,000 images, last epoch; differences are paired by
seed. The papers train 600 epochs on 50,000 augmented images (ReCU alone: 87.5 %); nothing here can
be compared with that.

    python benchmarks/binary_small.py --data FOLDER --weights FOLDER [--rows 3000] [--epochs 15]

Runs are appended to --out and not made again; the result is results/binary_small.json.
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from asked import Remembered, ask_once
from common import write
from pretrained import published
from resumable import carry_out

from limbeck import distill
from limbeck.data import Data
from limbeck.report.comparison import mean_estimate
from limbeck.students import size_table
from limbeck.training.building import build
from limbeck.zoo.data import load_dataset


LOSSES = {"alone": None, "itrd": "itrd"}
BATCH, RATE, WARMUP = 128, 0.1, 2

Run = tuple[str, int]  # student, seed


@lru_cache(maxsize=1)
def parts(folder: Path, rows: int) -> tuple[Data, Data]:
    found = load_dataset("cifar10", folder=folder, validation=0.0, augment="none", limit=rows)
    assert found.test is not None
    return found.train, found.test


def said(o: argparse.Namespace) -> Remembered:
    """Return what the teacher says about every training row."""
    teacher = published("resnet56", o.weights)
    return ask_once(teacher, parts(o.data, o.rows)[0], o.out / "teacher.pt")


def run(what: Run, o: argparse.Namespace) -> dict[str, Any]:
    """Train and test one student."""
    torch.set_num_threads(1)
    name, seed = what
    rows, test = parts(o.data, o.rows)
    loss = LOSSES[name]
    result = distill(
        build("binary:resnet20", seed=seed),
        None if loss is None else said(o),
        rows,
        loss=loss or "kd",
        seed=seed,
        test=test,
        epochs=o.epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        warmup_epochs=WARMUP,
        schedule="cosine",
        device="cpu",
        progress=False,
        force=True,  # a teacher without a network cannot be checked in every way
    )
    accuracy = result.record.results["last"]["test"]["accuracy"]
    return {"student": name, "seed": seed, "accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/binary_small"))
    o = parser.parse_args()
    o.out = o.out / f"{o.rows}-{o.epochs}"
    o.out.mkdir(parents=True, exist_ok=True)
    said(o)
    plan = [(name, seed) for seed in o.seeds for name in LOSSES]
    path = o.out / "runs.jsonl"
    found = carry_out(
        plan, partial(run, o=o), lambda row: (row["student"], row["seed"]), path, o.workers
    )
    points = {n: [100 * found[n, seed]["accuracy"] for seed in o.seeds] for n in LOSSES}
    gain = [a - b for a, b in zip(points["itrd"], points["alone"], strict=True)]
    sizes = size_table(build("binary:resnet20"))
    result = {
        "rows": o.rows,
        "epochs": o.epochs,
        "accuracy_percent": points,
        "gain_points": mean_estimate(gain, unit="points").to_dict(),
        "bytes_float32": sum(row.float_bytes for row in sizes),
        "bytes_packed": sum(row.packed_bytes for row in sizes),
    }
    write("binary_small", result)


if __name__ == "__main__":
    main()
