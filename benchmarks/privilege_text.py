"""The text of privilege.py: a small GPT-2 learns from a larger one, a query is a token."""

from __future__ import annotations

import argparse
import hashlib
import lzma
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from privilege_images import distances
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from limbeck import token_kd_loss, token_sampled_loss
from limbeck.losses import AdaptiveControlVariate
from limbeck.losses.k3 import CLIP
from limbeck.losses.teacher_draws import labels_at
from limbeck.randomness import derive_seed, generator


class Sizes(NamedTuple):
    """How large everything is: windows of characters, width and layers, budgets, steps."""

    window: int
    held_out: int
    teacher: tuple[int, int]
    student: tuple[int, int]
    teacher_steps: int
    teacher_batch: int
    budgets: tuple[int, ...]
    batch: int
    steps: int


SIZES = {
    "full": Sizes(
        window=64,
        held_out=128,
        teacher=(96, 3),
        student=(64, 2),
        teacher_steps=1500,
        teacher_batch=16,
        budgets=(2048, 4096, 8192, 16_384, 32_768),
        batch=8,
        steps=512,
    ),
    "quick": Sizes(
        window=16,
        held_out=16,
        teacher=(16, 1),
        student=(8, 1),
        teacher_steps=20,
        teacher_batch=4,
        budgets=(64, 128, 256, 512, 1024),
        batch=4,
        steps=16,
    ),
}
TITLE, QUERY, TASK_METRIC = "text", "tokens", "cross_entropy_nats"
TEACHER_PART, STUDENT_PART = 0.6, 0.9  # of the text up to here; the rest is held out
HEADS, WARMUP = 4, 0.05
TEACHER_RATE, RATE = 3e-3, 7e-3


class Material(NamedTuple):
    """Windows of the text as numbers of characters, one more than the window is long."""

    rows: Tensor
    pool: Tensor
    held_out: Tensor
    labels: int


def sizes_of(o: argparse.Namespace) -> Sizes:
    return SIZES["quick" if o.quick else "full"]


@lru_cache(maxsize=1)
def read(path: Path) -> str:
    whole = path.read_bytes()
    return (lzma.decompress(whole) if path.suffix == ".xz" else whole).decode("utf8")


def settings(o: argparse.Namespace) -> dict[str, Any]:
    digest = hashlib.sha256(read(o.text).encode("utf8")).hexdigest()
    return sizes_of(o)._asdict() | {"text_sha256": digest}


@lru_cache(maxsize=1)
def material(sizes: Sizes, path: Path) -> Material:
    text = read(path)
    characters = {one: number for number, one in enumerate(sorted(set(text)))}
    numbers = torch.tensor([characters[one] for one in text])
    ends = [round(share * len(numbers)) for share in (TEACHER_PART, STUDENT_PART)]
    rows, pool, rest = (
        part[: len(part) // (sizes.window + 1) * (sizes.window + 1)].view(-1, sizes.window + 1)
        for part in (numbers[: ends[0]], numbers[ends[0] : ends[1]], numbers[ends[1] :])
    )
    needed = max(sizes.budgets) // sizes.window
    if len(pool) < needed or len(rest) < sizes.held_out:
        raise SystemExit(
            f"expected a text that holds {needed} windows for the students and {sizes.held_out} "
            f"held out; {path.name} has {len(pool)} and {len(rest)}. Give a longer --text."
        )
    apart = torch.randperm(len(rest), generator=generator(0, "privilege", "held out"))
    return Material(rows, pool, rest[apart[: sizes.held_out]], len(characters))


def built(size: tuple[int, int], labels: int, window: int, *seed: int | str) -> GPT2LMHeadModel:
    torch.manual_seed(derive_seed(*seed))
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=labels, n_positions=window, n_embd=size[0], n_layer=size[1], n_head=HEADS,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


class Descent:
    """AdamW with a short warm-up and a cosine, over a given number of steps."""

    def __init__(self, model: nn.Module, steps: int, rate: float) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
        warm = max(1.0, WARMUP * steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps)),
        )

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()


