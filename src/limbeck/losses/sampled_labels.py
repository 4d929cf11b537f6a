"""Cross-entropy on labels that a teacher drew: distillation from text alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.answers import is_hard
from limbeck.losses.asked import Drawn, MeanOfDrawn
from limbeck.losses.sampled import check_sampled, log_probabilities_of, mean_of_draws
from limbeck.types import Answers, Batch, Outputs


class SampledLabels(MeanOfDrawn):
    """Cross-entropy with labels that the teacher drew: the privilege of hard labels.

    It is :func:`limbeck.cross_entropy`, averaged over the draws. What the student sees of the
    teacher is the labels and nothing else. The gradient is an unbiased estimate of that of
    KL(teacher, student), with a noise that never dies out.

    A teacher whose answers are its one most likely label, without a number, is taken at its word:
    the student then learns that label and not the teacher's distribution.

    Args:
        draws: Labels a sample, of a live teacher; of answers all are used.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    needs_numbers = False

    def asked(
        self, student: Outputs, teacher: Outputs, batch: Batch
    ) -> tuple[Float[Tensor, "batch classes"], Answers]:
        """Return the student's logits and labels; one that is certain was drawn once."""
        given = teacher.answers
        if given is not None and is_hard(given):
            teacher = replace(teacher, answers=replace(given, counts=torch.ones_like(given.labels)))
        return super().asked(student, teacher, batch)

    def value(self, logits: Float[Tensor, "batch classes"], drawn: Drawn) -> Float[Tensor, ""]:
        """Return the mean over the samples that have labels, by the student's logits."""
        check_sampled("SampledLabels", logits, drawn.labels)
        return mean_of_draws(
            -log_probabilities_of(logits, drawn.labels), drawn.labels, drawn.weights
        )
