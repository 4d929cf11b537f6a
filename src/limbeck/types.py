"""What travels between a model, a loss and the loop: three records and three protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Answers:
    """What a teacher said of some labels only: those that it drew, or its most likely ones.

    ``counts`` tells the two apart. Where it is given the labels were drawn from the teacher, one
    that was drawn once with a count of 1; where it is None they are the teacher's most likely
    labels, largest first, of which nothing was left to chance. Drawn labels may stand one draw a
    column (every count 1), or each label once with the number of its draws. Token tasks have a
    further axis: [batch, tokens, kept].

    Attributes:
        labels: Classes, int64 [batch, kept]; -1 is an absent one.
        log_probabilities: Their log t [nats], at most 0, float [batch, kept], t being what drawn
            labels were drawn from; None where the teacher gave text only.
        counts: How often each label was drawn, int64 [batch, kept]; None: the most likely labels.
    """

    labels: Tensor
    log_probabilities: Tensor | None = None
    counts: Tensor | None = None

    @property
    def drawn(self) -> bool:
        """Whether the labels were drawn; else they are the most likely ones."""
        return self.counts is not None

    def map(self, function: Callable[[Tensor], Tensor]) -> Answers:
        """Return answers of what a function makes of each tensor."""
        return Answers(
            function(self.labels),
            None if self.log_probabilities is None else function(self.log_probabilities),
            None if self.counts is None else function(self.counts),
        )


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model said about a batch.

    Attributes:
        logits: The model's output, one row a sample: class scores for a classifier, predictions
            for a regression, vectors for an embedding; None where only features were kept.
        features: Outputs of the named layers, by dotted name.
        answers: Some labels, where a teacher gave or a store kept no whole rows. Losses on labels
            take these where they are there, also beside logits.
    """

    logits: Tensor | None
    features: dict[str, Tensor] = field(default_factory=dict)
    answers: Answers | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Outputs:
        """Return outputs of what a function makes of each tensor."""
        return Outputs(
            None if self.logits is None else function(self.logits),
            {name: function(value) for name, value in self.features.items()},
            None if self.answers is None else self.answers.map(function),
        )


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
    """Anything that gives outputs without gradient: a live model, a store, a remote.

    Optional: ``on(data)`` returns the teacher for the rows of a :class:`limbeck.Data`, or refuses
    them; it is asked before batches of other data come, whose positions mean other rows.
    """

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
