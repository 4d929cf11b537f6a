"""What the demo works on: its settings, the students' images, networks before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limbeck.data import Arrays, Data
from limbeck.randomness import generator
from limbeck.report.reading import TEACHER
from limbeck.training.building import build
from limbeck.zoo.data import DataSet
from limbeck.zoo.data.splits import hide_labels


CONTROL = "control"


@dataclass(frozen=True)
class Plan:
    """What the demo does; every choice was made on validation images, with other seeds.

    ``benchmarks/demo_search.py`` repeats the search: every network has the learning rate, and every
    student the rows, that serve it best.

    Attributes:
        labels: How many of the students' images have labels.
        teacher: Width and depth of the teacher, a ``small_cnn``.
        student: Width and depth of the students.
        teacher_epochs: Epochs of the teacher.
        epochs: Epochs of every student.
        query_epochs: Of students that learn from all answers to queries.
        batch_size: Rows of a step.
        learning_rates: Of every network by name.
    """

    labels: int = 50
    teacher: tuple[int, int] = (24, 3)
    student: tuple[int, int] = (8, 2)
    teacher_epochs: int = 20
    epochs: int = 20
    query_epochs: int = 8
    batch_size: int = 32
    learning_rates: Mapping[str, float] = field(
        default_factory=lambda: {
            TEACHER: 0.05,
            CONTROL: 0.8,
            "label-smoothing": 1.6,
            "kd": 0.4,
            "itrd": 0.2,
        }
    )


def student_rows(digits: DataSet, positions: Tensor, labels: int, seed: int) -> Data:
    """Return the students' images: all of them, then the labelled ones again.

    Which images are labelled depends on the seed. They are repeated so often that about half of
    all rows are labelled; every repetition is augmented by itself.
    """
    source = arrays_of(digits)
    targets = hide_labels(source.targets[positions], labels, seed)
    labelled = (targets >= 0).nonzero()[:, 0]
    missing = max(len(positions) - 2 * len(labelled), 0)
    again = labelled.repeat(-(-missing // len(labelled)))[:missing]
    rows = torch.cat([torch.arange(len(positions)), again])
    return Data(
        (source.inputs[positions][rows], targets[rows]),
        augment=digits.train.augment,
        class_names=digits.class_names,
        name="the students' images",
    )


def student_images(digits: DataSet, positions: Tensor) -> Data:
    """Return the students' images as they are, in an order that depends on nothing."""
    source = arrays_of(digits)
    order = torch.randperm(len(positions), generator=generator(0, "order of queries"))
    return Data((source.inputs[positions][order], source.targets[positions][order]))


def labelled_alone(rows: Data) -> Data:
    """Return as many rows as these, but the labelled ones alone, again and again."""
    assert rows.targets is not None  # student_rows gives targets
    labelled = (rows.targets >= 0).nonzero()[:, 0]
    return rows.subset(labelled.repeat(-(-len(rows) // len(labelled)))[: len(rows)])


def network(digits: DataSet, name: str, seed: int, plan: Plan) -> nn.Module:
    """Return a network as it is before training: the teacher's, or a student's."""
    width, depth = plan.teacher if name == TEACHER else plan.student
    return build(
        "zoo:small_cnn",
        seed=seed,
        width=width,
        depth=depth,
        num_classes=digits.classes,
        channels=digits.channels,
    )


class Images:
    """Images and targets of a data set that is held in memory."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets


def arrays_of(digits: DataSet) -> Images:
    """Return the training images and their targets."""
    source = digits.train.source
    assert isinstance(source, Arrays)  # digits are small
    assert isinstance(source.inputs, Tensor)
    assert source.targets is not None
    return Images(source.inputs, source.targets)
