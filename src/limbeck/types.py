"""What travels between a model, a loss and the loop: two records and three protocols."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model said about a batch.

    Attributes:
        logits: The model's output, one row a sample: class scores for a classifier, predictions
            for a regression, vectors for an embedding; None where only features were kept.
        features: Outputs of the named layers, by dotted name.
    """

    logits: Tensor | None
    features: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a data set, on one device.

    Attributes:
        inputs: A tensor, or a dict of tensors (token ids and masks), one row a sample.
        targets: The task's targets; None when there are none, -1 for a single unlabelled row
            (NaN where targets are real numbers).
        index: Position of each row in its data set, int64 [batch].
        view: Which seeded augmentation of the row this is, int64 [batch].
        weights: Weight of each row in the task term, float [batch]; None means 1.
    """

    inputs: Tensor | dict[str, Tensor]
    targets: Tensor | None
    index: Tensor
    view: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.index.shape[0]


@runtime_checkable
class Loss(Protocol):
    """A distillation term: a module that owns its parameters and returns a scalar [nats].

    Optional attributes that the loop reads: ``layers`` (a dict with the layer names that it needs
    of ``"student"`` and ``"teacher"``), ``needs_logits`` (compares class scores), ``tasks`` (names
    of the tasks it is meant for; absent means all), ``published_weights`` (task, distillation) and
    ``prepare(student, teacher, batch)``, called once with a first batch before training; before it
    ``attach(student, teacher)`` with both networks, the teacher None where it is no module.

    ``begin_epoch(epoch, epochs)`` is called when an epoch, counted from 0, begins. Of a loss that
    alternates it says whether the epoch is an auxiliary one: then the student rests and
    ``auxiliary_loss(student, teacher, batch)`` is lowered over ``auxiliary_parameters()``, which
    take no gradient in the other epochs unless they are among ``main_parameters()`` too.
    """

    def __call__(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Return this batch's loss [nats]."""
        ...


@runtime_checkable
class Teacher(Protocol):
    """Anything that gives outputs without gradient: a live model, a store, a remote."""

    def __call__(self, batch: Batch) -> Outputs:
        """Return the teacher's outputs for the rows of ``batch``."""
        ...


@runtime_checkable
class Task(Protocol):
    """What the student is for: a loss on targets and the numbers that say how good it is.

    Optional attributes that the loop reads: ``name``, ``selection`` (the metric that chooses the
    best epoch and "max" or "min"; absent means the first metric and "max").
    """

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the mean over labelled rows [nats, or the task's own unit]."""
        ...

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Return the metrics of a whole evaluation set, given as one batch on the CPU."""
        ...
