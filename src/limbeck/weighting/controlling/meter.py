"""Measures the distillation weight in a training loop that is not limbeck's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from limbeck.checks import ArgumentError, check_positive
from limbeck.ranks import sum_over_ranks, world_size
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.logit_curvature import gauss_newton_of
from limbeck.weighting.controlling.optimizer_metric import (
    check_optimizer,
    decay_of,
    has_metric,
    metric_of,
)
from limbeck.weighting.controlling.running_curvature import ITERATIONS, harmonic_curvature


OFTEN = 64  # measurements between two looks at the curvature, once the first doublings are through
Gradients = list[Tensor]
Losses = Sequence[tuple[Tensor, Tensor]]


class WeightMeter:
    r"""What :class:`AdaptiveWeight` needs to see, taken from the losses of two halves of a batch.

    In each step: the student's logits; where ``weight.due(step)``, :meth:`observe` with the mean
    task loss and distillation term of either half; then the usual step on :math:`(1 - \lambda)\,
    \mathrm{task} + \lambda\, \mathrm{term}` with ``weight.weight``. Graphs are left alive, so that
    halves may be cut out of the logits that the step itself goes on with. Where the rows of a batch
    see each other (BatchNorm), run each half on its own and pass both logits.

    Learning rate, momentum and Adam's second moments are read from the optimiser: the weight is
    measured in the metric in which it steps. The curvature is a harmonic one of the task on the
    batch along the running mean of h, by six products with the Gauss-Newton matrix in the first,
    second, fourth, eighth ... measurement and every 64th. Gradients are averaged over processes,
    where there are several.

    Args:
        weight: In mode "hbar" or "losspair".
        optimizer: SGD, Adam or AdamW of torch, or what wraps one (accelerate, Lightning).
        steps: Of the whole run, at least 1: the bias counts where so many steps reach.
        parameters: The student's; None for all that the optimiser has. Projectors of the
            distillation term are not the student's.
        steps_per_epoch: Of an epoch that takes each row once; None for independent batches, and
            where rows are augmented anew. Mode "hbar" then counts the noise that is left at the
            end of an epoch (:func:`limbeck.weighting.theory.reshuffling.reshuffled_share`).

    Raises:
        ArgumentError: If the mode measures nothing, the optimiser is another, or nothing is
            trained.

    Example:
        A parameter of 1.5 and targets 0 and 2: the halves of (x - b)^2 have gradients 3 and -1. A
        teacher at 1.25 takes 0.5 off both: h varies as g does, and with weight 1 all noise goes.

        >>> x = torch.nn.Parameter(torch.full((1,), 1.5))
        >>> weight = AdaptiveWeight("hbar", warmup=0, slew=None, freeze_width=None)
        >>> meter = WeightMeter(weight, torch.optim.SGD([x], lr=0.1), steps=100)
        >>> said = x.expand(2)
        >>> halves = [((z - b) ** 2, (z - 1.25) ** 2) for z, b in zip(said, (0.0, 2.0))]
        >>> meter.observe(0, halves, said)
        >>> weight.weight.item()
        1.0

    Source:
        Derived (see the controllers); the setting is that of Safaryan, Peste and Alistarh (2023),
        arXiv:2305.17581.
    """

    def __init__(
        self,
        weight: AdaptiveWeight,
        optimizer: Optimizer,
        *,
        steps: int,
        parameters: Iterable[Tensor] | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        if weight.controller is None:
            raise ArgumentError(
                f'WeightMeter: expected mode "hbar" or "losspair"; got {weight.mode}, which '
                "measures nothing. Use weight.weight as it is."
            )
        check_positive("WeightMeter", steps=steps, steps_per_epoch=steps_per_epoch or 1)
        self.steps_per_epoch = steps_per_epoch
        check_optimizer("WeightMeter", optimizer)
        if parameters is None:
            parameters = (p for group in optimizer.param_groups for p in group["params"])
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ArgumentError(
                "WeightMeter: expected parameters that require gradients; got none. Pass the "
                "student's."
            )
        self.weight, self.optimizer, self.steps = weight, optimizer, steps
        self._curvature: Tensor | None = None
        self._measured = 0

    def observe(
        self,
        step: int,
        halves: Losses,
        logits: Tensor | Sequence[Tensor],
        *,
        rows: tuple[int, int] | None = None,
        teacher_loss: Tensor | float | None = None,
    ) -> None:
        """Measure a batch and let the weight move.

        Left out are steps with a learning rate of 0, and those before Adam's first.

        Args:
            step: From 0 on.
            halves: For both the mean task loss and the mean distillation term, before weights, with
                their graphs.
            logits: What the task losses were computed from: one tensor, cut by ``chunk(2)``, or one
                for each half.
            rows: In either half, where these are not the logits' (tokens count as rows where losses
                are means over tokens).
            teacher_loss: Mean task loss of the teacher on the batch; needed by "losspair".

        Raises:
            ArgumentError: If there are not two halves, or what the mode needs is missing.
        """
        ends = [logits] if isinstance(logits, Tensor) else list(logits)
        counts: tuple[int, ...] = _rows(ends) if rows is None else rows
        self._check(halves, counts, teacher_loss)
        if not has_metric(self.optimizer, self.parameters):
            return
        first, second = totals = _totals(counts, self.parameters[0].device)
        shares = [own / total for own, total in zip(counts, totals, strict=True)]
        task = [self._mean(half[0], share) for half, share in zip(halves, shares, strict=True)]
        both = [(first * a + second * b) / (first + second) for a, b in zip(*task, strict=True)]
        rate, factors = metric_of(self.optimizer, self.parameters, both)
        whole = (counts[0] * halves[0][0] + counts[1] * halves[1][0]) / (first + second)
        measured: dict[str, Any] = {
            "task": tuple(task),
            "rows": 2 / (1 / first + 1 / second),
            "learning_rate": rate,
            "batch_size": int(first + second),
            "preconditioner": factors,
        }
        if self.weight.mode == "losspair":
            theirs = torch.as_tensor(teacher_loss).to(whole) * sum(counts) / (first + second)
            measured["student_loss"] = sum_over_ranks(whole.detach())
            measured["teacher_loss"] = sum_over_ranks(theirs.detach())
        else:
            term = [self._mean(half[1], share) for half, share in zip(halves, shares, strict=True)]
            bias = [
                [a - b for a, b in zip(*pair, strict=True)] for pair in zip(task, term, strict=True)
            ]
            doubled = self._measured & (self._measured - 1) == 0
            if self._curvature is None or doubled or self._measured % OFTEN == 0:
                self._look(whole, ends, bias, rate, factors)
            measured |= {
                "difference": tuple(bias),
                "curvature": self._curvature,
                "steps_per_epoch": self.steps_per_epoch,
                "epoch": step // (self.steps_per_epoch or 1),
            }
        self.weight.observe(step, **measured)
        self._measured += 1

    def __str__(self) -> str:
        """Return the weight, its interval and what it is made of; this waits for the device."""
        seen = self.weight.history()
        if not seen:
            return f"weight {float(self.weight.weight):.3f}: nothing measured yet"
        last = seen[-1]
        said = (
            f"weight {last['weight']:.3f}; step {last['step']} measured {last['measured']:.3f} "
            f"[{last['lower']:.3f}, {last['upper']:.3f}]: "
        )
        if self.weight.mode == "losspair":
            return said + (
                f"noise costs {last['noise_floor']:.3g} nats, the teacher's bias "
                f"{last['teacher_excess']:.3g}"
            )
        return said + (
            f"of a noise of {last['tr_gg']:.3g} the teacher shares {last['tr_gh']:.3g}; its own is "
            f"{last['tr_hh']:.3g}, its squared bias {last['hbar2']:.3g}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return copies of what :meth:`observe` goes on from, the weight's state included."""
        return {
            "weight": self.weight.state_dict(),
            "curvature": None if self._curvature is None else self._curvature.clone(),
            "measured": self._measured,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`.

        Raises:
            CheckpointError: If the state is of another mode.
        """
        self.weight.load_state_dict(state["weight"])
        curvature = state["curvature"]
        self._curvature = None if curvature is None else curvature.clone()
        self._measured = state["measured"]

    def _check(
        self, halves: Losses, rows: tuple[int, ...], teacher_loss: Tensor | float | None
    ) -> None:
        if len(halves) != 2 or len(rows) != 2 or min(rows) < 1:
            raise ArgumentError(
                f"WeightMeter: expected two halves of 1 row at least; got {len(halves)} with rows "
                f"{tuple(rows)}. Cut the batch in the middle."
            )
        if self.weight.mode == "losspair" and teacher_loss is None:
            raise ArgumentError(
                'WeightMeter: expected `teacher_loss` in mode "losspair"; got None. Pass the '
                "teacher's mean task loss on the batch."
            )

    def _mean(self, loss: Tensor, share: float) -> Gradients:
        """Return a half's mean gradient over the rows of all processes."""
        found = torch.autograd.grad(
            loss, self.parameters, retain_graph=True, materialize_grads=True
        )
        return [sum_over_ranks(share * one) for one in found]

    def _look(
        self,
        task: Tensor,
        logits: list[Tensor],
        bias: list[Gradients],
        rate: float,
        factors: Gradients | None,
    ) -> None:
        product = gauss_newton_of(task, logits, self.parameters)
        # The mean of one batch bends along that batch's rows more than along others.
        halves = self.weight.mean_difference() or bias
        mean = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
        roots = [torch.ones_like(m) for m in mean] if factors is None else [d**0.5 for d in factors]

        held, before = decay_of(self.optimizer)

        def bent(direction: Gradients) -> Gradients:
            moved = [r * d for r, d in zip(roots, direction, strict=True)]
            found = [sum_over_ranks(one) for one in product(moved)]
            return [r * (one + before * m) for r, one, m in zip(roots, found, moved, strict=True)]

        along = [r * m for r, m in zip(roots, mean, strict=True)]
        damping = 1 / (rate * self.steps) + held
        self._curvature = harmonic_curvature(bent, along, damping, ITERATIONS).detach()


def _rows(logits: list[Tensor]) -> tuple[int, ...]:
    counts = [len(one) for one in logits]
    return (counts[0] - counts[0] // 2, counts[0] // 2) if len(counts) == 1 else tuple(counts)


def _totals(rows: tuple[int, ...], device: torch.device) -> tuple[float, float]:
    """Return the rows of either half over all processes."""
    if world_size() == 1:
        return float(rows[0]), float(rows[1])
    first, second = sum_over_ranks(torch.tensor(rows, dtype=torch.float64, device=device)).tolist()
    return first, second
