"""The text cells of forecast_held_out.py: kinds of questions (TREC), encoders of two layers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification as Bert,
)
from transformers.utils import logging

import limbeck
from limbeck.data import Data
from limbeck.forecasting.short_runs import Budget
from limbeck.randomness import derive_seed, generator
from limbeck.zoo.text import load_text


CLASSES, TOKENS, WORDS = 6, 24, 30_522  # of MiniLM's tokenizer
ROWS = (2600, 1200, 1000)  # the teachers', the students', held out
FEW, BATCH = 100, 50
TEACHER_WIDTH, STUDENT_WIDTH = 96, 32
FIXED: dict[str, Any] = {
    "optimizer": "adamw", "weight_decay": 0.01, "schedule": "cosine", "clip": 1.0,
    "device": "cpu", "progress": False, "batch_size": BATCH,
    "force": True,  # some questions of TREC are asked twice
}  # fmt: skip
TEACHERS = {"MiniLM": 0.0, "small encoder": 0.0, "noisy labels": 0.5}  # share of labels by lot


class Texts(NamedTuple):
    """TREC, cut: nobody shares rows with anybody."""

    teacher: Data
    student: Data
    validation: Data
    test: Data


@lru_cache(maxsize=1)
def texts(data: Path, model: Path) -> Texts:
    """Return the parts of TREC as token ids."""
    found = load_text(
        data / "text" / "trec_train.csv.xz", model, test=data / "text" / "trec_test.csv.xz",
        tokens=TOKENS, validation=0.0,
    )  # fmt: skip
    order = torch.randperm(len(found.train), generator=generator(0, "validity", "trec"))
    mine, students, held_out = (
        found.train.subset(part) for part in order[: sum(ROWS)].split(list(ROWS))
    )
    return Texts(mine, students, held_out, found.test)


def encoder(width: int, *seed: int | str) -> nn.Module:
    """Return an encoder of two layers with random weights."""
    torch.manual_seed(derive_seed("trec", *seed))
    return Bert(
        BertConfig(
            vocab_size=WORDS, hidden_size=width, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=2 * width, max_position_embeddings=64,
            id2label={number: str(number) for number in range(CLASSES)},
        )
    )  # fmt: skip


def teacher_of(data: Path, model: Path, out: Path, kind: str) -> nn.Module:
    """Return a teacher; it is trained once and kept."""
    logging.set_verbosity_error()  # that MiniLM's classifier is new is as it should be
    logging.disable_progress_bar()
    torch.manual_seed(0)
    small = kind != "MiniLM"
    network = (
        encoder(TEACHER_WIDTH, "teacher", kind)
        if small
        else AutoModelForSequenceClassification.from_pretrained(model, num_labels=CLASSES)
    )
    path = out / f"teacher trec {kind}.pt"
    if not path.exists():
        rows = texts(data, model).teacher
        inputs, targets = arrays_of(rows)
        source = generator(0, "noise", "trec")
        drawn = torch.randint(CLASSES, targets.shape, generator=source)
        wrong = torch.rand(len(targets), generator=source) < TEACHERS[kind]
        limbeck.distill(
            network, None, (inputs, torch.where(wrong, drawn, targets)), seed=0,
            epochs=12 if small else 2, learning_rate=1e-3 if small else 5e-5, **FIXED,
        )  # fmt: skip
        part = path.with_suffix(".part")
        torch.save(network.state_dict(), part)
        part.replace(path)
    network.load_state_dict(torch.load(path))
    return network.eval()


def student_of(seed: int) -> nn.Module:
    """Return the student before any training."""
    return encoder(STUDENT_WIDTH, "student", seed)


def budget_of(data: Path, model: Path, budget: str, seed: int) -> Budget:
    """Return the training rows, with all labels or few, and the settings."""
    inputs, targets = arrays_of(texts(data, model).student)
    if budget == "few labels":
        targets = targets.clone()
        order = torch.randperm(len(targets), generator=generator(0, "few", "trec"))
        targets[order[FEW:]] = -1
    settings = FIXED | {"epochs": 20, "learning_rate": 2e-3, "seed": seed}
    return Budget.of(Data((inputs, targets), name="trec rows"), targets, settings)


def arrays_of(rows: Data) -> tuple[dict[str, Tensor], Tensor]:
    """Return token ids, masks and labels of all rows."""
    batches = list(rows.batches(rows.in_order(500)))
    tables = [batch.inputs for batch in batches if isinstance(batch.inputs, dict)]
    assert rows.targets is not None
    return {name: torch.cat([one[name] for one in tables]) for name in tables[0]}, rows.targets