def batches(rows: int, size: int, steps: int, *seed: int | str) -> Iterator[Tensor]:
    """Yield the rows of every step: passes over all rows, each in an order of its own."""
    source, left = generator(*seed), torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(left) < min(size, rows):
            left = torch.cat([left, torch.randperm(rows, generator=source)])
        yield left[: min(size, rows)]
        left = left[min(size, rows) :]


@lru_cache(maxsize=1)
def trained(path: Path, sizes: Sizes, text: Path) -> GPT2LMHeadModel:
    """Return the teacher; it is trained once."""
    given = material(sizes, text)
    model = built(sizes.teacher, given.labels, sizes.window, "teacher")
    if not path.exists():
        descent = Descent(model, sizes.teacher_steps, TEACHER_RATE)
        for rows in batches(
            len(given.rows), sizes.teacher_batch, sizes.teacher_steps, 0, "teacher"
        ):
            windows = given.rows[rows]
            logits = model(windows[:, :-1]).logits
            descent.step(F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()))
        part = path.with_suffix(".part")
        torch.save(model.state_dict(), part)
        part.replace(path)
    model.load_state_dict(torch.load(path))
    return model.eval()


@torch.inference_mode()
def said(model: GPT2LMHeadModel, windows: Tensor) -> Tensor:
    """Return the logits at every position of windows."""
    return torch.cat([model(part[:, :-1]).logits for part in windows.split(64)]).clone()


def teacher_of(o: argparse.Namespace) -> GPT2LMHeadModel:
    return trained(o.out / "text-teacher.pt", sizes_of(o), o.text)


def prepare(o: argparse.Namespace) -> dict[str, Any]:
    """Train the teacher, unless that was done; tell what it is like."""
    sizes = sizes_of(o)
    given = material(sizes, o.text)
    logits = said(teacher_of(o), given.held_out).double()
    log_rows = logits.log_softmax(-1)
    return {
        "labels": given.labels,
        "teacher_entropy_nats": -(log_rows.exp() * log_rows).sum(-1).mean().item(),
        "teacher_cross_entropy_nats": cross_entropy(logits, given.held_out),
        "settings": settings(o),
    }


def cross_entropy(logits: Tensor, windows: Tensor) -> float:
    return F.cross_entropy(logits.double().flatten(0, 1), windows[:, 1:].flatten()).item()


def run(privilege: str, budget: int, seed: int, o: argparse.Namespace) -> dict[str, Any]:
    """Train one student on one budget; its distances to the teacher are on held-out windows."""
    sizes = sizes_of(o)
    given, teacher = material(sizes, o.text), teacher_of(o)
    order = torch.randperm(
        len(given.pool), generator=generator(seed, "privilege", "queries", budget)
    )
    windows = given.pool[order[: budget // sizes.window]]
    logits = said(teacher, windows)
    labels, reported = drawn(logits, seed, budget)
    student = built(sizes.student, given.labels, sizes.window, "student", seed)
    adaptive, descent = AdaptiveControlVariate(clip=CLIP), Descent(student, sizes.steps, RATE)
    for rows in batches(len(windows), sizes.batch, sizes.steps, seed, "order", budget):
        mine = student(windows[rows, :-1]).logits
        if privilege == "hard_labels":
            loss = token_sampled_loss(mine, labels[rows], loss="cross_entropy")
        elif privilege == "sampled_probabilities":
            loss = token_sampled_loss(
                mine, labels[rows], reported[rows], loss="control_variate", weight=adaptive
            )
        else:
            loss = token_kd_loss(mine, logits[rows])
        descent.step(loss)
    student.eval()
    mine, theirs = said(student, given.held_out), said(teacher, given.held_out)
    return {**distances(mine, theirs), TASK_METRIC: cross_entropy(mine, given.held_out)}


def drawn(logits: Tensor, seed: int, budget: int) -> tuple[Tensor, Tensor]:
    """Return a label that the teacher draws at every position, and its log-probability [nats]."""
    rows = logits.flatten(0, 1).double().log_softmax(1)
    source = generator(seed, "privilege", "labels", budget)
    uniform = torch.rand(len(rows), 1, generator=source, dtype=torch.float64)
    labels = labels_at(rows.exp(), uniform)
    reported = rows.gather(1, labels).float()
    return labels.view(logits.shape[:2]), reported.view(logits.shape[:2])
