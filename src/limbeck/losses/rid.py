"""Redundant information distillation (RID): what both know, and no more."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import (
    ArgumentError,
    ShapeError,
    check_between,
    check_choice,
    check_positive,
    check_same_shape,
)
from limbeck.labels import cross_entropy
from limbeck.losses.connectors import STAGES, Layer, layer_names
from limbeck.losses.filters import Filter, filterable_pairs, head, resting
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


Reduction = Literal["mean", "paper_sum"]

SMALLEST_SCALE = 1e-3  # of sigma, added to the softplus
FIRST_SCALE = 5.0  # of the parameter under the softplus


def rid_loss(
    student: Float[Tensor, "batch channels ..."],
    teacher: Float[Tensor, "batch channels ..."],
    scale: Float[Tensor, " channels"],
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    r"""Bring the student's filtered features to the teacher's, each channel at its own scale.

    .. math:: \|\sigma\|^2 + \sum_{c,h,w} E\Bigl[\frac{(t_{chw} - s_{chw})^2}{\sigma_c}\Bigr]

    At the best scale, :math:`\sigma_c^3 = m_c / 2` with :math:`m_c` the channel's sum of mean
    squares over positions, a channel adds :math:`3 (m_c / 2)^{2/3}`.

    Args:
        student: Filtered features of the student, f_s(S); gradients flow into these.
        teacher: Filtered features of the teacher, f_t(T); detached here.
        scale: :math:`\sigma`, one positive number a channel; gradients flow into it.
        reduction: "mean" over rows, channels and positions, as the authors' code has it, or
            "paper_sum": mean over rows, sum over the rest.

    Returns:
        The loss [squared unit of the features over that of the scale; not nats]; zero without rows.

    Raises:
        ShapeError: If features differ in shape, or there is not one scale a channel.
        ArgumentError: If ``reduction`` is neither of the two.

    Example:
        Mean squares are 2.5 in both channels: (1 + 2.5 + 4 + 2.5 / 2) / 2.

        >>> teacher, student = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.eye(2)[[1, 1]] * 0
        >>> student[1] = 1.0
        >>> rid_loss(student, teacher, torch.tensor([1.0, 2.0]))
        tensor(4.3750)

    Source:
        Dissanayake et al. (2025), arXiv:2411.07483, equation 12; the mean is the authors' code.
    """
    check_choice("rid_loss", "reduction", reduction, ("mean", "paper_sum"))
    distance = scaled_distance(student, teacher.detach(), scale, reduction=reduction)
    sizes = scale.to(distance.dtype).square()
    return distance + (sizes.mean() if reduction == "mean" else sizes.sum())


def scaled_distance(
    student: Float[Tensor, "batch channels ..."],
    teacher: Float[Tensor, "batch channels ..."],
    scale: Float[Tensor, " channels"],
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    r"""Return :math:`\sum_{c,h,w} E[(t_{chw} - s_{chw})^2 / \sigma_c]`, or its mean over c, h, w.

    Gradients flow into all three. Arguments and errors are those of :func:`rid_loss`.
    """
    check_same_shape("rid_loss", student=student, teacher=teacher)
    if student.ndim < 2 or scale.shape != student.shape[1:2]:
        raise ShapeError(
            f"rid_loss: expected features [batch, channels, ...] and one scale a channel; got "
            f"features {tuple(student.shape)} and scales {tuple(scale.shape)}. "
            "Make one scale for each of the teacher's filtered channels."
        )
    mine, theirs, sigma = at_least_float32(student, teacher, scale)
    shape = [-1 if axis == 1 else 1 for axis in range(mine.ndim)]
    total = ((theirs - mine).square() / sigma.reshape(shape)).sum()
    return total / max(mine.numel() if reduction == "mean" else mine.shape[0], 1)


class RID(nn.Module):
    """Redundant information distillation, in alternating phases that the training loop runs.

    Every layer pair has a filter of the teacher with a classifier head, a filter of the student,
    and scales. In auxiliary epochs the teacher's filter and head learn to tell the label from the
    teacher (first alone, then near to what the student can say) while the student rests. In main
    epochs the student, its filter and the scales are brought to the filtered teacher. Whatever
    rests in a phase is in eval mode: no gradient, no moving statistics.

    What the derivation takes for zero, I(Y; f_t(T) | f_s(S)), ``limbeck.distill`` measures at the
    end on held-out rows, for the record.

    Args:
        layer: Layers that are compared: a name, several, or one or several for each of "student"
            and "teacher".
        warmup_epochs: Auxiliary epochs at the start, in which filter and head learn the label
            alone; None means a tenth of the run.
        cycle: Epochs of a cycle of both phases (the paper's q), at least 2; None means a tenth of
            the run.
        rounds: Cycles in the run instead, as the authors' code reads the same number.
        share: Share r of every cycle that is auxiliary; ceil(cycle * share) epochs are.
        reduction: As in :func:`rid_loss`.
        paper_code: Do as the authors' code where it differs from the paper: no warm-up, but no
            distance in the auxiliary epochs of the first cycle; and the running statistics of
            resting filters move.
        seed: Of the filters' first weights.

    Raises:
        ArgumentError: If the layers are not in pairs, a number is out of range, or ``cycle`` and
            ``rounds`` are both given.

    Note:
        Scales start at 5, and a high learning rate throws them up and down: clip gradients (the
        authors' code: at 100) or lower the rate (theirs enters squared: 0.0025 for CIFAR-10).

    Source:
        Dissanayake et al. (2025), arXiv:2411.07483, algorithm 1 (with ``epoch mod q < q r`` for its
        switch, as the authors' code has it) and appendix D.2.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 10.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        layer: Layer = STAGES,
        *,
        warmup_epochs: int | None = None,
        cycle: int | None = None,
        rounds: int | None = None,
        share: float = 0.25,
        reduction: Reduction = "mean",
        paper_code: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("RID", "reduction", reduction, ("mean", "paper_sum"))
        check_between("RID", 0.0, 1.0, share=share)
        if cycle is not None and rounds is not None:
            raise ArgumentError(
                f"RID: expected `cycle` or `rounds`; got {cycle} and {rounds}. A run of n epochs "
                "with r rounds has cycles of n / r epochs."
            )
        given = {"cycle": cycle, "rounds": rounds}
        check_positive("RID", **{name: value for name, value in given.items() if value is not None})
        check_between("RID", 0.0, math.inf, warmup_epochs=warmup_epochs or 0)
        self.layers = layer_names("RID", layer)
        self.warmup_epochs, self.cycle, self.rounds, self.share = (
            warmup_epochs,
            cycle,
            rounds,
            share,
        )
        self.reduction: Reduction = reduction
        self.paper_code, self.seed = paper_code, seed
        self.near = True  # whether auxiliary epochs keep the filter near to the student
        self.teacher_filters = nn.ModuleList()
        self.heads = nn.ModuleList()
        self.student_filters = nn.ModuleList()
        self.scale_parameters = nn.ParameterList()

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make filters, heads and scales for the shapes of a first batch, unless there are some."""
        if len(self.heads):
            return
        if student.logits is None:
            raise ArgumentError(
                "RID: expected a student with logits, to know the classes; got none. Distil a "
                "classifier."
            )
        for place, (mine, theirs) in enumerate(self._pairs(student, teacher, batch)):
            wide, width = theirs.shape[1], mine.shape[1]
            made = {"seed": self.seed, "like": mine}
            self.teacher_filters.append(
                Filter((wide, wide, width), name=f"rid teacher {place}", **made)
            )
            self.student_filters.append(
                Filter((width, 2 * width, width), name=f"rid student {place}", **made)
            )
            numbers = width * mine[0, 0].numel()
            named = {"name": f"rid {place}", **made}
            self.heads.append(head(numbers, student.logits.shape[1], **named))
            self.scale_parameters.append(
                nn.Parameter(mine.new_full((width,), FIRST_SCALE, requires_grad=False))
            )

    def auxiliary_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what auxiliary epochs train: the teacher's filters and the heads."""
        yield from self.teacher_filters.parameters()
        yield from self.heads.parameters()

    def main_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what main epochs train beside the student: its filters and the scales."""
        yield from self.student_filters.parameters()
        yield from self.scale_parameters.parameters()

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Prepare for an epoch, counted from 0, and return whether it is an auxiliary one."""
        tenth = max(round(epochs / 10), 1)
        warmup = 0 if self.paper_code else self.warmup_epochs
        warmup = tenth if warmup is None else warmup
        cycle = self.cycle or (round(epochs / self.rounds) if self.rounds else tenth)
        cycle = max(cycle, 2)
        if not 0 < math.ceil(cycle * self.share) < cycle:
            raise ArgumentError(
                f"RID: expected a share of each cycle for both phases; got {self.share} of "
                f"{cycle} epochs. Choose a longer cycle or another share."
            )
        turn = epoch - warmup
        self.near = turn >= (cycle if self.paper_code else 0)
        return turn < 0 or turn % cycle < cycle * self.share

    def auxiliary_loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the heads' cross-entropy and, after the warm-up, the distance to the student.

        Summed over layers [nats plus the distance of :func:`scaled_distance`]. Rows without label
        count in the distance alone.
        """
        self._check_prepared()
        if batch.targets is None:
            raise ArgumentError(
                "RID: expected labels, which its filters learn; got rows without any. Distil "
                "unlabelled rows with kd, itrd or vid."
            )
        labelled = int((batch.targets >= 0).sum())
        total = torch.zeros((), device=batch.targets.device)
        for place, (mine, theirs) in enumerate(self._pairs(student, teacher, batch)):
            filtered = self.teacher_filters[place](theirs)
            logits = self.heads[place](torch.relu(filtered).flatten(1))
            total = total + share_of_batch(cross_entropy(logits, batch.targets), labelled)
            if self.near:
                with self._resting(self.student_filters[place]):
                    other = self.student_filters[place](mine)
                far = scaled_distance(
                    other, filtered, self._scale(place).detach(), reduction=self.reduction
                )
                total = total + share_of_batch(far, len(mine))
        return total

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the loss of main epochs, summed over layers."""
        self._check_prepared()
        values = []
        for place, (mine, theirs) in enumerate(self._pairs(student, teacher, batch)):
            with self._resting(self.teacher_filters[place]):
                goal = self.teacher_filters[place](theirs)
            value = rid_loss(
                self.student_filters[place](mine),
                goal,
                self._scale(place),
                reduction=self.reduction,
            )
            values.append(share_of_batch(value, len(mine)))
        return torch.stack(values).sum()

    def filtered(
        self, student: Outputs, teacher: Outputs, batch: Batch
    ) -> list[tuple[Tensor, Tensor]]:
        """Return f_s(S) and f_t(T) of every layer, in eval mode and without gradient."""
        self._check_prepared()
        found = []
        for place, (mine, theirs) in enumerate(self._pairs(student, teacher, batch)):
            pair = (self.student_filters[place], mine), (self.teacher_filters[place], theirs)
            made = []
            for part, rows in pair:
                with resting(part):
                    made.append(part(rows))
            found.append((made[0], made[1]))
        return found

    def _scale(self, place: int) -> Tensor:
        return F.softplus(self.scale_parameters[place]) + SMALLEST_SCALE

    def _resting(self, part: nn.Module) -> contextlib.AbstractContextManager[None]:
        return torch.no_grad() if self.paper_code else resting(part)

    def _pairs(
        self, student: Outputs, teacher: Outputs, batch: Batch
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return filterable_pairs("RID", self.layers, student, teacher, batch)

    def _check_prepared(self) -> None:
        if not len(self.heads):
            raise ArgumentError(
                "RID: expected filters; got a loss that is not prepared. Call `prepare(student, "
                "teacher, batch)` before the optimiser is made."
            )
