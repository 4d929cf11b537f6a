"""What a student takes from a teacher while it learns: figure 5 of Dissanayake et al. (2025).

Claim of the paper (arXiv:2411.07483, CIFAR-10 and CIFAR-100, WRN-40-2 to WRN-16-1): with a trained
teacher Uni(Y:T\\S) falls and Red(Y:T,S) rises; with an untrained one both stay flat, within the
null band; the teacher is frozen, so its I(Y;T) must not change. They cluster features to 10 (3)
symbols. Here the same checkpoints are measured in two ways side by side: limbeck's default (hull),
and theirs (10 principal components, 10 and 5 clusters; counts here corrected for bias, fits seeded
and features pooled over positions), on rows held out from all training.

What was measured stands in results/reproduce_pid.md, with the paper's values beside, and is told
in docs/figure5.md. It is far smaller than the paper's set-up and no reproduction of its numbers.

    python benchmarks/reproduce_pid/figure5.py [--data cifar10 --folder FOLDER] [--seeds 0 1 2]

Runs, checkpoints and measured cells are kept under --out; what is there is not made again. The
result is results/reproduce_pid.json, with a table (.md) and figures (.svg, and trajectory.svg of
the hull alone). Without --data the 8 x 8 digits are taken, whose 539 test rows are too few for more
than a trial.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from figure5_drawing import NUMBERS, figure, summaries, trajectory
from figure5_table import table
from torch import nn

from limbeck import distill, estimate_pid
from limbeck.data import Data
from limbeck.information.quantise import FeatureClusters
from limbeck.information.tables import table_estimate
from limbeck.losses import RID, TED, VID
from limbeck.randomness import derive_seed
from limbeck.zoo.data import DataSet, load_dataset
from limbeck.zoo.networks import STATISTICS, Network, network


BENCHMARKS = Path(__file__).resolve().parents[1]
STAGES = ("stage1", "stage2", "stage3")
#: Name in the figure: loss of limbeck, or what makes it. None trains without a teacher.
METHODS: dict[str, Any] = {
    "baseline": None,
    "kd": "kd",
    "itrd": "itrd",
    "vid": lambda: VID(STAGES),
    "rid": lambda: RID(STAGES),
    "ted": lambda: TED(STAGES),
}
TEACHERS = ("trained", "untrained")
CLUSTERS = (10, 5)  # symbols a side of the paper's way
COMPONENTS = 10
PARENT = "FIGURE5_PARENT"
# What a result depends on; a folder holds runs of one choice.
SETTINGS = (
    *("data", "teacher", "student", "teacher_rows", "student_rows", "teacher_epochs", "epochs"),
    *("batch_size", "learning_rate", "clip", "at", "rows"),
)

Options = argparse.Namespace


class Cell(NamedTuple):
    """One measured pair: a student's checkpoint and a teacher."""

    method: str
    teacher: str
    seed: int
    epoch: int


@lru_cache(maxsize=2)
def loaded(name: str, folder: str | None, limit: int | None) -> DataSet:
    return load_dataset(name, folder=folder, validation=0.0, limit=limit)


def built(name: str, data: DataSet, *seed: int | str) -> Network:
    statistics = data.name.replace("-", "_")
    torch.manual_seed(derive_seed(*seed))
    return network(
        name,
        num_classes=data.classes,
        channels=data.channels,
        normalisation=statistics if statistics in STATISTICS else "none",
    )


def teacher_of(kind: str, seed: int, o: Options) -> Network:
    """Return the teacher of a seed: trained, or with the weights that it started from."""
    data = loaded(o.data, o.folder, o.teacher_rows)
    model = built(o.teacher, data, "teacher", seed)
    if kind == "trained":
        folder = o.out / f"teacher-{seed}"
        train(model, None, data.train, None, folder, {o.teacher_epochs}, seed, o)
        model.load_state_dict(torch.load(checkpoint(folder, o.teacher_epochs)))
    return model.eval()


def run_folder(method: str, teacher: str, seed: int, o: Options) -> Path:
    kind = "none" if METHODS[method] is None else teacher
    return o.out / f"{method}-{kind}-{seed}"


def checkpoint(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch}.pt"


def train_student(method: str, teacher: str, seed: int, o: Options) -> None:
    torch.set_num_threads(1)
    data = loaded(o.data, o.folder, o.student_rows)
    model = built(o.student, data, "student", seed)
    loss = METHODS[method]
    loss = loss() if callable(loss) else loss
    guide = None if loss is None else teacher_of(teacher, seed, o)
    folder = run_folder(method, teacher, seed, o)
    train(model, guide, data.train, loss, folder, set(o.at), seed, o)


