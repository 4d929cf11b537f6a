"""Random sampling KD: a sparse row of counts in the place of the teacher's distribution."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.checks import ArgumentError, check_between
from limbeck.losses.asked import AskedLoss
from limbeck.losses.control_variate import control_variate_terms
from limbeck.losses.k3 import CLIP
from limbeck.losses.sampled import check_clip, check_sampled, log_probabilities_of, log_ratio
from limbeck.ranks import share_of_batch
from limbeck.types import Answers, Batch, Outputs


def sampled_counts_loss(
    student_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch kept"],
    counts: Float[Tensor, "batch kept"] | Int[Tensor, "batch kept"],
    *,
    log_probabilities: Float[Tensor, "batch kept"] | None = None,
    weight: float | Float[Tensor, ""] | None = None,
    importance: Float[Tensor, "batch kept"] | None = None,
    clip: float | None = None,
) -> Float[Tensor, ""]:
    r"""Match the student to how often the teacher drew each label.

    .. math:: \sum_a w_a \log \frac{w_a}{p(a)} - \sum_a w_a + 1, \qquad
              w_a = \frac{c_a}{N} \frac{t(a)}{q(a)}

    With the labels drawn from t itself, :math:`w_a` is a label's share of the N draws and the last
    two terms cancel: KL of the shares and p. The mean gradient is that of KL(t, p). Where the drawn
    labels' probabilities were kept too they take the noise of sampling out again, as in
    :func:`~limbeck.losses.control_variate_loss`, with counts as weights:

    .. math:: \sum_a w_a (\lambda r_a - \log p(a)), \qquad r_a = p(a) / t(a)

    Args:
        student_logits: The student's logits; gradients flow into these.
        labels: The distinct labels that were drawn for every row; -1 is an absent one.
        counts: How often each was drawn, at least zero. A row without draws counts nowhere.
        log_probabilities: log t of the labels [nats, at most 0], together with ``weight``.
        weight: The lambda in [0, 1]: 0 uses the counts alone, 1 is k3.
        importance: t / q of every label, where labels were drawn from another distribution q than
            t, such as q proportional to a power of t. They are used as they are: scaled to a sum
            of 1 by row they would bias the gradient. None means 1.
        clip: Largest r in the gradient, at least 1; only with probabilities.

    Returns:
        The mean over the rows that have draws [nats]. Without probabilities at least zero, zero
        when the student has all the shares; with them :math:`\lambda` + KL(t, p) + the teacher's
        entropy in the mean. Zero where there is no draw.

    Raises:
        ShapeError: If logits, labels, counts and numbers do not fit each other.
        ArgumentError: If one of ``log_probabilities`` and ``weight`` is given without the other, or
            a hyperparameter is outside of its range.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        Shares 3/4 and 1/4 against 1/2 and 1/2: 0.75 ln 1.5 + 0.25 ln 0.5.

        >>> labels, counts = torch.tensor([[0, 1]]), torch.tensor([[3, 1]])
        >>> sampled_counts_loss(torch.zeros(1, 2), labels, counts)
        tensor(0.1308)

    Source:
        Anshumann and others (2025), arXiv:2503.16870, random sampling KD; the use of probabilities
        and unscaled importance weights derived.
    """
    where = "sampled_counts_loss"
    check_sampled(where, student_logits, labels, log_probabilities, counts)
    check_sampled(where, student_logits, labels, None, importance)
    check_clip(where, clip)
    _check_together(where, log_probabilities, weight)
    student = log_probabilities_of(student_logits, labels)
    kept = counts.detach().to(student.dtype).masked_fill(labels < 0, 0.0)
    drawn = kept.sum(dim=1, keepdim=True)
    shares = kept / drawn.clamp_min(torch.finfo(kept.dtype).tiny)
    if importance is not None:
        shares = shares * importance.detach().to(shares).masked_fill(labels < 0, 0.0)
    if log_probabilities is None or weight is None:
        rows = (torch.xlogy(shares, shares) - shares * student).sum(dim=1)
        rows = rows + (drawn[:, 0] > 0).to(rows) - shares.sum(dim=1)
    else:
        ratio = log_ratio(student, log_probabilities, labels)
        rows = (shares * control_variate_terms(student, ratio, weight, clip)).sum(dim=1)
    return rows.sum() / (drawn > 0).sum().clamp_min(1)


def merged(answers: Answers) -> Answers:
    """Return the distinct labels of every row, -1 behind them, with all counts of each.

    Example:
        >>> once = torch.ones(1, 3, dtype=torch.int64)
        >>> found = merged(Answers(torch.tensor([[7, 2, 7]]), counts=once))
        >>> found.labels, found.counts
        (tensor([[ 2,  7, -1]]), tensor([[1, 2, 0]]))
    """
    assert answers.counts is not None  # drawn
    present = answers.counts.long().masked_fill(answers.labels < 0, 0)
    ordered, order = answers.labels.long().sort(dim=1)
    new = torch.ones_like(ordered)
    new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()
    place = new.cumsum(dim=1) - 1
    numbers = answers.log_probabilities
    if numbers is not None:  # a label has one; where a service rounded them apart, the largest
        here = numbers.gather(1, order)
        numbers = torch.zeros_like(here).scatter_reduce(1, place, here, "amax", include_self=False)
    return Answers(
        torch.full_like(ordered, -1).scatter(1, place, ordered),
        numbers,
        torch.zeros_like(ordered).scatter_add(1, place, present.gather(1, order)),
    )


def _check_together(
    where: str, log_probabilities: Tensor | None, weight: float | Tensor | None
) -> None:
    if (log_probabilities is None) != (weight is None):
        given, missing = ("weight", "log_probabilities")
        if weight is None:
            given, missing = missing, given
        raise ArgumentError(
            f"{where}: expected `log_probabilities` and `weight` together; got `{given}` without "
            f"`{missing}`. Give both, or neither to use the counts alone."
        )
    if weight is not None and not isinstance(weight, Tensor):
        check_between(where, 0.0, 1.0, weight=weight)


class SampledCounts(AskedLoss):
    """:func:`sampled_counts_loss` as a training term, on labels that the teacher drew.

    Args:
        draws: Labels a sample, of a live teacher, with replacement; of 50 some 12 are distinct in
            language models. Of answers all are used.
        weight: None has the counts alone (hard labels); a lambda in [0, 1] the labels'
            probabilities as well.
        proposal: A live teacher's labels are drawn from q proportional to t to this power, above
            zero, and weighted by t / q. Answers were drawn from t, for which it is 1.
        clip: Largest r in the gradient, at least 1; only with a ``weight``.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    def __init__(
        self,
        *,
        draws: int = 50,
        weight: float | None = None,
        proposal: float = 1.0,
        clip: float | None = CLIP,
        seed: int = 0,
        redraw: bool = False,
    ) -> None:
        super().__init__(draws=draws, seed=seed, redraw=redraw)
        self.drawn = replace(self.drawn, proposal=proposal)
        if weight is not None:
            check_between("SampledCounts", 0.0, 1.0, weight=weight)
        check_clip("SampledCounts", clip)
        self.weight, self.clip, self.proposal = weight, clip, proposal
        self.needs_numbers = weight is not None

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the samples; targets are not used."""
        mine, answers = self.asked(student, teacher, batch)
        found = merged(answers)
        assert found.counts is not None  # drawn
        value = sampled_counts_loss(
            mine,
            found.labels,
            found.counts,
            log_probabilities=found.log_probabilities if self.needs_numbers else None,
            weight=self.weight,
            importance=self._importance(teacher, found.labels),
            clip=self.clip,
        )
        return share_of_batch(value, (found.counts > 0).any(dim=1).sum())

    def _importance(self, teacher: Outputs, labels: Tensor) -> Tensor | None:
        if self.proposal == 1.0:
            return None
        if teacher.answers is not None or teacher.logits is None:
            raise ArgumentError(
                f"SampledCounts: expected `proposal` to be 1 for a teacher's answers, which were "
                f"drawn from its own distribution; got {self.proposal}. Leave it out."
            )
        log_t, log_q = self.drawn.logarithms(teacher.logits)
        return (log_t - log_q).gather(1, labels.clamp_min(0)).exp()
