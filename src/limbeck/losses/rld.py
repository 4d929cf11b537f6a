"""Refined logit distillation (RLD): the teacher's mistakes are not handed on."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.checks import check_between, check_positive
from limbeck.losses.divergence import (
    binary_divergence_rows,
    check_labelled,
    divergence_rows,
    log_odds,
    mean_over_labelled,
    number_labelled,
    targets_of,
)
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def rld_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"],
    *,
    temperature: float = 4.0,
    confidence_weight: float = 1.0,
    correlation_weight: float = 8.0,
) -> Float[Tensor, ""]:
    r"""Be as sure of the label as the teacher is of its guess, and rank what it puts below it.

    .. math:: \alpha\, \mathrm{KL}(b^T \,\|\, b^S)
              + \beta\, \tau^2\, \mathrm{KL}(\tilde p^T \,\|\, \tilde p^S)

    with :math:`b^T = (\max_k p^T_k, 1 - \max_k p^T_k)` and :math:`b^S = (p^S_y, 1 - p^S_y)` at
    temperature 1, and :math:`\tilde p` the softmax of :math:`z / \tau` over the classes that the
    teacher puts below the label: :math:`z^T_k < z^T_y`. Where the teacher prefers another class to
    the label, the student is not told of it.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        targets: Class indices; rows with a negative one are unlabelled and left out.
        temperature: Softening in the second term, above zero.
        confidence_weight: Weight alpha of the first term, at least zero.
        correlation_weight: Weight beta of the second term, at least zero.

    Returns:
        The mean over the labelled rows [nats, the second term times temperature squared], at least
        zero, and zero with a zero gradient when no row has a label. The second term is zero where
        the teacher puts the label last.

    Raises:
        ShapeError: If logits and targets do not fit, or there is a single class.
        ArgumentError: If the temperature is not above zero, or a weight is negative.

    Example:
        The teacher is wrong with probability 4/5, so the student should give the label as much;
        it gives 1/2: ln 2 less the entropy, 0.6931 - 0.5004. No class is below the label.

        >>> import torch
        >>> teacher = torch.tensor([[1.0, 4.0]]).log()
        >>> rld_loss(torch.zeros(1, 2), teacher, torch.tensor([0]))
        tensor(0.1927)

    Source:
        Sun, Chen, Lyu, Chen, Chen and Wang (2025), arXiv:2408.07703; weights as in zju-SWJ/RLD,
        which also warms the term up over 20 epochs, and masks with a large finite number.
    """
    check_labelled("rld_loss", student_logits, teacher_logits, targets)
    _check_hyperparameters("rld_loss", temperature, confidence_weight, correlation_weight)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    labels = targets.clamp_min(0).long()
    confidence = binary_divergence_rows(
        log_odds(student, labels), log_odds(teacher, teacher.argmax(dim=1))
    )
    below = teacher < teacher.gather(1, labels[:, None])
    correlation = divergence_rows(student / temperature, teacher / temperature, below)
    rows = confidence_weight * confidence + correlation_weight * temperature**2 * correlation
    return mean_over_labelled(rows, targets)


class RLD(nn.Module):
    """:func:`rld_loss` as a training term: no parameters, no features, labels from the batch."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = False  # a mean over the labelled ones

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        confidence_weight: float = 1.0,
        correlation_weight: float = 8.0,
    ) -> None:
        super().__init__()
        _check_hyperparameters("RLD", temperature, confidence_weight, correlation_weight)
        self.temperature = temperature
        self.confidence_weight, self.correlation_weight = confidence_weight, correlation_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the labelled rows."""
        mine, theirs = logits_of("RLD", student, teacher)
        targets = targets_of("RLD", batch)
        value = rld_loss(
            mine,
            theirs,
            targets,
            temperature=self.temperature,
            confidence_weight=self.confidence_weight,
            correlation_weight=self.correlation_weight,
        )
        return share_of_batch(value, number_labelled(targets, value))


def _check_hyperparameters(
    where: str, temperature: float, confidence_weight: float, correlation_weight: float
) -> None:
    check_positive(where, temperature=temperature)
    check_between(
        where,
        0.0,
        float("inf"),
        confidence_weight=confidence_weight,
        correlation_weight=correlation_weight,
    )
