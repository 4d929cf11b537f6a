"""Generalised Jensen-Shannon divergence (GKD): between forward and reverse KL."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import check_between, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32
from limbeck.losses.skew_kl import mixture
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def jsd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    beta: float = 0.5,
) -> Float[Tensor, ""]:
    r"""Match the teacher by a divergence that is bounded and may be turned towards either side.

    .. math:: \beta\, \mathrm{KL}(t \,\|\, m) + (1 - \beta)\, \mathrm{KL}(p \,\|\, m), \qquad
              m = (1 - \beta) p + \beta t

    At beta 0 and 1 this is zero for all students; there the two limits that it has after division
    by beta and by 1 - beta are taken, as other libraries do: KL(t, p) at 0, which covers all that
    the teacher may say, and KL(p, t) at 1, which seeks its most likely answer. Values near 0 or 1
    are therefore small, and those at them are not.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        beta: Share of the teacher in the mixture, in [0, 1].

    Returns:
        The batch mean [nats], at least zero and at most ln 2 inside of (0, 1); zero when the two
        distributions agree (and for a batch without rows).

    Raises:
        ShapeError: If the two logits differ in shape.
        ArgumentError: If ``beta`` is outside of [0, 1].

    Example:
        Both are sure, of different labels: ln 2 from each to their middle.

        >>> import torch
        >>> jsd_loss(torch.tensor([[0.0, 99.0]]), torch.tensor([[99.0, 0.0]]))
        tensor(0.6931)

    Source:
        Agarwal and others (2024), arXiv:2306.13649 (GKD), the divergence of section 2; the ends as
        in huggingface/trl.
    """
    check_same_shape("jsd_loss", student_logits=student_logits, teacher_logits=teacher_logits)
    check_between("jsd_loss", 0.0, 1.0, beta=beta)
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    log_t, log_p = F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)
    if beta == 0.0:
        terms = log_t.exp() * (log_t - log_p)
    elif beta == 1.0:
        terms = log_p.exp() * (log_p - log_t)
    else:
        middle = mixture(log_t, log_p, beta)
        terms = beta * log_t.exp() * (log_t - middle)
        terms = terms + (1.0 - beta) * log_p.exp() * (log_p - middle)
    return terms.sum() / max(student.shape[0], 1)


class JSD(nn.Module):
    """:func:`jsd_loss` as a training term: no parameters, no features."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, beta: float = 0.5) -> None:
        super().__init__()
        check_between("JSD", 0.0, 1.0, beta=beta)
        self.beta = beta

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; labels are not used."""
        mine, theirs = logits_of("JSD", student, teacher)
        value = jsd_loss(mine, theirs, beta=self.beta)
        return share_of_batch(value, mine.shape[0])
