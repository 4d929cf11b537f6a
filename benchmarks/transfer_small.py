"""Does what ITRD teaches a student about CIFAR-100 carry over to CIFAR-10, at small scale?

No claim is made beforehand. The teacher is a small_cnn of 32 to 128 channels trained on 40,000
CIFAR-100 images, asked once; students are of 12 to 48 channels trained on 5,000 of the others,
without augmentation (so that what the teacher said holds), alone, with KD, with ITRD, with both.
Then the classifier is taken away and a linear one is trained for CIFAR-10 on what goes into it, as
in the CRD protocol: SGD at 0.05, 120 epochs, a tenth after 30, 60 and 90, weight decay 5e-4, 64 a
batch; 10,000 CIFAR-10 images to train on, 10,000 to test on. Beside the students stand the teacher
and a student that was never trained. Differences to the control are paired by seed, with
t-intervals. The papers have resnet8x4 and STL-10; nothing here can be compared with their numbers.

    python benchmarks/transfer_small.py --data FOLDER [--seeds 0 1 2 3 4] [--workers 2]

FOLDER holds ``cifar100`` and ``cifar10``. Runs are appended to --out and not made again; the result
is results/transfer_small.json.
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asked import Remembered, accuracy, ask, ask_once, targets_of
from common import write
from resumable import carry_out
from torch import nn

from limbeck import distill, losses
from limbeck.data import Data
from limbeck.losses import WeightedSum
from limbeck.randomness import derive_seed, generator
from limbeck.report.comparison import mean_estimate
from limbeck.zoo.data import load_dataset
from limbeck.zoo.networks import Network, network


TEACHER_ROWS, STUDENT_ROWS, PROBE_ROWS = 40_000, 5_000, 10_000
TEACHER_EPOCHS, EPOCHS, RATE, BATCH, CLIP = 8, 20, 0.05, 64, 2.0
TEACHER_WIDTH, STUDENT_WIDTH = 32, 12
CONTROL, TEACHER, UNTRAINED = "no teacher", "the teacher", "untrained"
LOSSES: dict[str, Any] = {
    CONTROL: lambda: None,
    "kd": losses.KD,
    "itrd": losses.ITRD,
    "kd+itrd": lambda: WeightedSum({"kd": (1.0, losses.KD()), "itrd": (1.0, losses.ITRD())}),
}
FIXED = {"batch_size": BATCH, "learning_rate": RATE, "device": "cpu", "progress": False}

Run = tuple[str, int]  # student, seed


@lru_cache(maxsize=1)
def source(folder: Path) -> tuple[Data, Data, Data]:
    """Return the teacher's CIFAR-100 images, the students', and the test images."""
    found = load_dataset("cifar100", folder=folder / "cifar100", validation=0.0, augment="none")
    order = torch.randperm(len(found.train), generator=generator(0, "transfer_small"))
    ours, theirs = order[:TEACHER_ROWS], order[TEACHER_ROWS : TEACHER_ROWS + STUDENT_ROWS]
    assert found.test is not None
    return (
        found.train.subset(ours.sort().values),
        found.train.subset(theirs.sort().values),
        found.test,
    )


@lru_cache(maxsize=1)
def target(folder: Path) -> tuple[Data, Data]:
    """Return the CIFAR-10 images that the linear classifier is trained on, and the test images."""
    found = load_dataset(
        "cifar10", folder=folder / "cifar10", validation=0.0, augment="none", limit=PROBE_ROWS
    )
    assert found.test is not None
    return found.train, found.test


def built(width: int, *seed: int | str) -> Network:
    torch.manual_seed(derive_seed(*seed))
    return network(
        "small_cnn", num_classes=100, channels=3, width=width, depth=3, normalisation="cifar100"
    )


def teacher_of(o: argparse.Namespace) -> Network:
    """Return the teacher; it is trained once."""
    model, path = built(TEACHER_WIDTH, "teacher"), o.out / "teacher.pt"
    if not path.exists():
        rows = source(o.data)[0]
        distill(
            model, None, rows, out=o.out / "teacher", resume=True,
            epochs=TEACHER_EPOCHS, schedule="cosine", clip=CLIP, **FIXED,
        )  # fmt: skip
        part = path.with_suffix(".part")
        torch.save(model.state_dict(), part)
        part.replace(path)
    model.load_state_dict(torch.load(path))
    return model.eval()


def answers(o: argparse.Namespace) -> Remembered:
    """Return what the teacher says about the students' images."""
    return ask_once(teacher_of(o), source(o.data)[1], o.out / "answers.pt")


