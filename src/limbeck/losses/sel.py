"""Squared error of log-probabilities of sampled labels (SEL)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import check_positive
from limbeck.losses.asked import Drawn, MeanOfDrawn
from limbeck.losses.sampled import check_sampled, log_probabilities_of, log_ratio, mean_of_draws


def sel_loss(
    student_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "*draws"],
    log_probabilities: Float[Tensor, "*draws"],
    *,
    huber: float | None = None,
    weights: Float[Tensor, "*draws"] | None = None,
) -> Float[Tensor, ""]:
    r"""Give the labels that the teacher drew the log-probabilities that it reported.

    .. math:: \frac12 (\log p(a) - \log t(a))^2, \qquad a \sim t

    Its gradient is log r times the score of the label, with r = p(a) / t(a). That is no unbiased
    estimate of the gradient of KL(t, p), but the minimum is at p(a) = t(a) whatever labels came,
    and a single misreported number does less harm than in :func:`~limbeck.losses.k3_loss`.

    Args:
        student_logits: The student's logits; gradients flow into these.
        labels: Labels drawn from the teacher, one or several a row; -1 is an absent one.
        log_probabilities: What the teacher reported for them [nats, at most 0]; detached here.
        huber: Size of log r, above zero, from which on the loss rises linearly (Huber), so that no
            label has a gradient of more than ``huber`` times its score; None is the square.
        weights: Weight of every label, at least zero, such as how many draws it stands for; None
            means 1.

    Returns:
        The weighted mean over the labels [squared nats], at least zero; zero when the student has
        the reported numbers (and where there is no label).

    Raises:
        ShapeError: If logits, labels, numbers and weights do not fit each other.
        ArgumentError: If ``huber`` is not above zero.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        The student has 1/2 where the teacher reported 1/4: half of the square of ln 2.

        >>> sel_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0.25]).log())
        tensor(0.2402)

    Source:
        Zhao and Zhu (2024), arXiv:2310.07838, equations 4.6 and 4.7; Huber's form is of limbeck.
    """
    check_sampled("sel_loss", student_logits, labels, log_probabilities, weights)
    if huber is not None:
        check_positive("sel_loss", huber=huber)
    ratio = log_ratio(log_probabilities_of(student_logits, labels), log_probabilities, labels)
    return mean_of_draws(sel_terms(ratio, huber), labels, weights)


def sel_terms(ratio: Float[Tensor, "*draws"], huber: float | None) -> Float[Tensor, "*draws"]:
    """Return every label's loss by its log r."""
    if huber is None:
        return 0.5 * ratio.square()
    return F.huber_loss(ratio, torch.zeros_like(ratio), reduction="none", delta=huber)


class SEL(MeanOfDrawn):
    """:func:`sel_loss` as a training term, on labels that the teacher drew.

    A live teacher's logits serve for nothing else: what the student sees of them is the labels and
    their log-probabilities, as from a service that reports these.

    Args:
        draws: Labels a sample, of a live teacher; of answers all are used.
        huber: As in the function; 5 is what the paper's simulations were repeated with here.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    def __init__(
        self,
        *,
        draws: int = 1,
        huber: float | None = 5.0,
        seed: int = 0,
        redraw: bool = False,
    ) -> None:
        super().__init__(draws=draws, seed=seed, redraw=redraw)
        if huber is not None:
            check_positive("SEL", huber=huber)
        self.huber = huber

    def value(self, logits: Float[Tensor, "batch classes"], drawn: Drawn) -> Float[Tensor, ""]:
        """Return the mean over the samples that have labels, by the student's logits."""
        return sel_loss(
            logits, drawn.labels, drawn.log_probabilities, huber=self.huber, weights=drawn.weights
        )
