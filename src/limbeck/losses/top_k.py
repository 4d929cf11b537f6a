"""Distillation from the teacher's k most likely labels, with the rest as one outcome."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import check_choice
from limbeck.losses.answers import check_rows, refused
from limbeck.losses.features import logits_of, logits_of_student
from limbeck.losses.numerics import at_least_float32
from limbeck.losses.sampled import check_sampled
from limbeck.losses.teacher_draws import check_count
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


Tail = Literal["bucket", "renormalised", "raw"]
TAILS = ("bucket", "renormalised", "raw")


def top_k_loss(
    student_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch kept"],
    log_probabilities: Float[Tensor, "batch kept"],
    *,
    tail: Tail = "bucket",
) -> Float[Tensor, ""]:
    r"""Match the student to the teacher's most likely labels K and to the mass of all others.

    .. math:: \sum_{a \in K} t(a) \log \frac{t(a)}{p(a)} + (1 - t_K) \log \frac{1 - t_K}{1 - p_K},
              \qquad t_K = \sum_{a \in K} t(a)

    That is KL between the two distributions over the labels of K and one bucket for the tail: a
    lower bound of KL(t, p), exact on K, with the tail's mass right and its split left to the
    student. :func:`~limbeck.losses.censored_loss` teaches the split too, from drawn labels.

    The other two tails are in use elsewhere and here to be compared with. Both are **biased**:
    their optimum has nothing outside of K, so that the student ends at a total variation of
    :math:`1 - t_K` from the teacher. "renormalised" is KL(t / t_K on K, p), "raw" the first sum
    alone.

    Args:
        student_logits: The student's logits; gradients flow into these.
        labels: The kept labels of every row, all distinct; -1 is an absent one. A row without any
            counts nowhere.
        log_probabilities: Their log t [nats, at most 0], not renormalised; detached here.
        tail: "bucket", "renormalised" or "raw".

    Returns:
        The mean over the rows that have labels [nats]: at least zero with "bucket", zero when the
        student has the kept probabilities; at least zero with "renormalised"; of either sign with
        "raw". Zero where there is no label.

    Raises:
        ShapeError: If logits, labels and numbers do not fit each other.
        ArgumentError: If ``tail`` is none of the three.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        1/2 is known of the first of four labels, of which the student gives 1/4 each:
        0.5 ln 2 + 0.5 ln(0.5 / 0.75).

        >>> top_k_loss(torch.zeros(1, 4), torch.tensor([[0]]), torch.tensor([[0.5]]).log())
        tensor(0.1438)

    Note:
        The student's tail mass is summed in log-space and not one minus the rest. Where K is all
        classes there is no tail, and reported masses below 1 are rounding.

    Source:
        The bucket is a folk method (``add_tail_bucket`` in huggingface/trl); gradients and biases
        derived.
    """
    check_sampled("top_k_loss", student_logits, labels, log_probabilities)
    check_choice("top_k_loss", "tail", tail, TAILS)
    student = KeptLabels.of(student_logits, labels)
    rows = top_k_rows(student, log_probabilities, tail)
    return rows.sum() / (student.kept.any(dim=1)).sum().clamp_min(1)


class KeptLabels:
    """A student's log-probabilities of some labels of every row, and of all the others together.

    Attributes:
        kept: Which labels are present.
        inside: Log-probability of each; 0 for an absent one.
        outside: Log-probability of all other classes together; 0 where there are none.
        has_tail: Whether there are other classes.
    """

    __slots__ = ("has_tail", "inside", "kept", "outside")

    def __init__(
        self,
        kept: Tensor,
        inside: Float[Tensor, "batch kept"],
        outside: Float[Tensor, " batch"],
        has_tail: Tensor,
    ) -> None:
        self.kept, self.has_tail = kept, has_tail
        self.inside = inside.masked_fill(~kept, 0.0)
        self.outside = outside.masked_fill(~has_tail, 0.0)

    @classmethod
    def of(
        cls, student_logits: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch kept"]
    ) -> KeptLabels:
        """Take them from whole rows of logits."""
        (logits,) = at_least_float32(student_logits)
        logarithms = F.log_softmax(logits, dim=1)
        kept = labels >= 0
        taken = kept_classes(labels, logits.shape[1])
        has_tail = ~taken.all(dim=1)
        outside = logarithms.masked_fill(taken, -math.inf).logsumexp(dim=1)
        return cls(kept, logarithms.gather(1, labels.clamp_min(0).long()), outside, has_tail)


def kept_classes(labels: Int[Tensor, "batch kept"], classes: int) -> Tensor:
    """Return which classes are among the labels of every row, as bool [batch, classes].

    Example:
        >>> kept_classes(torch.tensor([[2, -1]]), 3)
        tensor([[False, False,  True]])
    """
    spare = torch.where(labels < 0, classes, labels).long()  # a column for the absent ones
    marked = torch.zeros(labels.shape[0], classes + 1, dtype=torch.bool, device=labels.device)
    return marked.scatter(1, spare, True)[:, :classes]


def top_k_rows(
    student: KeptLabels, log_probabilities: Float[Tensor, "batch kept"], tail: Tail
) -> Float[Tensor, " batch"]:
    """Return every row's loss; zero where a row has no label."""
    kept = student.kept
    log_t = log_probabilities.detach().to(student.inside.dtype).masked_fill(~kept, -math.inf)
    if tail == "renormalised":
        # A row of -inf alone would give NaN.
        log_t = torch.where(kept.any(dim=1, keepdim=True), log_t, 0.0)
        log_t = F.log_softmax(log_t, dim=1)
    mass = log_t.exp().masked_fill(~kept, 0.0)
    head = (mass * (log_t.masked_fill(~kept, 0.0) - student.inside)).sum(dim=1)
    if tail != "bucket":
        return head
    rest = tail_mass(mass, student)
    return head + torch.xlogy(rest, rest) - rest * student.outside


