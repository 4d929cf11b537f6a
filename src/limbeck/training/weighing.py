"""The distillation weight measured while a run trains: gradients of two halves of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.checks import ArgumentError, check_choice
from limbeck.ranks import alone, world_size
from limbeck.training.clock import Clock
from limbeck.training.halves import (
    TERMS,
    Gradients,
    Half,
    mean_of_both,
    middle_of,
    split,
    summed,
)
from limbeck.training.options import Options
from limbeck.training.order import sizes_of
from limbeck.training.step import Step
from limbeck.training.weighed_by import of_parts
from limbeck.types import Batch, Outputs
from limbeck.weighting.controlling.adaptive import LARGEST, AdaptiveWeight
from limbeck.weighting.controlling.averages import RunningMean
from limbeck.weighting.controlling.optimizer_metric import has_metric, metric_of
from limbeck.weighting.controlling.running_curvature import RunningCurvature
from limbeck.weighting.measuring.curvature import gauss_newton
from limbeck.weighting.measuring.problem import Part, Problem


AUTO = "auto"
ROWS_OF_A_STEP = 8  # measured of each step, on average: a measured one costs another backward pass
SELDOM = 20  # steps between two measurements at most
SHARE_OF_WARMUP = 5  # of the run's steps at most one in so many warms up
UNCLIPPED = 0.99  # decay, per step, of the average of what clipping leaves
CLIP_EPS = 1e-6  # as torch's clip_grad_norm_ has it
OPTIONS = (
    "weight", "every", "warmup", "slew", "freeze_width", "maximum", "fast_decay", "slow_decay",
)  # fmt: skip
Weight = float | int | str | Mapping[str, Any] | AdaptiveWeight | None


def is_measured(weight: Any) -> bool:
    """Say whether a weight is one that is measured, or scheduled, while a run trains."""
    named = isinstance(weight, str) and weight == AUTO
    return named or isinstance(weight, (Mapping, AdaptiveWeight))


def described(weight: Any) -> Any:
    """Return a weight as a record keeps it."""
    if isinstance(weight, AdaptiveWeight):
        plain = (bool, int, float, str, type(None))
        known = {k: v for k, v in vars(weight).items() if not k.startswith("_")}
        return {name: value for name, value in known.items() if isinstance(value, plain)}
    return dict(weight) if isinstance(weight, Mapping) else weight


def adaptive_of(
    weight: Any, published: tuple[float, float], steps: int, batch_size: int
) -> AdaptiveWeight:
    """Return the controller that a run asks for.

    Args:
        weight: ``"auto"``, a mapping with ``mode`` ("hbar" or "losspair") and options of
            :class:`AdaptiveWeight`, or such an object.
        published: The method's weights of task and distillation: their share is the start.
        steps: Of the whole run; a fifth of them warms up at most.
        batch_size: Rows of a step, over all processes: small batches are measured more often.

    Raises:
        ArgumentError: If a mode or an option is unknown or out of range.
    """
    if isinstance(weight, AdaptiveWeight):
        return weight
    options = {} if weight == AUTO else dict(weight)
    for name in ("confirm", "pilot"):  # what confirming.py has seen to
        options.pop(name, None)
    mode = options.pop("mode", "hbar")
    check_choice("distill", "weight mode", mode, ("hbar", "losspair"))
    for name in options:
        check_choice("distill", "weight option", name, OPTIONS)
    task, distillation = published
    share = distillation / (task + distillation) if task + distillation > 0 else 0.0
    most = LARGEST[mode] if options.get("maximum") is None else options["maximum"]
    start = {
        "weight": min(share, most),
        "warmup": min(200, steps // SHARE_OF_WARMUP),
        "every": min(max(batch_size // ROWS_OF_A_STEP, 1), SELDOM),
    }
    return AdaptiveWeight(mode, **start | options)


def check_weighable(
    adaptive: AdaptiveWeight,
    losses: Sequence[nn.Module],
    loss_warmup_epochs: float,
    *,
    forced: bool,
) -> None:
    """Raise ArgumentError where a weight is measured, and its law does not hold for the losses."""
    if adaptive.controller is None:
        return
    for loss in losses:
        if not (getattr(loss, "mean_over_samples", True) or forced):
            raise ArgumentError(
                f"distill: expected a loss that is a mean over samples for weight='auto'; "
                f"{type(loss).__name__} compares the rows of a batch, or counts some of them only: "
                "its gradient noise follows another law. Use weight=None, its published weight, "
                "or force=True."
            )
    if loss_warmup_epochs:
        raise ArgumentError(
            "distill: expected no `loss_warmup_epochs` beside weight='auto', which sets the weight "
            f"of every step; got {loss_warmup_epochs}. Drop one of them."
        )


class Weighing:
    """Takes measured steps instead of plain ones, and tells the step its weight.

    A measured step runs both halves of the batch on their own, with two backward passes each, so
    that noise and bias of the two gradients show; its update is that of a plain step, but for
    layers that see the whole batch (BatchNorm sees halves). Where the optimiser has a metric of its
    own, nothing is measured before it has taken a step; where gradients are clipped, the learning
    rate counts with the share of them that was left on average.

    Args:
        step: Its ``weights`` are set here.
        adaptive: Decides.
        options: Of the run: optimiser, momentum, clipping, micro-batches.
        plan: Steps of the whole run, and of an epoch; None where rows are augmented, as such a row
            is another one in the next epoch, and no epoch takes out what it put in.
        autocast: Gives the context that forward passes run in.
    """

    def __init__(
        self,
        step: Step,
        adaptive: AdaptiveWeight,
        options: Options,
        plan: tuple[int, int | None],
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.step, self.adaptive, self.options = step, adaptive, options
        self.autocast = autocast
        self.steps, self.steps_per_epoch = plan
        self.curvature = RunningCurvature()
        self.unclipped = RunningMean(UNCLIPPED**adaptive.every)  # share of the gradient's length
        self._last = 0  # step of the measurement before
        self._set()

    def begin(self, step: int, rate: float) -> None:
        """Set the weight for a step, counted from 0."""
        self.adaptive.advance(step, rate)
        self._set()

    def due(self, step: int, rows: int, ranks: int, accumulate: int) -> bool:
        """Say whether a step is to be measured; every part must have two rows at least.

        Args:
            step: Counted from 0.
            rows: In the whole batch.
            ranks: Processes that share it.
            accumulate: Micro-batches of each.
        """
        if not self.adaptive.due(step):
            return False
        return middle_of(sizes_of(rows, ranks, accumulate)) is not None

    def measure(
        self,
        batches: Iterator[tuple[Batch, list[Outputs]]],
        *,
        number: int,
        start: int,
        rows: int,
        rate: float,
        clock: Clock,
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, Tensor]:
        """Take a measured step: set the gradients of all trained parameters, and the weight.

        Args:
            batches: This process's micro-batches with what the teachers said.
            number: Of the step, from 0.
            start: Position of this process's first row in the whole batch.
            rows: In the whole batch, of all processes.
            rate: Learning rate.
            clock: Told when the student and the losses are done.
            optimizer: Whose preconditioner counts, where it has one.

        Returns:
            The step's detached terms by name; averaged over the processes, means over all rows.
        """
        trained = [p for p in self.step.parameters() if p.requires_grad]
        middle = middle_of(sizes_of(rows, world_size(), self.options.accumulate))
        assert middle is not None  # due() said so
        halves = [Half.like(trained) for _ in range(2)]
        told: dict[str, Tensor] = {}
        seen, last, theirs = 0, None, []
        for batch, said in batches:
            first = min(max(middle - start - seen, 0), len(batch))
            seen += len(batch)
            parts = split(batch, said, first)
            weights = of_parts(self.step, batch, parts, self.options.accumulate)
            if self.adaptive.mode == "losspair":
                there = torch.stack([one["task"] for one in weights if one is not None])
                theirs.append(there.sum() * self._loss_of_teachers(batch, said))
            for half, part, own in zip(halves, parts, weights, strict=True):
                if part is None or own is None:
                    continue
                for name, value in self._add(half, *part, own, trained, clock).items():
                    sums = told.setdefault(name, torch.zeros_like(value))
                    sums += value * own[_kind(name)]
            last = batch
        assert last is not None
        for half in halves:
            half.over_ranks()
        whole = {name: torch.stack([one.weights[name] for one in halves]).sum() for name in TERMS}
        weight = self.adaptive.weight
        both = [mean_of_both(halves, name) for name in TERMS]
        for parameter, task, other in zip(trained, *both, strict=True):
            parameter.grad = ((1 - weight) * task + weight * other).to(parameter.dtype)
        clipping = self._clipping(trained)
        own = {id(p) for p in self.step.student.parameters()}
        places = [at for at, p in enumerate(trained) if id(p) in own]
        students = [trained[at] for at in places]
        if has_metric(optimizer, students):
            # What AdamW will take into its second moments in this very step.
            gradients = [cast(Tensor, p.grad) * clipping for p in students]
            measured: dict[str, Any] = {
                "rows": 2 / (1 / middle + 1 / (rows - middle)),
                "learning_rate": rate * clipping / (1 - self._momentum),
                "batch_size": rows,
                "preconditioner": metric_of(optimizer, students, gradients)[1],
            }
            g, d = ([half.mean(name) for half in halves] for name in TERMS)
            measured["task"] = tuple([one[at] for at in places] for one in g)
            bias = [[a[at] - b[at] for at in places] for a, b in zip(g, d, strict=True)]
            if theirs:
                sums = torch.stack([told["task"].to(theirs[0]), torch.stack(theirs).sum()])
                losses = summed(sums) / whole["task"]
                measured |= {"student_loss": losses[0], "teacher_loss": losses[1]}
            else:
                measured |= self._of_bias(bias, measured, number, last, rows)
            self.adaptive.observe(number, **measured)
            self._last = number
        clock.lap("weighing")
        shares = {
            name: torch.where(one > 0, world_size() / one, 0.0) for name, one in whole.items()
        }
        means = {name: value * shares[_kind(name)] for name, value in told.items()}
        return means | {"total": (1 - weight) * means["task"] + weight * means["total"]}

    def state(self) -> dict[str, Any]:
        """Return everything a run needs to go on from here."""
        return {
            "adaptive": self.adaptive.state_dict(),
            "curvature": self.curvature.state_dict(),
            "unclipped": self.unclipped.state_dict(),
            "last": self._last,
        }

    def restore(self, state: Mapping[str, Any], rows_of: Callable[[int], Batch]) -> None:
        """Go to where :meth:`state` was taken.

        Args:
            state: As it was returned.
            rows_of: Serves this process's rows of an earlier step again.
        """
        self.adaptive.load_state_dict(state["adaptive"])
        self.curvature.load_state_dict(state["curvature"], rows_of)
        self.unclipped.load_state_dict(state["unclipped"])
        self._last = state["last"]
        self._set()

    def _set(self) -> None:
        weight = self.adaptive.weight
        self.step.weights = (1 - weight, weight)

    def _add(
        self,
        half: Half,
        batch: Batch,
        said: list[Outputs],
        weights: Mapping[str, Tensor],
        trained: list[Any],
        clock: Clock,
    ) -> dict[str, Tensor]:
        """Add a part's gradients to its half, and return its terms."""
        with alone(), self.autocast():  # this part is a batch of its own
            task, distillation, terms = self.step.terms(batch, said, clock)
        assert distillation is not None  # without a teacher nothing is weighed
        clock.lap("loss")
        for name, loss in (("task", task), ("distillation", distillation)):
            found = [torch.zeros_like(one) for one in trained]
            if loss.requires_grad:
                found = torch.autograd.grad(
                    loss, trained, retain_graph=loss is task, materialize_grads=True
                )
            half.add(name, found, weights[name])
        clock.lap("backward")
        return terms | {"total": distillation.detach()}  # the task's comes when its mean is known

    def _clipping(self, trained: Sequence[Tensor]) -> Tensor | float:
        """Return which share of the gradient clipping leaves, on average over measured steps."""
        if self.options.clip is None:
            return 1.0
        length = nn.utils.get_total_norm([cast(Tensor, p.grad) for p in trained])
        left = (self.options.clip / (length + CLIP_EPS)).clamp_max(1.0)
        self.unclipped.update([left], left.isfinite())
        return self.unclipped.mean[0]

    @property
    def _momentum(self) -> float:
        return self.options.momentum if self.options.optimizer == "sgd" else 0.0

    def _loss_of_teachers(self, batch: Batch, said: list[Outputs]) -> Tensor:
        with alone(), torch.no_grad():
            return torch.stack([self.step.task.loss(one, batch) for one in said]).mean()

    def _of_bias(
        self,
        bias: list[Gradients],
        measured: Mapping[str, Any],
        number: int,
        last: Batch,
        rows: int,
    ) -> dict[str, Any]:
        """Return what "hbar" is to be told beside g: h, the curvature and the epoch."""
        if self.curvature.collect(number, last, rows * max(number - self._last, 1)):
            self._look(bias, measured["preconditioner"], measured["learning_rate"])
        return {
            "difference": tuple(bias),
            "curvature": self.curvature.value,
            "steps_per_epoch": self.steps_per_epoch,
            "epoch": number // (self.steps_per_epoch or 1),
        }

    def _look(self, bias: list[Gradients], factors: Gradients | None, rate: Tensor | float) -> None:
        """Look at the curvature of the task along the mean of h, in eval mode.

        With factors D of an optimiser the system is that of sqrt(D) H sqrt(D) and sqrt(D) h, whose
        steps are plain ones.
        """
        batch = self.curvature.collected()
        problem = Problem(
            self.step.student, _nobody, self.step.task, _no_loss, example=batch.inputs
        )
        with problem, torch.random.fork_rng(devices=[]):
            product, names = gauss_newton(problem, [Part(batch, (), ())]), list(problem.parameters)
            halves = self.adaptive.mean_difference() or bias
            mean = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
            roots = [torch.ones_like(m) for m in mean]
            if factors is not None:
                roots = [factor.sqrt() for factor in factors]

            def bent(direction: Gradients) -> Gradients:
                moved = (r * d for r, d in zip(roots, direction, strict=True))
                found = product(dict(zip(names, moved, strict=True)))
                return [r * found[name] for r, name in zip(roots, names, strict=True)]

            self.curvature.look(
                bent,
                [r * m for r, m in zip(roots, mean, strict=True)],
                # AdamW's decay is a curvature of its metric, as SGD's is of the plain one.
                1 / (rate * self.steps) + self.options.weight_decay,
            )


def _kind(name: str) -> str:
    """Return which mean a term is of."""
    return "task" if name == "task" else "distillation"


def _nobody(batch: Batch) -> Outputs:
    raise AssertionError(f"no teacher is asked about {len(batch)} rows")


def _no_loss(*_: Any) -> Tensor:
    raise AssertionError("no distillation term is asked for")