def train(
    model: nn.Module,
    guide: nn.Module | None,
    rows: Data,
    loss: Any,
    folder: Path,
    epochs: set[int],
    seed: int,
    o: Options,
) -> None:
    """Train to the last of ``epochs`` and save the weights after each of them; 0 is the start."""
    if all(checkpoint(folder, epoch).exists() for epoch in epochs):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if 0 in epochs:
        save(model, checkpoint(folder, 0))

    def on_ready(loop: Any, _: list[Any]) -> bool:
        steps = len(loop.order.batches_of(0))

        def after_step(*_: object) -> None:
            stop_if_orphaned()
            epoch, rest = divmod(loop.total_steps + 1, steps)
            if rest == 0 and epoch in epochs:
                save(loop.inner.student, checkpoint(folder, epoch))

        for optimizer in (loop.optimizer, loop.alternation.optimizer):
            if optimizer is not None:  # auxiliary epochs of RID and TED have one of their own
                optimizer.register_step_post_hook(after_step)
        return True

    distill(
        model,
        guide,
        rows,
        loss=loss or "kd",
        seed=seed,
        out=folder / "run",
        resume=True,
        on_ready=on_ready,
        epochs=max(epochs),
        batch_size=o.batch_size,
        learning_rate=o.learning_rate,
        clip=o.clip,
        force=True,  # an untrained teacher is what the preflight warns of
        progress=False,
        device="cpu",
    )


def remember_parent() -> None:
    os.environ[PARENT] = str(os.getppid())


def stop_if_orphaned() -> None:
    """End a worker whose script was killed: it must not write into the folder of the next."""
    if PARENT in os.environ and int(os.environ[PARENT]) != os.getppid():
        os._exit(1)


