"""Which losses help a small student on real images, what do they cost, and when do they hurt?

No claim is made beforehand: distillation may lose. Fashion-MNIST; the teacher is a small_cnn of 24
to 96 channels trained on 20,000 images, students are of 8 to 32 channels trained on 3,000 others,
15 epochs, the same rows, rate, clipping and first weights for every method of a seed, with each
method's published weights, untuned. Accuracy on 10,000 test images, last epoch; differences to the
control (the same student without a teacher) are paired by seed, with t-intervals. Bits are those of
``limbeck.estimate_pid`` on 2,000 test images, against the teacher that the student had (for the
control: the trained one). Cost is CPU time of one core, as a ratio to the control's of that seed.
Maps are those of all three stages for AT and OFD, of the second for FitNet, and of the last for SP,
VID, TED and RID.

The second table is the useless-teacher experiment of the RID paper (arXiv:2411.07483, section 5):
methods with the trained teacher, with one that was never trained, and with the trained one whose
maps are spoilt by noise (ten standard deviations, in the lower half of every map). The paper
expects RID and TED to lose less than VID.

    python benchmarks/methods_small.py [--seeds 0 1 2] [--workers 2]

Needs Fashion-MNIST (Debian: dataset-fashion-mnist). Runs are appended to --out and not made again;
the result is results/methods_small.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write
from resumable import carry_out
from torch import Tensor, nn

from limbeck import distill, estimate_pid, losses
from limbeck.data import Data
from limbeck.losses import WeightedSum
from limbeck.randomness import derive_seed, generator
from limbeck.report.comparison import mean_estimate
from limbeck.zoo.data import load_dataset
from limbeck.zoo.networks import Network, network


TEACHER_ROWS, STUDENT_ROWS, MEASURED_ROWS = 20_000, 3_000, 2_000
TEACHER_EPOCHS, EPOCHS, RATE, BATCH, CLIP = 8, 15, 0.05, 64, 2.0
STAGES = ("stage1", "stage2", "stage3")
LAST = STAGES[-1:]  # of VID, TED and RID, which take minutes a run with all
CONTROL = "no teacher"
SPOILT = 10.0  # standard deviations of a map
METHODS: dict[str, Callable[[], Any]] = {
    CONTROL: lambda: None,
    "kd": losses.KD,
    "dkd": losses.DKD,
    "dist": losses.DIST,
    "lskd": losses.Standardised,
    "wttm": losses.WTTM,
    "rld": losses.RLD,
    "itrd": losses.ITRD,
    "kd+itrd": lambda: WeightedSum({"kd": (1.0, losses.KD()), "itrd": (1.0, losses.ITRD())}),
    "wttm+itrd": lambda: WeightedSum({"wttm": (1.0, losses.WTTM()), "itrd": (1.0, losses.ITRD())}),
    "fitnet": lambda: losses.FitNet("stage2"),
    "at": lambda: losses.AT(STAGES),
    "sp": lambda: losses.SP("stage3"),
    "pkt": losses.PKT,
    "rkd": losses.RKD,
    "crd": losses.CRD,
    "ofd": lambda: losses.OFD(STAGES),
    "vid": lambda: losses.VID(LAST),
    "ted": lambda: losses.TED(LAST),
    "rid": lambda: losses.RID(LAST),
}
TEACHERS = ("trained", "untrained", "spoilt")
WITH_USELESS = ("kd", "itrd", "vid", "ted", "rid")

Run = tuple[str, str, int]  # method, teacher, seed


@lru_cache(maxsize=1)
def parts() -> tuple[Data, Data, Data]:
    """Return the teacher's rows, the students' and the test rows."""
    found = load_dataset("fashion-mnist", validation=0.0, augment="none")
    order = torch.randperm(len(found.train), generator=generator(0, "methods_small"))
    ends = TEACHER_ROWS, TEACHER_ROWS + STUDENT_ROWS
    rows = (order[: ends[0]].sort().values, order[ends[0] : ends[1]].sort().values)
    assert found.test is not None
    return found.train.subset(rows[0]), found.train.subset(rows[1]), found.test


def built(width: int, *seed: int | str) -> Network:
    torch.manual_seed(derive_seed(*seed))
    return network("small_cnn", width=width, depth=3, normalisation="fashion_mnist")


class Spoilt(nn.Module):
    """A teacher with noise in the lower half of every map."""

    def __init__(self, teacher: Network) -> None:
        super().__init__()
        self.inner = teacher
        self.classifier = teacher.classifier
        for name in STAGES:
            stage = teacher.get_submodule(name)
            setattr(self, name, stage)
            stage.register_forward_hook(_spoil)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def _spoil(_: nn.Module, __: Any, maps: Tensor) -> Tensor:
    half = maps.shape[2] // 2
    noise = torch.randn_like(maps[:, :, half:]) * (SPOILT * maps.std())
    return torch.cat([maps[:, :, :half], maps[:, :, half:] + noise], dim=2)


def teacher_of(kind: str, folder: Path) -> nn.Module:
    """Return a teacher; the trained one is made once."""
    model = built(24, "teacher")
    path = folder / "teacher.pt"
    if kind == "untrained":
        return model.eval()
    if not path.exists():
        options = {"epochs": TEACHER_EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
        rows = parts()[0]
        distill(model, None, rows, schedule="cosine", device="cpu", progress=False, **options)
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path))
    return (Spoilt(model) if kind == "spoilt" else model).eval()


def said(model: nn.Module, rows: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, what goes into the classifier, and class probabilities."""
    seen: list[Tensor] = []
    head = model.get_submodule("classifier")
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    targets, outer = [], []
    with torch.inference_mode():
        for batch in rows.batches(rows.in_order(500)):
            outer.append(model(batch.inputs).double().softmax(1))
            targets.append(batch.targets)
    handle.remove()
    found = (torch.cat(part).numpy() for part in (targets, seen, outer))
    return tuple(found)  # pyright: ignore[reportReturnType]


