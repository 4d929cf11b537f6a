"""The images of privilege.py: a small CNN learns from a larger one, a query is an image."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from limbeck import distill, losses
from limbeck.data import Data
from limbeck.randomness import derive_seed, generator
from limbeck.training.evaluate import outputs_over
from limbeck.types import Batch, Outputs
from limbeck.zoo.data import load_dataset
from limbeck.zoo.networks import Network, network


class Sizes(NamedTuple):
    """How large everything is: rows, channels of the first stage, stages, budgets, steps."""

    data: str
    teacher_rows: int
    pool: int
    held_out: int
    teacher: tuple[int, int]
    student: tuple[int, int]
    teacher_epochs: int
    budgets: tuple[int, ...]
    batch: int
    steps: int


SIZES = {
    "full": Sizes(
        data="fashion-mnist",
        teacher_rows=20_000,
        pool=20_000,
        held_out=2_000,
        teacher=(24, 3),
        student=(8, 3),
        teacher_epochs=6,
        budgets=(250, 500, 1000, 2000, 4000),
        batch=50,
        steps=800,
    ),
    "quick": Sizes(
        data="digits",
        teacher_rows=500,
        pool=600,
        held_out=300,
        teacher=(8, 2),
        student=(4, 2),
        teacher_epochs=4,
        budgets=(20, 40, 80, 160, 320),
        batch=20,
        steps=48,
    ),
}
TITLE, QUERY, TASK_METRIC = "images", "images", "accuracy"
DATA = ("fashion-mnist", "mnist", "digits", "cifar10", "cifar100")
LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "hard_labels": lambda seed: losses.SampledLabels(seed=seed),
    "sampled_probabilities": lambda seed: losses.ControlVariate(seed=seed),
    "soft_labels": lambda _: losses.KD(temperature=1.0),
}
FIXED = {
    "learning_rate": 0.05,
    "schedule": "cosine",
    "clip": 2.0,
    "device": "cpu",
    "progress": False,
}


class Said:
    """A teacher that is asked by the numbers of rows, which come without augmentation."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(self.logits[batch.index], {})


class Material(NamedTuple):
    """The teacher's rows, those that students ask about, and those that nobody is trained on."""

    rows: Data
    pool: Data
    held_out: Data
    classes: int
    channels: int


def sizes_of(o: argparse.Namespace) -> Sizes:
    sizes = SIZES["quick" if o.quick else "full"]
    return sizes if o.images is None else sizes._replace(data=o.images)


def settings(o: argparse.Namespace) -> dict[str, Any]:
    return sizes_of(o)._asdict()


@lru_cache(maxsize=1)
def material(sizes: Sizes, folder: Path | None) -> Material:
    found = load_dataset(sizes.data, folder=folder, validation=0.0, augment="none")
    order = torch.randperm(len(found.train), generator=generator(0, "privilege", "rows"))
    needed = sizes.teacher_rows + sizes.pool
    if len(order) < needed or len(found.test) < sizes.held_out:
        raise SystemExit(
            f"expected {needed} images to train on and {sizes.held_out} to test on; {sizes.data} "
            f"has {len(order)} and {len(found.test)}. Choose another --images."
        )
    apart = torch.randperm(len(found.test), generator=generator(0, "privilege", "held out"))
    return Material(
        found.train.subset(order[: sizes.teacher_rows]),
        found.train.subset(order[sizes.teacher_rows : needed]),
        found.test.subset(apart[: sizes.held_out].sort().values),
        found.classes,
        found.channels,
    )


def built(size: tuple[int, int], given: Material, data: str, *seed: int | str) -> Network:
    torch.manual_seed(derive_seed(*seed))
    return network(
        "small_cnn",
        width=size[0],
        depth=size[1],
        num_classes=given.classes,
        channels=given.channels,
        normalisation=data.replace("-", "_"),
    )


def prepare(o: argparse.Namespace) -> dict[str, Any]:
    """Train the teacher and ask it about all images, unless that was done; tell what it is like."""
    sizes = sizes_of(o)
    given, path = material(sizes, o.image_folder), o.out / "images-answers.pt"
    if not path.exists():
        model = built(sizes.teacher, given, sizes.data, "teacher")
        distill(
            model, None, given.rows, out=o.out / "images-teacher", resume=True,
            epochs=sizes.teacher_epochs, batch_size=64, **FIXED,
        )  # fmt: skip
        said = [outputs_over(model, rows)[0].logits for rows in (given.pool, given.held_out)]
        part = path.with_suffix(".part")
        torch.save(said, part)
        part.replace(path)
    logits = answers(path)[1]
    log_rows = logits.double().log_softmax(1)
    entropies = -(log_rows.exp() * log_rows).sum(1)
    truth = targets_of(given.held_out)
    return {
        "labels": given.classes,
        "teacher_entropy_nats": entropies.mean().item(),
        "teacher_accuracy": (logits.argmax(1) == truth).double().mean().item(),
        "settings": settings(o),
    }


@lru_cache(maxsize=1)
def answers(path: Path) -> tuple[Tensor, Tensor]:
    """Return the teacher's logits of the images that may be asked about, and of those held out."""
    pool, held_out = torch.load(path)
    return pool, held_out


def targets_of(rows: Data) -> Tensor:
    found = [batch.targets for batch in rows.batches(rows.in_order(1000))]
    return torch.cat([one for one in found if one is not None])


def run(privilege: str, budget: int, seed: int, o: argparse.Namespace) -> dict[str, Any]:
    """Train one student on one budget; its distances to the teacher are on held-out images."""
    sizes = sizes_of(o)
    given = material(sizes, o.image_folder)
    pool, theirs = answers(o.out / "images-answers.pt")
    order = torch.randperm(len(pool), generator=generator(seed, "privilege", "queries", budget))
    asked = order[:budget]
    student = built(sizes.student, given, sizes.data, "student", seed)
    batch = min(sizes.batch, budget)
    distill(
        student,
        Said(pool[asked]),
        given.pool.subset(asked),
        loss=LOSSES[privilege](derive_seed(seed, "labels", budget) % 2**31),
        weight=1.0,  # the true labels are not used
        seed=seed,
        batch_size=batch,
        epochs=max(1, sizes.steps * batch // budget),
        force=True,  # a teacher without a network cannot be checked in every way
        **FIXED,
    )
    mine = outputs_over(student, given.held_out)[0].logits
    assert mine is not None
    right = mine.argmax(1) == targets_of(given.held_out)
    return {**distances(mine, theirs), TASK_METRIC: right.double().mean().item()}


def distances(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Return mean total variation and KL(teacher, student) [nats] of rows of logits."""
    log_s, log_t = (logits.double().log_softmax(-1) for logits in (student, teacher))
    variation = 0.5 * (log_s.exp() - log_t.exp()).abs().sum(-1)
    divergence = (log_t.exp() * (log_t - log_s)).sum(-1)
    return {"total_variation": variation.mean().item(), "kl_nats": divergence.mean().item()}
