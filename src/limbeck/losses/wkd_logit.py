"""Wasserstein distance between class distributions, by how alike the classes are (WKD-L)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError, check_between, check_positive
from limbeck.losses.class_costs import costs_of
from limbeck.losses.divergence import (
    check_labelled,
    mean_over_labelled,
    number_labelled,
    targets_of,
)
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32, without_autocast
from limbeck.ranks import gather_rows, share_of_batch
from limbeck.types import Batch, Outputs


FARTHEST = 60.0  # cost over regularisation that its exponential, and the inverse, can hold


def wkd_logit_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"],
    cost: Float[Tensor, "classes classes"],
    *,
    temperature: float = 8.0,
    distance_weight: float = 600.0,
    regularisation: float = 0.05,
    iterations: int = 10,
) -> Float[Tensor, ""]:
    r"""Move the student's probabilities to the teacher's, cheaply between classes that are alike.

    .. math:: -p^T_y \ln p^S_y + \lambda \sum_{kl} P_{kl} C_{kl}, \qquad
              P = \mathrm{diag}(u)\, e^{-C/\eta}\, \mathrm{diag}(v), \quad
              P 1 = \hat p^S, \; P^\top 1 \approx \hat p^T

    with :math:`p = \mathrm{softmax}(z)` and, over the classes other than the label y,
    :math:`\hat p = \mathrm{softmax}(z_{k \ne y} / \tau)`. Sinkhorn's iteration gives u and v; the
    gradient flows through all its steps.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits; detached here.
        targets: Class indices; rows with a negative one are unlabelled and left out.
        cost: What it costs C to move probability from a class to another, at least zero and zero
            on the diagonal; detached here. See
            :func:`limbeck.losses.class_costs.costs_from_features`.
        temperature: Softening tau of the other classes, above zero.
        distance_weight: Weight lambda of the distance, at least zero. Published for CIFAR-100: 600
            where the networks are alike, 200 at temperature 6 where not; beside WKD-F 200, and 60
            at temperature 4.
        regularisation: Entropic regularisation eta, above zero.
        iterations: Of Sinkhorn, at least 1. The student's marginal is exact after each.

    Returns:
        The mean over the labelled rows [nats for the first term, the cost's unit times lambda for
        the second], at least zero, and above it where the two agree; zero with a zero gradient when
        no row has a label. For two classes the distance is zero.

    Raises:
        ShapeError: If logits, targets and costs do not fit, or there is a single class.
        ArgumentError: If a number is outside of its range.

    Example:
        All of the probability beside class 0 must move at cost 1: 0.0000 + 600.

        >>> student, teacher = torch.tensor([[99.0, 50.0, 0.0]]), torch.tensor([[99.0, 0.0, 50.0]])
        >>> cost = 1.0 - torch.eye(3)
        >>> wkd_logit_loss(student, teacher, torch.tensor([0]), cost, temperature=1.0)
        tensor(600.)

    Note:
        The iteration runs in log-space. Entries of C/eta above 60 count as 60 within it, so that
        no exponential vanishes; the distance itself takes C as it is.

    Source:
        Lv, Yang and Li (2024), arXiv:2412.08139. The first term at temperature 1, and no factor
        temperature squared, as in the authors' code (JiamingLv/WKD), which adds 1e-8 to
        denominators and costs instead of working in log-space.
    """
    check_labelled("wkd_logit_loss", student_logits, teacher_logits, targets)
    _check("wkd_logit_loss", temperature, distance_weight, regularisation, iterations)
    classes = student_logits.shape[1]
    if tuple(cost.shape) != (classes, classes):
        raise ShapeError(
            f"wkd_logit_loss: expected costs {(classes, classes)} between the classes of the "
            f"logits; got {tuple(cost.shape)}. Give one row and column a class."
        )
    student, teacher = at_least_float32(student_logits, teacher_logits.detach())
    cost = cost.detach().to(student)
    label = targets.clamp_min(0).long()[:, None]
    target = -teacher.log_softmax(dim=1).gather(1, label).exp()
    target = (target * student.log_softmax(dim=1).gather(1, label))[:, 0]
    mine, theirs = (
        (z / temperature).scatter(1, label, -math.inf).log_softmax(dim=1)
        for z in (student, teacher)
    )
    distance = _distances(mine, theirs, cost, regularisation, iterations)
    return mean_over_labelled(target + distance_weight * distance, targets)


def _distances(
    mine: Tensor, theirs: Tensor, cost: Tensor, regularisation: float, iterations: int
) -> Tensor:
    """Return the cost of every row's plan between two distributions, given by their logarithms."""
    kernel = torch.exp(-(cost / regularisation).clamp_max(FARTHEST))
    # Classes without mass, the label's, have a scaling of zero on both sides.
    log_u = torch.zeros_like(mine).masked_fill(mine.isneginf(), -math.inf)
    log_v = log_u
    with without_autocast(mine):
        for _ in range(iterations):
            log_v = theirs - _log_product(log_u, kernel)
            log_u = mine - _log_product(log_v, kernel.T)
        # A row of the plan sums to the student's mass, so u need not be known.
        v = (log_v - log_v.detach().amax(dim=1, keepdim=True)).exp()
        return (mine.exp() * (v @ (kernel * cost).T) / (v @ kernel.T)).sum(dim=1)