def save(model: nn.Module, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(model.state_dict(), part)
    os.replace(part, path)  # noqa: PTH105


@lru_cache(maxsize=8)
def test_rows(name: str, folder: str | None, count: int) -> Data:
    """Return the rows that are measured: of the test part, which no network is trained on."""
    test = loaded(name, folder, None).test
    chosen = np.random.default_rng(0).permutation(len(test))[:count]
    return test.subset(torch.from_numpy(np.sort(chosen)))


@torch.inference_mode()
def said(model: Network, rows: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, innermost features and class probabilities."""
    model.eval()
    inner, targets, outer = [], [], []
    for batch in rows.batches(rows.in_order(256)):
        assert isinstance(batch.inputs, torch.Tensor)
        assert batch.targets is not None  # the data sets of this script are labelled images
        inner.append(model[:-1](batch.inputs))
        outer.append(model.classifier(inner[-1]).double().softmax(1))
        targets.append(batch.targets)
    found = (torch.cat(parts).numpy() for parts in (targets, inner, outer))
    return tuple(found)  # pyright: ignore[reportReturnType]


def measure_cell(cell: Cell, o: Options) -> dict[str, Any]:
    """Measure one student's checkpoint against one teacher in all ways."""
    stop_if_orphaned()
    torch.set_num_threads(1)
    rows = test_rows(o.data, o.folder, o.rows)
    student = built(o.student, loaded(o.data, o.folder, o.student_rows), "student", cell.seed)
    folder = run_folder(cell.method, cell.teacher, cell.seed, o)
    student.load_state_dict(torch.load(checkpoint(folder, cell.epoch)))
    targets, ours, our_classes = said(teacher_of(cell.teacher, cell.seed, o), rows)
    _, theirs, their_classes = said(student, rows)
    hull = estimate_pid(
        targets,
        ours,
        theirs,
        teacher_posteriors=our_classes,
        student_posteriors=their_classes,
        seed=0,
    )
    atoms = {name: getattr(hull, name) for name in NUMBERS}
    ways: dict[str, Any] = {
        "hull": {
            name: [e.value, e.lower, e.upper, e.status == "resolved"] for name, e in atoms.items()
        }
        | {"null": {k: v for k, v in hull.null.items() if k in NUMBERS}}
    }
    for count in CLUSTERS:
        ways[f"kmeans {count}"] = by_clusters(targets, ours, theirs, count)
    accuracy = [float((p.argmax(1) == targets).mean()) for p in (our_classes, their_classes)]
    return {
        **cell._asdict(),
        "n": len(targets),
        "teacher_accuracy": accuracy[0],
        "student_accuracy": accuracy[1],
        "ways": ways,
    }


def by_clusters(
    targets: np.ndarray, ours: np.ndarray, theirs: np.ndarray, count: int
) -> dict[str, Any]:
    """Measure in the paper's way: ``method="kmeans"``, less the probes that say what is lost.

    Equal rows and seeds give a teacher the same clusters at every checkpoint.
    """
    symbols = [
        FeatureClusters.fit(side, count, components=COMPONENTS, seed=0).symbols(side)
        for side in (ours, theirs)
    ]
    found = table_estimate(targets, *symbols, seed=0)
    kept: dict[str, Any] = {}
    for name in NUMBERS:
        value, half = max(found.corrected[name], 0.0), 1.96 * found.spread[name]
        lower, upper = max(value - half, 0.0), value + half
        kept[name] = [value, lower, upper, name not in found.untrusted]
    return kept | {"null": {k: float(v) for k, v in found.null.items() if k in NUMBERS}}


def planned(o: Options) -> Iterator[Cell]:
    """Yield every cell; all students of a seed start from the same weights, measured once."""
    for seed in o.seeds:
        for teacher in TEACHERS:
            for epoch in o.at:
                methods = list(METHODS)[:1] if epoch == 0 else METHODS
                yield from (Cell(method, teacher, seed, epoch) for method in methods)


def finished(jobs: list[Future[Any]], what: str) -> Iterator[Any]:
    for number, job in enumerate(as_completed(jobs), 1):
        yield job.result()
        print(f"{what}: {number} of {len(jobs)}", flush=True)


def train_all(pool: ProcessPoolExecutor, o: Options) -> None:
    """Train teachers and what needs no trained teacher, then the others."""
    runs = [
        (method, teacher, seed)
        for seed in o.seeds
        for method, loss in METHODS.items()
        for teacher in (TEACHERS if loss is not None else TEACHERS[:1])
    ]
    late = [run for run in runs if run[1] == "trained" and METHODS[run[0]] is not None]
    jobs = [pool.submit(teacher_of, "trained", seed, o) for seed in o.seeds]
    jobs += [pool.submit(train_student, *run, o) for run in runs if run not in late]
    for _ in finished(jobs, "teachers and students without one"):
        pass
    for _ in finished([pool.submit(train_student, *run, o) for run in late], "students"):
        pass


def check_settings(o: Options) -> dict[str, Any]:
    """Return the settings, and refuse a folder that holds runs of others."""
    settings = {name: getattr(o, name) for name in SETTINGS}
    path = o.out / "settings.json"
    if path.exists() and (before := json.loads(path.read_text("utf8"))) != settings:
        others = [name for name in SETTINGS if before.get(name) != settings[name]]
        raise SystemExit(f"{path} has other {', '.join(others)}. Choose another --out.")
    o.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf8")
    return settings


def options() -> Options:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--folder")
    parser.add_argument("--teacher", default="wrn_16_1")
    parser.add_argument("--student", default="wrn_16_1")
    parser.add_argument("--teacher-rows", type=int, help="training rows; all by default")
    parser.add_argument("--student-rows", type=int)
    parser.add_argument("--teacher-epochs", type=int, default=10)
    parser.add_argument("--at", type=int, nargs="+", default=[0, 1, 2, 4, 7, 10], metavar="EPOCH")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--clip", type=float, default=2.0, help="largest norm of the gradient")
    parser.add_argument("--rows", type=int, default=10_000, help="test rows that are measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce_pid"))
    found = parser.parse_args()
    found.at = sorted(found.at)
    found.epochs = found.at[-1]
    return found


def main() -> None:
    o = options()
    settings = check_settings(o)
    path = o.out / "measured.jsonl"
    read = runpy.run_path(str(BENCHMARKS / "resumable.py"))["rows_of"]
    done = {Cell(*(row[name] for name in Cell._fields)) for row in read(path)}
    pool = ProcessPoolExecutor(o.workers, initializer=remember_parent)
    with pool, path.open("a", encoding="utf8") as out:
        train_all(pool, o)
        todo = [cell for cell in planned(o) if cell not in done]
        jobs = [pool.submit(measure_cell, cell, o) for cell in todo]
        for row in finished(jobs, "measured"):
            out.write(json.dumps(row) + "\n")
            out.flush()
    order = {cell: number for number, cell in enumerate(planned(o))}
    cells = [row for row in read(path) if Cell(*(row[n] for n in Cell._fields)) in order]
    cells.sort(key=lambda row: order[Cell(*(row[name] for name in Cell._fields))])
    common = runpy.run_path(str(BENCHMARKS / "common.py"))
    common["write"](
        "reproduce_pid",
        {
            "script": "benchmarks/reproduce_pid/figure5.py",
            "unit": "bits",
            "settings": settings | {"seeds": o.seeds},
            "numbers": "value, lower, upper (95 %), whether it is resolved",
            "summary": summaries(cells),
            "cells": cells,
        },
        packages=("scikit-learn",),
    )
    caption = (
        f"{o.data}, {o.teacher} ({o.teacher_rows or 'all'} training rows) to {o.student} "
        f"({o.student_rows or 'all'}), {len(o.seeds)} seed(s)"
    )
    results = common["RESULTS"]
    (results / "reproduce_pid.md").write_text(table(summaries(cells)), encoding="utf8")
    (results / "reproduce_pid.svg").write_text(figure(cells, caption), encoding="utf8")
    (results / "trajectory.svg").write_text(trajectory(cells, caption), encoding="utf8")


if __name__ == "__main__":
    main()
