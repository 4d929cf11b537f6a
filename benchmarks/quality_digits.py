"""The case of small networks of weighting_quality.py: handwritten digits, six kinds of teaching."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

import limbeck
from limbeck.data import Data
from limbeck.losses import KD
from limbeck.randomness import generator
from limbeck.training.building import build
from limbeck.training.evaluate import outputs_over
from limbeck.zoo.data import DataSet, load_dataset
from limbeck.zoo.data.splits import cut


EPOCHS, BATCH, RATE = 30, 32, 0.1
KINDS = {"good": (20, 0.0), "weak": (2, 0.0), "noisy labels": (20, 0.3)}  # epochs, share of noise
TEMPERATURES = (1.0, 4.0)
TEACHERS = tuple(f"{kind}, T = {t:g}" for kind in KINDS for t in TEMPERATURES)
MEASURES = ("training loss", "test error")


@lru_cache(maxsize=1)
def material() -> tuple[DataSet, Data, Data]:
    """Return the digits, the students' rows and the teachers' rows."""
    digits = load_dataset("digits", validation=0.2)
    assert digits.train.targets is not None
    theirs, mine = cut(digits.train.targets, 0.5, 0, "teacher and students")
    return digits, digits.train.subset(mine), digits.train.subset(theirs)


def network(width: int, depth: int, seed: int) -> nn.Module:
    return build("zoo:small_cnn", seed=seed, width=width, depth=depth, num_classes=10, channels=1)


@lru_cache(maxsize=len(KINDS))
def teacher_of(kind: str) -> nn.Module:
    epochs, noise = KINDS[kind]
    _, _, rows = material()
    assert rows.targets is not None
    inputs = torch.cat([batch.inputs for batch in rows.batches(rows.in_order(256))])
    source = generator(0, "noisy labels")
    wrong = torch.rand(len(rows), generator=source) < noise
    drawn = torch.randint(10, (len(rows),), generator=source)
    targets = torch.where(wrong, drawn, rows.targets)
    return limbeck.distill(
        network(24, 3, 0),
        None,
        (inputs, targets),
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=0.05,
        schedule="cosine",
        device="cpu",
        progress=False,
        seed=0,
    ).student


def run(weight: Any, teacher: int, seed: int, share: float = 1.0) -> dict[str, Any]:
    """Train one student; return training loss [nats] and test error at its end.

    Args:
        weight: As :func:`limbeck.distill` takes it.
        teacher: Which of TEACHERS.
        seed: Of start and order.
        share: Of the epochs.
    """
    torch.set_num_threads(1)
    kind, temperature = [(k, t) for k in KINDS for t in TEMPERATURES][teacher]
    digits, rows, _ = material()
    result = limbeck.distill(
        network(8, 2, seed),
        teacher_of(kind),
        rows,
        loss=KD(temperature=temperature),
        weight=weight,
        seed=seed,
        epochs=max(1, round(share * EPOCHS)),
        batch_size=BATCH,
        learning_rate=RATE,
        schedule="cosine",
        validation=digits.validation,
        test=digits.test,
        device="cpu",
        progress=False,
        force=True,
    )
    said, batch = outputs_over(result.student, rows)
    assert said.logits is not None
    assert batch.targets is not None
    last = result.record.results["last"]
    return {
        "training loss": nn.functional.cross_entropy(said.logits, batch.targets).item(),
        "test error": 1 - last["test"]["accuracy"],
        "score": 1 - last["validation"]["accuracy"],
        "weight": result.record.curves.get("distillation weight", [None])[-1],
        "race": result.record.settings.get("weight_race", {}).get("winner"),
    }