def run(what: Run, folder: Path) -> dict[str, Any]:
    """Train one student, and say how good it is and what it took over."""
    torch.set_num_threads(1)
    method, kind, seed = what
    _, rows, test = parts()
    student, loss = built(8, "student", seed), METHODS[method]()
    guide = teacher_of(kind, folder)
    start = time.process_time()
    distill(
        student,
        None if loss is None else guide,
        rows,
        loss=loss or "kd",
        seed=seed,
        epochs=EPOCHS,
        batch_size=BATCH,
        learning_rate=RATE,
        schedule="cosine",
        clip=CLIP,
        force=True,  # a useless teacher is what the preflight warns of
        device="cpu",
        progress=False,
    )
    seconds = time.process_time() - start
    targets, features, classes = said(student.eval(), test)
    taught_targets, taught, taught_classes = said(guide, test)
    assert (targets == taught_targets).all()
    some = np.random.default_rng(0).permutation(len(targets))[:MEASURED_ROWS]
    bits = estimate_pid(
        targets[some],
        taught[some],
        features[some],
        teacher_posteriors=taught_classes[some],
        student_posteriors=classes[some],
    )
    return {
        "method": method,
        "teacher": kind,
        "seed": seed,
        "accuracy": float((classes.argmax(1) == targets).mean()),
        "teacher_accuracy": float((taught_classes.argmax(1) == targets).mean()),
        "cpu_seconds": seconds,
        "distillable": [bits.distillable.value, bits.distillable.lower, bits.distillable.upper],
        "distilled": [bits.distilled.value, bits.distilled.lower, bits.distilled.upper],
    }


def planned(seeds: list[int]) -> Iterator[Run]:
    """Yield all runs, seed by seed."""
    for seed in seeds:
        yield from ((method, "trained", seed) for method in METHODS)
        yield from ((m, kind, seed) for kind in TEACHERS[1:] for m in WITH_USELESS)


def summarised(found: dict[Run, dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """Return every method's means over seeds and what it adds to the control."""
    rows = []
    for method, kind in dict.fromkeys((m, t) for m, t, _ in planned(seeds)):
        own = [found[method, kind, seed] for seed in seeds]
        controls = [found[CONTROL, "trained", seed] for seed in seeds]
        gains = [100 * (a["accuracy"] - b["accuracy"]) for a, b in zip(own, controls, strict=True)]
        gain = mean_estimate(gains, unit="points")
        rows.append(
            {
                "method": method,
                "teacher": kind,
                "seeds": len(own),
                "accuracy_percent": float(np.mean([100 * one["accuracy"] for one in own])),
                "accuracy_spread": float(np.std([100 * o["accuracy"] for o in own], ddof=1)),
                "gain_points": gain.value,
                "gain_interval": [gain.lower, gain.upper],
                "wins": sum(value > 0 for value in gains),
                "cpu_ratio": float(
                    np.median(
                        [
                            a["cpu_seconds"] / b["cpu_seconds"]
                            for a, b in zip(own, controls, strict=True)
                        ]
                    )
                ),
                "distillable_bits": float(np.mean([one["distillable"][0] for one in own])),
                "distilled_bits": float(np.mean([one["distilled"][0] for one in own])),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/methods_small"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    guide = said(teacher_of("trained", options.out), parts()[2])
    found = carry_out(
        planned(options.seeds),
        partial(run, folder=options.out),
        lambda row: (row["method"], row["teacher"], row["seed"]),
        options.out / "runs.jsonl",
        options.workers,
    )
    write(
        "methods_small",
        {
            "settings": {
                "data": "fashion-mnist",
                "teacher": f"small_cnn width 24, {TEACHER_ROWS} rows, {TEACHER_EPOCHS} epochs",
                "student": f"small_cnn width 8, {STUDENT_ROWS} rows, {EPOCHS} epochs",
                "learning_rate": RATE,
                "clip": CLIP,
                "teacher_accuracy": float((guide[2].argmax(1) == guide[0]).mean()),
            },
            "rows": summarised(found, options.seeds),
            "runs": [found[one] for one in planned(options.seeds)],
        },
        packages=("scikit-learn",),
    )


if __name__ == "__main__":
    main()
