"""The teacher's top k with their numbers, and drawn labels for what lies below (censored)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from limbeck.losses.answers import refused
from limbeck.losses.asked import AskedLoss
from limbeck.losses.features import logits_of
from limbeck.losses.sampled import check_sampled, log_probabilities_of
from limbeck.losses.teacher_draws import check_count
from limbeck.losses.top_k import KeptLabels, top_k_rows, top_of
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def censored_loss(
    student_logits: Float[Tensor, "batch classes"],
    top_labels: Int[Tensor, "batch kept"],
    top_log_probabilities: Float[Tensor, "batch kept"],
    labels: Int[Tensor, "*draws"],
) -> Float[Tensor, ""]:
    r"""Match the k most likely labels exactly and the tail below them by the labels drawn there.

    .. math:: L_\text{bucket} - \mathbb{1}\{a \notin K\} \log \frac{p(a)}{1 - p_K}, \qquad a \sim t

    For services that give the numbers of the top k only: the bucket is
    :func:`~limbeck.losses.top_k_loss`, and a label that was drawn outside of K is a hard label of
    the tail's own distribution. By the chain rule of KL the mean gradient is that of KL(t, p), and
    only the tail is noisy.

    Args:
        student_logits: The student's logits; gradients flow into these.
        top_labels: The labels K with a number, distinct by row; -1 is an absent one.
        top_log_probabilities: Their log t [nats, at most 0], not renormalised; detached here.
        labels: Labels drawn from the whole of t, inside or outside of K, one or several a row,
            over which the second term is averaged; -1 is an absent one.

    Returns:
        The mean over the rows that have a number or a drawn label [nats], at least zero. It has no
        fixed zero: its mean over draws is KL(t, p) plus the tail's entropy, times its mass.

    Raises:
        ShapeError: If logits, labels and numbers do not fit each other.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        The bucket alone has 0.1438 (see ``top_k_loss``); the label drawn outside of K has a third
        of the student's tail: ln 3 more.

        >>> import torch
        >>> top, half = torch.tensor([[0]]), torch.tensor([[0.5]]).log()
        >>> censored_loss(torch.zeros(1, 4), top, half, torch.tensor([0]))
        tensor(0.1438)
        >>> censored_loss(torch.zeros(1, 4), top, half, torch.tensor([2]))
        tensor(1.2425)

    Source:
        Derived: the chain rule of KL for services whose numbers end at the top k.
    """
    check_sampled("censored_loss", student_logits, top_labels, top_log_probabilities)
    check_sampled("censored_loss", student_logits, labels)
    kept = KeptLabels.of(student_logits, top_labels)
    drawn = labels.reshape(labels.shape[0], -1) if labels.ndim > 1 else labels[:, None]
    student = log_probabilities_of(student_logits, drawn)
    rows = censored_rows(kept, top_labels, top_log_probabilities, drawn, student)
    known = kept.kept.any(dim=1) | (drawn >= 0).any(dim=1)
    return rows.sum() / known.sum().clamp_min(1)


def censored_rows(
    kept: KeptLabels,
    top_labels: Int[Tensor, "batch kept"],
    top_log_probabilities: Float[Tensor, "batch kept"],
    drawn: Int[Tensor, "batch draws"],
    student: Float[Tensor, "batch draws"],
) -> Float[Tensor, " batch"]:
    """Return every row's loss; ``student`` are the student's log-probabilities of the labels."""
    bucket = top_k_rows(kept, top_log_probabilities, "bucket")
    present = drawn >= 0
    below = present & ~(drawn[:, :, None] == top_labels[:, None, :]).any(dim=2)
    terms = (kept.outside[:, None] - student).masked_fill(~below, 0.0)
    return bucket + terms.sum(dim=1) / present.sum(dim=1).clamp_min(1)


class Censored(AskedLoss):
    """:func:`censored_loss` as a training term, on a live teacher's top k and labels it drew.

    It needs both of a sample; a teacher's answers hold one of them and are refused.

    Args:
        k: How many labels have a number, at least 1; all classes where there are fewer.
        draws: Labels drawn for a sample.
        seed: Of the labels.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    def __init__(self, *, k: int = 20, draws: int = 1, seed: int = 0, redraw: bool = False) -> None:
        super().__init__(draws=draws, seed=seed, redraw=redraw)
        check_count("Censored", "k", k)
        self.k = k

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        if teacher.answers is not None:
            raise refused("Censored", "logits, or else both top and drawn labels", teacher.answers)
        mine, theirs = logits_of("Censored", student, teacher)
        labels, _ = self.drawn(theirs, batch)
        value = censored_loss(mine, *top_of(theirs, self.k), labels)
        return share_of_batch(value, mine.shape[0])