def probed(model: nn.Module, folder: Path, seed: int) -> float:
    """Return the CIFAR-10 test accuracy of a linear classifier of what a network computes."""
    rows, test = target(folder)
    ours, theirs = ask(model, rows).features, ask(model, test).features
    torch.manual_seed(derive_seed("probe", seed))
    head = nn.Linear(ours.shape[1], 10)
    distill(
        head,
        None,
        (ours, targets_of(rows)),
        seed=seed,
        epochs=120,
        milestones=(30, 60, 90),
        weight_decay=5e-4,
        **FIXED,
    )
    with torch.inference_mode():
        return accuracy(head(theirs), test)


def run(what: Run, o: argparse.Namespace) -> dict[str, Any]:
    """Train one student, test it, and test what a linear classifier makes of it."""
    torch.set_num_threads(1)
    name, seed = what
    _, rows, test = source(o.data)
    if name == TEACHER:
        model: nn.Module = teacher_of(o)
    else:
        model = built(STUDENT_WIDTH, "student", seed)
    if name in LOSSES:
        loss = LOSSES[name]()
        distill(
            model,
            None if loss is None else answers(o),
            rows,
            loss=loss or "kd",
            seed=seed,
            epochs=EPOCHS,
            schedule="cosine",
            clip=CLIP,
            force=True,  # a teacher without a network cannot be checked in every way
            **FIXED,
        )
    return {
        "student": name,
        "seed": seed,
        "cifar100": accuracy(ask(model, test).logits, test),
        "cifar10_probe": probed(model, o.data, seed),
    }


def summarised(found: dict[Run, dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """Return the means over seeds, and what every student has over the control."""
    rows = []
    for name in dict.fromkeys(name for name, _ in found):
        own = [found[name, seed] for seed in seeds if (name, seed) in found]
        row: dict[str, Any] = {"student": name, "seeds": len(own)}
        for part in ("cifar100", "cifar10_probe"):
            points = [100 * one[part] for one in own]
            row[f"{part}_percent"] = float(np.mean(points))
            row[f"{part}_spread"] = float(np.std(points, ddof=1)) if len(own) > 1 else None
            if name in LOSSES and name != CONTROL:
                gains = [
                    100 * (found[name, seed][part] - found[CONTROL, seed][part]) for seed in seeds
                ]
                row[f"{part}_gain_points"] = mean_estimate(gains, unit="points").to_dict()
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer_small"))
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    answers(o)
    plan = [(TEACHER, 0), *((name, seed) for seed in o.seeds for name in (*LOSSES, UNTRAINED))]
    found = carry_out(
        plan,
        partial(run, o=o),
        lambda row: (row["student"], row["seed"]),
        o.out / "runs.jsonl",
        o.workers,
    )
    settings = {
        "teacher": f"small_cnn width {TEACHER_WIDTH}, {TEACHER_ROWS} rows, {TEACHER_EPOCHS} epochs",
        "student": f"small_cnn width {STUDENT_WIDTH}, {STUDENT_ROWS} rows, {EPOCHS} epochs",
        "probe_rows": PROBE_ROWS,
    }
    result = {"settings": settings, "rows": summarised(found, o.seeds)}
    write("transfer_small", result | {"runs": list(found.values())})


if __name__ == "__main__":
    main()
