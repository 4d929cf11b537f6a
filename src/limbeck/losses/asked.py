"""What the losses on labels that a teacher drew have in common: whose labels, and their mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.losses.answers import check_rows, refused
from limbeck.losses.features import logits_of, logits_of_student
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.ranks import share_of_batch
from limbeck.types import Answers, Batch, Outputs


class Drawn(NamedTuple):
    """Drawn labels as the losses take them.

    Attributes:
        labels: Classes; -1 is an absent one.
        log_probabilities: Their log t [nats]; NaN where the teacher gave text only.
        weights: A label's share of its sample's draws, so that every sample counts alike.
    """

    labels: Int[Tensor, "batch kept"]
    log_probabilities: Float[Tensor, "batch kept"]
    weights: Float[Tensor, "batch kept"]


class AskedLoss(nn.Module):
    """A loss on labels that the teacher drew: those of its answers, else drawn from its logits.

    Answers were asked for before: how a live teacher is asked has no say in them. A sample counts
    alike with one label and with many, and not at all without any.

    Args:
        draws: Labels a sample, of a live teacher; of answers all are used.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    needs_numbers: bool = True  # the labels' log-probabilities

    def __init__(self, *, draws: int = 1, seed: int = 0, redraw: bool = False) -> None:
        super().__init__()
        self.drawn = TeacherDraws(type(self).__name__, draws=draws, seed=seed, redraw=redraw)

    def asked(
        self, student: Outputs, teacher: Outputs, batch: Batch
    ) -> tuple[Float[Tensor, "batch classes"], Answers]:
        """Return the student's logits, and labels that the teacher drew.

        Raises:
            ArgumentError: If what the teacher gave is not what this loss learns from.
            ShapeError: If it is not one row a sample.
        """
        where, given = self.drawn.where, teacher.answers
        if given is None:
            mine, theirs = logits_of(where, student, teacher)
            labels, numbers = self.drawn(theirs, batch)
            return mine, Answers(labels, numbers, torch.ones_like(labels))
        numbers = " with their log-probabilities" if self.needs_numbers else ""
        if not given.drawn or (self.needs_numbers and given.log_probabilities is None):
            raise refused(where, f"labels that the teacher drew{numbers}", given)
        check_rows(where, given, batch)
        return logits_of_student(where, student), given


class MeanOfDrawn(AskedLoss, ABC):
    """A loss that is a mean over drawn labels; a subclass says of what."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the samples; targets are not used."""
        mine, answers = self.asked(student, teacher, batch)
        drawn = shares_of(answers, mine)
        return share_of_batch(self.value(mine, drawn), (drawn.weights > 0).any(dim=1).sum())

    @abstractmethod
    def value(self, logits: Float[Tensor, "batch classes"], drawn: Drawn) -> Float[Tensor, ""]:
        """Return the mean over the samples that have labels, by the student's logits."""


def shares_of(answers: Answers, logits: Float[Tensor, "batch classes"]) -> Drawn:
    """Return drawn labels with their shares of their sample's draws, in float32 at least.

    Example:
        >>> twice = Answers(torch.tensor([[7, 2, -1]]), counts=torch.tensor([[1, 3, 1]]))
        >>> shares_of(twice, torch.zeros(1, 9)).weights
        tensor([[0.2500, 0.7500, 0.0000]])
    """
    assert answers.counts is not None  # drawn
    kind = torch.promote_types(logits.dtype, torch.float32)
    counts = answers.counts.to(kind).masked_fill(answers.labels < 0, 0.0)
    weights = counts / counts.sum(dim=1, keepdim=True).clamp_min(1.0)
    numbers = answers.log_probabilities
    if numbers is None:
        numbers = torch.full_like(weights, torch.nan)
    return Drawn(answers.labels, numbers, weights)
