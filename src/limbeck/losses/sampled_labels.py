"""Cross-entropy on labels that a teacher drew: distillation from text alone."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses.features import logits_of
from limbeck.losses.sampled import log_probabilities_of, mean_of_draws
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


class SampledLabels(nn.Module):
    """Cross-entropy with labels drawn from a live teacher: the privilege of hard labels.

    It is :func:`limbeck.cross_entropy`, averaged over the draws. What the student sees of the
    teacher is the labels and nothing else. The gradient is an unbiased estimate of that of
    KL(teacher, student), with a noise that never dies out.

    Args:
        draws: Labels a sample.
        seed: Of the labels.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, draws: int = 1, seed: int = 0, redraw: bool = False) -> None:
        super().__init__()
        self.drawn = TeacherDraws("SampledLabels", draws=draws, seed=seed, redraw=redraw)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        mine, theirs = logits_of("SampledLabels", student, teacher)
        labels, _ = self.drawn(theirs, batch)
        value = mean_of_draws(-log_probabilities_of(mine, labels), labels)
        return share_of_batch(value, mine.shape[0])