def tail_mass(mass: Float[Tensor, "batch kept"], student: KeptLabels) -> Float[Tensor, " batch"]:
    """Return the teacher's mass outside of the kept labels; zero where there is no such class."""
    rest = (1.0 - mass.sum(dim=1)).clamp_min(0.0)
    return rest.masked_fill(~student.has_tail | ~student.kept.any(dim=1), 0.0)


def top_of(
    teacher_logits: Float[Tensor, "batch classes"], k: int
) -> tuple[Int64[Tensor, "batch kept"], Float[Tensor, "batch kept"]]:
    """Return the k most likely labels and their log-probabilities; all, where there are fewer."""
    (logits,) = at_least_float32(teacher_logits.detach())
    found = F.log_softmax(logits, dim=1).topk(min(k, logits.shape[1]), dim=1)
    return found.indices, found.values


class TopK(nn.Module):
    """:func:`top_k_loss` as a training term, on the k largest of what the teacher gave.

    Args:
        k: How many labels are kept, at least 1; all that there are where these are fewer.
        tail: As in the function.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, k: int = 20, tail: Tail = "bucket") -> None:
        super().__init__()
        check_count("TopK", "k", k)
        check_choice("TopK", "tail", tail, TAILS)
        self.k = k
        self.tail: Tail = tail

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        mine, labels, numbers = self._kept(student, teacher, batch)
        value = top_k_loss(mine, labels, numbers, tail=self.tail)
        return share_of_batch(value, (labels >= 0).any(dim=1).sum())

    def _kept(
        self, student: Outputs, teacher: Outputs, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the student's logits, and the teacher's k most likely labels with their log t."""
        given = teacher.answers
        if given is None:
            mine, theirs = logits_of("TopK", student, teacher)
            return mine, *top_of(theirs, self.k)
        numbers = given.log_probabilities
        if given.drawn or numbers is None:
            raise refused("TopK", "the teacher's most likely labels with log-probabilities", given)
        check_rows("TopK", given, batch)
        mine = logits_of_student("TopK", student)
        return mine, given.labels[:, : self.k], numbers[:, : self.k]