def _log_product(log_rows: Tensor, matrix: Tensor) -> Tensor:
    highest = log_rows.detach().amax(dim=1, keepdim=True)
    return ((log_rows - highest).exp() @ matrix).log() + highest


class WKDL(nn.Module):
    """:func:`wkd_logit_loss` as a training term: no parameters, labels from the batch.

    Without ``cost``, two classes are alike as far as the teacher's logits for them go together: s
    is the correlation over all samples seen so far in training, each sample's logits less their
    mean, and the cost 1 - exp(-(1 - s)). For a linear classifier it is the cosine of two classes'
    weights, whitened by the covariance of the features; so it needs nothing but logits and is the
    same for a live teacher and for stored outputs. The paper takes the features of the training
    set: :func:`limbeck.losses.class_costs.costs_from_features`, to be given here.

    The authors let ``distance_weight`` fall on a cosine to zero from epoch 150 of 240 on; here it
    stays.

    Args:
        cost: As in the function; None takes the rule above.
        temperature: As in the function, and so are the following.
        distance_weight: See there.
        regularisation: See there.
        iterations: See there.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = False
    cost: Tensor | None
    seen: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        *,
        cost: Float[Tensor, "classes classes"] | None = None,
        temperature: float = 8.0,
        distance_weight: float = 600.0,
        regularisation: float = 0.05,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        _check("WKDL", temperature, distance_weight, regularisation, iterations)
        self.temperature, self.distance_weight = temperature, distance_weight
        self.regularisation, self.iterations = regularisation, iterations
        self.register_buffer("cost", None if cost is None else cost.detach().clone())
        for name in ("seen", "mean", "covariance"):
            self.register_buffer(name, torch.zeros(0))

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make room for the teacher's statistics, unless costs are given or there is some."""
        _, theirs = logits_of("WKDL", student, teacher)
        if self.cost is not None:
            self.cost = self.cost.to(theirs.device)
        elif not len(self.mean):
            (like,) = at_least_float32(theirs.detach())
            classes = like.shape[1]
            self.seen, self.mean = like.new_zeros(()), like.new_zeros(classes)
            self.covariance = like.new_zeros(classes, classes)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the labelled rows."""
        mine, theirs = logits_of("WKDL", student, teacher)
        targets = targets_of("WKDL", batch)
        value = wkd_logit_loss(
            mine,
            theirs,
            targets,
            self._cost(theirs.detach()),
            temperature=self.temperature,
            distance_weight=self.distance_weight,
            regularisation=self.regularisation,
            iterations=self.iterations,
        )
        return share_of_batch(value, number_labelled(targets, value))

    def _cost(self, theirs: Tensor) -> Tensor:
        if self.cost is not None:
            return self.cost
        if not len(self.mean):
            raise ArgumentError(
                "WKDL: expected to know the classes; got a loss that is not prepared. Call "
                "`prepare(student, teacher, batch)` first, or give `cost`."
            )
        if self.training:
            self._see(theirs)
        # Of a class whose logit never varies nothing is known: it is like no other.
        deviation = self.covariance.diagonal().sqrt()
        inverse = torch.where(deviation > 0, deviation, math.inf).reciprocal()
        likeness = inverse[:, None] * self.covariance * inverse
        return costs_of(likeness.clamp(-1.0, 1.0)).fill_diagonal_(0.0)

    @torch.no_grad()
    def _see(self, theirs: Tensor) -> None:
        rows = gather_rows(theirs).to(self.mean)
        if not len(rows):
            return
        rows = rows - rows.mean(dim=1, keepdim=True)
        shift = rows.mean(dim=0) - self.mean
        centred = rows - rows.mean(dim=0)
        self.seen += len(rows)
        share = len(rows) / self.seen
        with without_autocast(rows):
            found = centred.T @ centred / len(rows)
        self.covariance.lerp_(found, share)
        self.covariance += share * (1.0 - share) * shift[:, None] * shift
        self.mean += share * shift


def _check(
    where: str,
    temperature: float,
    distance_weight: float,
    regularisation: float,
    iterations: int,
) -> None:
    check_positive(
        where, temperature=temperature, regularisation=regularisation, iterations=iterations
    )
    check_between(where, 0.0, math.inf, distance_weight=distance_weight)
