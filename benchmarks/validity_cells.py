"""The cells of predictive_validity.py: data sets, teachers of many kinds, students, budgets."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import limbeck
from limbeck.data import Data
from limbeck.forecasting.short_runs import Budget
from limbeck.randomness import derive_seed, generator
from limbeck.zoo.data import load_dataset
from limbeck.zoo.networks import network


class Places(NamedTuple):
    """The folder of CIFAR-10 and MNIST, and where teachers and runs are kept."""

    data: Path
    out: Path


class Sizes(NamedTuple):
    """Rows of one data set: the good teachers', the students', held out, few labels; epochs."""

    teacher: int
    student: int
    validation: int
    test: int
    few: int
    teacher_epochs: int
    epochs: int


class Kind(NamedTuple):
    """A kind of teacher: its network, its training, and what teacher and student see."""

    width: int = 24
    epochs: float = 1.0  # of the data set's teacher epochs
    noise: float = 0.0  # share of labels drawn by lot
    rows: float = 1.0  # of the teacher's rows
    half: bool = False  # only rows of the first half of the classes
    sees: str = "all"
    student_sees: str = "all"
    decay: float = 5e-4


SETS = {
    "digits": Sizes(500, 360, 300, 539, 40, 30, 80),
    "fashion-mnist": Sizes(10_000, 1200, 1000, 4000, 80, 8, 30),
    "mnist": Sizes(8000, 1200, 1000, 4000, 60, 8, 30),
    "cifar10": Sizes(8000, 1200, 1000, 4000, 100, 8, 30),
}
IN_GRID = ("digits", "fashion-mnist", "cifar10")
KINDS = {
    "good": Kind(),
    "small": Kind(width=5),
    "under-trained": Kind(rows=0.3, epochs=0.1),
    "over-trained": Kind(rows=0.04, epochs=12.0, decay=0.0),
    "noisy labels": Kind(noise=0.5),
    "untrained": Kind(epochs=0.0),
    "other classes": Kind(half=True),
    "other crop": Kind(sees="top", student_sees="bottom"),
    "other features": Kind(sees="spectrum", student_sees="coarse"),
}
STUDENTS = {"small": 4, "medium": 10}  # width; depth 2 and 3
BUDGETS = ("all labels", "few labels")
BATCH, RATE = 50, 0.05
# `force`: teachers that know nothing are wanted here
FIXED = {"schedule": "cosine", "progress": False, "device": "cpu", "force": True}


class Cell(NamedTuple):
    """One place of the grid."""

    data: str
    teacher: str
    student: str
    budget: str

    @property
    def view(self) -> str:
        """What of the input the student sees."""
        return KINDS[self.teacher].student_sees


CELLS = [
    Cell(data, teacher, student, budget)
    for data in IN_GRID
    for teacher in KINDS
    for student in STUDENTS
    for budget in BUDGETS
]


class Seeing(nn.Module):
    """A network that sees a part or another form of its input."""

    def __init__(self, inner: nn.Module, sees: str) -> None:
        super().__init__()
        self.inner, self.sees = inner, sees

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[2] // 2
        if self.sees == "top":
            images = images[:, :, :half]
        elif self.sees == "bottom":
            images = images[:, :, half:]
        elif self.sees == "coarse":
            images = nn.functional.avg_pool2d(images, 4 if half > 4 else 2)
        elif self.sees == "spectrum":
            images = torch.fft.rfft2(images, norm="ortho").abs().add(0.01).log().div(5.0)
        return self.inner(images)


def built(data: str, width: int, depth: int, sees: str, *seed: int | str) -> nn.Module:
    """Return a network with random weights."""
    torch.manual_seed(derive_seed(data, *seed))
    channels = 3 if data == "cifar10" else 1
    inner = network("small_cnn", num_classes=10, channels=channels, width=width, depth=depth)
    return Seeing(inner, sees)


class Material(NamedTuple):
    """One data set, cut: nobody shares rows with anybody."""

    teacher: Data
    student: Data
    validation: Data
    test: Data


@lru_cache(maxsize=4)
def material(places: Places, data: str) -> Material:
    """Return the parts of a data set."""
    sizes = SETS[data]
    folder = places.data / data if data in ("cifar10", "mnist") else None
    found = load_dataset(data, folder=folder, validation=0.0, augment="none")
    order = torch.randperm(len(found.train), generator=generator(0, "validity", data))
    ends = torch.tensor([0, sizes.teacher, sizes.student, sizes.validation]).cumsum(0).tolist()
    assert len(order) >= ends[-1], (data, len(order), ends)
    mine, students, held_out = (found.train.subset(order[a:b]) for a, b in pairwise(ends))
    test = torch.randperm(len(found.test), generator=generator(1, "validity", data))
    return Material(mine, students, held_out, found.test.subset(test[: sizes.test]))


def inputs_of(rows: Data) -> Tensor:
    """Return the images of all rows."""
    found = [batch.inputs for batch in rows.batches(rows.in_order(500))]
    return torch.cat([one for one in found if isinstance(one, Tensor)])


@lru_cache(maxsize=4)
def teacher_of(places: Places, data: str, kind: str) -> nn.Module:
    """Return a teacher; it is trained once and kept."""
    how, sizes = KINDS[kind], SETS[data]
    model = built(data, how.width, 3, how.sees, "teacher", kind)
    path = places.out / f"teacher {data} {kind}.pt"
    if how.epochs and not path.exists():
        rows = material(places, data).teacher
        assert rows.targets is not None
        targets = rows.targets.clone()
        source = generator(0, "noise", data)
        drawn = torch.randint(10, targets.shape, generator=source)
        wrong = torch.rand(len(targets), generator=source) < how.noise
        kept = (targets < 5) if how.half else torch.ones_like(targets, dtype=torch.bool)
        kept[int(how.rows * len(kept)) :] = False
        limbeck.distill(
            model, None, (inputs_of(rows)[kept], torch.where(wrong, drawn, targets)[kept]), seed=0,
            epochs=max(1, round(how.epochs * sizes.teacher_epochs)), batch_size=BATCH,
            learning_rate=RATE, weight_decay=how.decay, **FIXED,
        )  # fmt: skip
        part = path.with_suffix(".part")
        torch.save(model.state_dict(), part)
        part.replace(path)
    if how.epochs:
        model.load_state_dict(torch.load(path))
    return model.eval()


def student_of(cell: Cell, seed: int) -> nn.Module:
    """Return the student before any training."""
    depth = 2 if cell.student == "small" else 3
    return built(cell.data, STUDENTS[cell.student], depth, cell.view, "student", seed)


def budget_of(places: Places, cell: Cell, seed: int) -> Budget:
    """Return the training rows, with all labels or few, and the settings."""
    rows = material(places, cell.data).student
    assert rows.targets is not None
    targets = rows.targets.clone()
    if cell.budget == "few labels":
        few = SETS[cell.data].few
        order = torch.randperm(len(targets), generator=generator(0, "few", cell.data, few))
        targets[order[few:]] = -1
    settings: dict[str, Any] = FIXED | {
        "epochs": SETS[cell.data].epochs, "batch_size": BATCH, "learning_rate": RATE, "seed": seed,
    }  # fmt: skip
    return Budget.of(Data((inputs_of(rows), targets), name=f"{cell.data} rows"), targets, settings)
