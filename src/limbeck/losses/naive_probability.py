"""Cross-entropy weighted by the label's probability: a mistake, kept to be shown as one."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from limbeck.losses.asked import Drawn, MeanOfDrawn
from limbeck.losses.sampled import check_sampled, log_probabilities_of, mean_of_draws


def naive_probability_loss(
    student_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "*draws"],
    log_probabilities: Float[Tensor, "*draws"],
    *,
    weights: Float[Tensor, "*draws"] | None = None,
) -> Float[Tensor, ""]:
    r"""Weigh cross-entropy by the probability that the teacher reported: a negative control.

    .. math:: -t(a) \log p(a), \qquad a \sim t

    A label counts for its probability twice, once by being drawn: the student tends to
    :math:`t^2 / \sum_b t(b)^2` and not to t, however much data there is. **Never train with it for
    its own sake**; :func:`~limbeck.losses.sel_loss`, :func:`~limbeck.losses.k3_loss` and
    :func:`~limbeck.losses.control_variate_loss` use the same numbers rightly.

    Args:
        student_logits: The student's logits; gradients flow into these.
        labels: Labels drawn from the teacher, one or several a row; -1 is an absent one.
        log_probabilities: What the teacher reported for them [nats, at most 0]; detached here.
        weights: Weight of every label, at least zero, such as how many draws it stands for; None
            means 1.

    Returns:
        The weighted mean over the labels [nats, times probability], at least zero; zero when all
        of them get probability 1 (and where there is no label).

    Raises:
        ShapeError: If logits, labels, numbers and weights do not fit each other.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        A quarter of ln 2.

        >>> import torch
        >>> naive_probability_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0.25]).log())
        tensor(0.1733)

    Source:
        Zhao and Zhu (2024), arXiv:2310.07838, equations 4.2 to 4.4 and lemma 4.2 (the bias).
    """
    check_sampled("naive_probability_loss", student_logits, labels, log_probabilities, weights)
    student = log_probabilities_of(student_logits, labels)
    reported = log_probabilities.detach().to(student.dtype).masked_fill(labels < 0, 0.0)
    return mean_of_draws(-reported.exp() * student, labels, weights)


class NaiveProbability(MeanOfDrawn):
    """:func:`naive_probability_loss` as a training term: the control in a comparison.

    Args:
        draws: Labels a sample, of a live teacher; of answers all are used.
        seed: Of the labels of a live teacher.
        redraw: Draw anew for every view of a sample; see
            :class:`~limbeck.losses.teacher_draws.TeacherDraws`.
    """

    def value(self, logits: Float[Tensor, "batch classes"], drawn: Drawn) -> Float[Tensor, ""]:
        """Return the mean over the samples that have labels, by the student's logits."""
        return naive_probability_loss(
            logits, drawn.labels, drawn.log_probabilities, weights=drawn.weights
        )
