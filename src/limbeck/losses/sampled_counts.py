"""Random sampling KD: a sparse row of counts in the place of the teacher's distribution."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from limbeck.checks import ArgumentError, check_between
from limbeck.losses.control_variate import control_variate_terms
from limbeck.losses.features import logits_of
from limbeck.losses.k3 import CLIP
from limbeck.losses.sampled import check_clip, check_sampled, log_probabilities_of, log_ratio
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


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


def counted(
    labels: Int[Tensor, "batch draws"],
) -> tuple[Int64[Tensor, "batch draws"], Int64[Tensor, "batch draws"]]:
    """Return the distinct labels of every row, -1 behind them, and how often each is there.

    Example:
        >>> counted(torch.tensor([[7, 2, 7]]))
        (tensor([[ 2,  7, -1]]), tensor([[1, 2, 0]]))
    """
    ordered = labels.long().sort(dim=1).values
    new = torch.ones_like(ordered)
    new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()
    place = new.cumsum(dim=1) - 1
    distinct = torch.full_like(ordered, -1).scatter(1, place, ordered)
    return distinct, torch.zeros_like(ordered).scatter_add(1, place, torch.ones_like(ordered))


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


class SampledCounts(nn.Module):
    """:func:`sampled_counts_loss` as a training term, on labels drawn from a live teacher.

    Args:
        draws: Labels a sample, with replacement; of 50 some 12 are distinct in language models.
        weight: None has the counts alone (hard labels); a lambda in [0, 1] the labels'
            probabilities as well.
        proposal: Labels are drawn from q proportional to t to this power, above zero, and weighted
            by t / q.
        clip: Largest r in the gradient, at least 1; only with a ``weight``.
        seed: Of the labels.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

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
        super().__init__()
        if weight is not None:
            check_between("SampledCounts", 0.0, 1.0, weight=weight)
        check_clip("SampledCounts", clip)
        self.weight, self.clip, self.proposal = weight, clip, proposal
        self.drawn = TeacherDraws(
            "SampledCounts", draws=draws, seed=seed, redraw=redraw, proposal=proposal
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        mine, theirs = logits_of("SampledCounts", student, teacher)
        labels, counts = counted(self.drawn(theirs, batch)[0])
        log_t, log_q = self.drawn.logarithms(theirs)
        log_t, log_q = (part.gather(1, labels.clamp_min(0)) for part in (log_t, log_q))
        value = sampled_counts_loss(
            mine,
            labels,
            counts,
            log_probabilities=None if self.weight is None else log_t,
            weight=self.weight,
            importance=None if self.proposal == 1.0 else (log_t - log_q).exp(),
            clip=self.clip,
        )
        return share_of_batch(value, mine.shape[0])
