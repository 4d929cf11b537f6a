"""The distillation weight measured while a run trains: gradients of two halves of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checks import ArgumentError, check_choice
from limbeck.ranks import alone, world_size
from limbeck.training.clock import Clock
from limbeck.training.halves import Gradients, Half, mean_of, split, summed, zeros
from limbeck.training.options import Options
from limbeck.training.step import Step
from limbeck.types import Batch, Outputs
from limbeck.weighting.controlling.adaptive import LARGEST, AdaptiveWeight
from limbeck.weighting.controlling.running_curvature import RunningCurvature
from limbeck.weighting.measuring.curvature import gauss_newton
from limbeck.weighting.measuring.problem import Part, Problem


AUTO = "auto"
ROWS_OF_A_STEP = 8  # measured of each step, on average: a measured one costs another backward pass
SELDOM = 20  # steps between two measurements at most
SHARE_OF_WARMUP = 5  # of the run's steps at most one in so many warms up
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
    most = options.get("maximum", LARGEST[mode])
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
    layers that see the whole batch (BatchNorm sees halves).

    Args:
        step: Its ``weights`` are set here.
        adaptive: Decides.
        options: Of the run: optimiser, momentum.
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
        return self.adaptive.due(step) and rows // (2 * ranks * accumulate) >= 2

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
        middle = (rows + 1) // 2
        halves = [Half(0, zeros(trained), zeros(trained)) for _ in range(2)]
        told: dict[str, Tensor] = {}
        seen, last, theirs = 0, None, []
        for batch, said in batches:
            if self.adaptive.mode == "losspair":
                theirs.append(len(batch) * self._loss_of_teachers(batch, said))
            first = min(max(middle - start - seen, 0), len(batch))
            seen += len(batch)
            for half, part in zip(halves, split(batch, said, first), strict=True):
                if part is None:
                    continue
                for name, value in self._add(half, *part, trained, clock).items():
                    sums = told.setdefault(name, torch.zeros_like(value))
                    sums += value * len(part[0])
            last = batch
        assert last is not None
        own = {id(p) for p in self.step.student.parameters()}
        places = [at for at, p in enumerate(trained) if id(p) in own]
        g, d = ([mean_of(half, name) for half in halves] for name in ("task", "distillation"))
        counts = [middle, rows - middle]
        weight = self.adaptive.weight
        for at, parameter in enumerate(trained):
            task, other = (
                (counts[0] * one[at] + counts[1] * two[at]) / rows for one, two in (g, d)
            )
            parameter.grad = ((1 - weight) * task + weight * other).to(parameter.dtype)
        student = [[one[at] for at in places] for one in g]
        bias = [[a[at] - b[at] for at in places] for a, b in zip(g, d, strict=True)]
        factors = _preconditioner(optimizer, [trained[at] for at in places], self.options)
        measured: dict[str, Any] = {
            "task": tuple(student),
            "rows": 2 / (1 / middle + 1 / (rows - middle)),
            "learning_rate": rate / (1 - self._momentum),
            "batch_size": rows,
            "preconditioner": factors,
        }
        if theirs:
            sums = torch.stack([told["task"].to(theirs[0]), torch.stack(theirs).sum()])
            losses = summed(sums) / rows
            measured |= {"student_loss": losses[0], "teacher_loss": losses[1]}
        else:
            if self.curvature.collect(number, last, rows * max(number - self._last, 1)):
                self._look(bias, factors, measured["learning_rate"])
            measured |= {
                "difference": tuple(bias),
                "curvature": self.curvature.value,
                "steps_per_epoch": self.steps_per_epoch,
                "epoch": number // (self.steps_per_epoch or 1),
            }
        self.adaptive.observe(number, **measured)
        self._last = number
        clock.lap("weighing")
        return {name: value * (world_size() / rows) for name, value in told.items()}

    def state(self) -> dict[str, Any]:
        """Return everything a run needs to go on from here."""
        return {
            "adaptive": self.adaptive.state_dict(),
            "curvature": self.curvature.state_dict(),
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
        self._last = state["last"]
        self._set()

    def _set(self) -> None:
        weight = self.adaptive.weight
        self.step.weights = (1 - weight, weight)

    def _add(
        self, half: Half, batch: Batch, said: list[Outputs], trained: list[Any], clock: Clock
    ) -> dict[str, Tensor]:
        """Add a part's gradients to its half, and return its terms."""
        with alone(), self.autocast():  # this part is a batch of its own
            task, distillation, terms = self.step.terms(batch, said, clock)
        assert distillation is not None  # without a teacher nothing is weighed
        weight = self.adaptive.weight
        terms["total"] = ((1 - weight) * task + weight * distillation).detach()
        clock.lap("loss")
        for sums, loss in ((half.task, task), (half.distillation, distillation)):
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(
                loss, trained, retain_graph=loss is task, materialize_grads=True
            )
            for total, one in zip(sums, found, strict=True):
                total.add_(one, alpha=len(batch))
        half.rows += len(batch)
        clock.lap("backward")
        return terms

    @property
    def _momentum(self) -> float:
        return self.options.momentum if self.options.optimizer == "sgd" else 0.0

    def _loss_of_teachers(self, batch: Batch, said: list[Outputs]) -> Tensor:
        with alone(), torch.no_grad():
            return torch.stack([self.step.task.loss(one, batch) for one in said]).mean()

    def _look(self, bias: list[Gradients], factors: Gradients | None, rate: float) -> None:
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
                1 / (rate * self.steps) + self._decay,
            )

    @property
    def _decay(self) -> float:
        # AdamW's weight decay stands beside its gradient.
        return self.options.weight_decay if self.options.optimizer == "sgd" else 0.0


def _preconditioner(
    optimizer: torch.optim.Optimizer, trained: Sequence[Tensor], options: Options
) -> Gradients | None:
    """Return AdamW's factors 1 / (sqrt(v) + eps) of each parameter; None for SGD."""
    if options.optimizer != "adamw":
        return None
    group = optimizer.param_groups[0]
    factors = []
    for parameter in trained:
        state = optimizer.state.get(parameter, {})
        if "exp_avg_sq" not in state:  # before the first step
            return None
        corrected = state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"].double())
        factors.append(1 / (corrected.sqrt() + group["eps"]))
    return factors


def _nobody(batch: Batch) -> Outputs:
    raise AssertionError(f"no teacher is asked about {len(batch)} rows")


def _no_loss(*_: Any) -> Tensor:
    raise AssertionError("no distillation term is asked for")
