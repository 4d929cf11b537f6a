"""What is measured: rows, the student that sees them, and what each adds to the two gradients."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.capture import Capture, Inputs
from limbeck.checks import ArgumentError, DataError, ModelError, check_choice
from limbeck.losses import LOSSES
from limbeck.losses.features import logits_of
from limbeck.ranks import alone, gather_rows, world_size
from limbeck.types import Batch, Outputs, Task, Teacher
from limbeck.weighting.measuring.joined import joined


Parameters = dict[str, Tensor]
Function = Callable[[Parameters, Inputs], tuple[Tensor, ...]]


class Part(NamedTuple):
    """Some rows with what they add to the gradients, output by output.

    Attributes:
        batch: The rows.
        g: For each output of the student a tensor of its shape: n times the derivative of the
            task's mean loss, so that the mean over rows of what they pull back is the gradient.
        h: The same of the task's minus the distillation's.
    """

    batch: Batch
    g: tuple[Tensor, ...]
    h: tuple[Tensor, ...]


class Problem:
    """A student as a function of its trained parameters, and a task and distillation loss.

    Use it as a context: hooks are removed, and the student's modes restored, when it ends.

    Args:
        student: The network; parameters that require gradients count.
        teacher: A module, or anything that answers ``teacher(batch) -> Outputs``.
        task: Gives the task's loss.
        loss: The distillation term.
        example: Inputs of some rows, for layers that are found by running the network.
        training: Leave the student in training mode, where BatchNorm couples the rows of a batch.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Teacher,
        task: Task,
        loss: Callable[..., Tensor],
        *,
        example: Inputs,
        training: bool = False,
    ) -> None:
        self.parameters: Parameters = {
            name: value for name, value in student.named_parameters() if value.requires_grad
        }
        if not self.parameters:
            raise ModelError(
                "gradient_moments: expected a student with parameters that require gradients; "
                f"{type(student).__name__} has none. Call `student.requires_grad_(True)`."
            )
        self.device = next(iter(self.parameters.values())).device
        self.student, self.task, self.loss = student, task, loss
        self.forward_mode = True  # until an operator turns out to have no such derivative
        self._modes = {part: part.training for part in student.modules()}
        self._undo = contextlib.ExitStack()
        try:
            student.train(training)
            self._capture = Capture(
                student, _layers(loss, "student"), example=_on(example, self.device), name="student"
            )
            self._undo.callback(self._capture.close)
            self._teacher = self._asked(teacher, example)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Problem:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the hooks and put every module back into the mode it was in."""
        self._undo.close()
        for part, mode in self._modes.items():
            part.training = mode

    def function(self, parameters: Parameters, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return the student's outputs for other values of its parameters: logits, then features.

        Buffers are left as they are, also by layers that would change them.
        """
        buffers = {name: value.clone() for name, value in self.student.named_buffers()}

        def through(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.student, parameters | buffers, args, kwargs)

        found = self._capture(inputs, through=through)
        return cast(Tensor, found.logits), *found.features.values()

    def outputs(self, values: tuple[Tensor, ...]) -> Outputs:
        """Return what :meth:`function` gave as the losses take it."""
        return Outputs(values[0], dict(zip(self._capture.layers, values[1:], strict=True)))

    def ask(self, batch: Batch) -> Outputs:
        """Return the teacher's outputs, without gradient, on the batch's device."""
        return self._teacher(batch).map(_plain)

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the task's and the distillation's mean over the rows [nats]."""
        return self.task.loss(student, batch), self.loss(student, teacher, batch)

    def derivatives(
        self, values: tuple[Tensor, ...], teacher: Outputs, batch: Batch
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the derivatives of task, and of task minus distillation, by each output."""
        leaves = tuple(value.detach().requires_grad_() for value in values)
        task, distillation = self.losses(self.outputs(leaves), teacher, batch)
        g, d = (_derivatives(loss, leaves) for loss in (task, distillation))
        return g, tuple(a - b for a, b in zip(g, d, strict=True))

    def parts(self, batches: list[Batch]) -> list[Part]:
        """Return the batches with what each of their rows adds; the losses are means over all.

        All rows' outputs, of all processes, are seen by the losses at once.

        Args:
            batches: The rows of this process.
        """
        with torch.no_grad():
            seen = [self.function(self.parameters, batch.inputs) for batch in batches]
            said = [self.ask(batch) for batch in batches]
        together = Together(batches)
        values = tuple(together.all(torch.cat(one)) for one in zip(*seen, strict=True))
        teacher = joined(said, together.all)
        with alone():
            sides = self.derivatives(values, teacher, together.batch)
        for side, whose in zip(sides, ("task", "distillation"), strict=True):
            _check_finite(side, whose)
        rows = len(together.batch)
        split = [[together.split(rows * one) for one in side] for side in sides]
        return [
            Part(batch, *(tuple(one[at] for one in side) for side in split))
            for at, batch in enumerate(batches)
        ]

    def pulled_back(self, batch: Batch, *sides: tuple[Tensor, ...]) -> list[Parameters]:
        """Return the sum over rows of what each side's derivatives pull back, one pass a side."""
        with torch.enable_grad():
            values = self.function(self.parameters, batch.inputs)
            return [
                dict(
                    zip(
                        self.parameters,
                        torch.autograd.grad(
                            values,
                            tuple(self.parameters.values()),
                            grad_outputs=side,
                            retain_graph=side is not sides[-1],
                            materialize_grads=True,
                        ),
                        strict=True,
                    )
                )
                for side in sides
            ]

    def _asked(self, teacher: Any, example: Inputs) -> Callable[[Batch], Outputs]:
        if not isinstance(teacher, nn.Module):
            if not callable(teacher):
                raise ModelError(
                    "gradient_moments: expected `teacher` to be a torch module or a Teacher "
                    f"(teacher(batch) -> Outputs); got {type(teacher).__name__}."
                )
            return cast(Callable[[Batch], Outputs], teacher)
        modes = {part: part.training for part in teacher.modules()}
        self._undo.callback(lambda: [setattr(part, "training", on) for part, on in modes.items()])
        teacher.eval()
        where = next((value.device for value in teacher.parameters()), self.device)
        capture = Capture(
            teacher, _layers(self.loss, "teacher"), example=_on(example, where), name="teacher"
        )
        self._undo.callback(capture.close)

        def answer(batch: Batch) -> Outputs:
            with torch.no_grad():
                said = capture(_on(batch.inputs, where))
            return said.map(lambda value: value.to(self.device))

        return answer


def loss_module(loss: Any, *, force: bool) -> Callable[..., Tensor]:
    """Return the distillation term asked for, if the law of the weight holds for it.

    Args:
        loss: A name in ``limbeck.losses.LOSSES``, a loss module, a function of student and teacher
            logits, or one of student and teacher Outputs and a batch.
        force: Take a loss that is no mean over samples too.

    Raises:
        ArgumentError: If it is none of these, or no mean over samples.
    """
    if isinstance(loss, str):
        check_choice("gradient_moments", "loss", loss, LOSSES)
        loss = LOSSES[loss]()
    if not callable(loss):
        raise ArgumentError(
            f"gradient_moments: expected `loss` to be a name ({', '.join(LOSSES)}), a loss module "
            f"or a function; got {type(loss).__name__}."
        )
    if not isinstance(loss, nn.Module) and _wants(loss) == 2:
        function = cast(Callable[..., Tensor], loss)

        def on_logits(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:  # noqa: ARG001
            return function(*logits_of("gradient_moments", student, teacher))

        return on_logits
    if getattr(loss, "mean_over_samples", True) or force:
        return cast(Callable[..., Tensor], loss)
    raise ArgumentError(
        f"gradient_moments: expected a loss that is a mean over samples; {type(loss).__name__} "
        "compares the rows of a batch with each other, or counts some of them only, and the law of "
        "the weight does not hold. Take its published weight, or force=True to see the numbers all "
        "the same."
    )


class Together:
    """The rows of all processes, in the order of the processes, and which of them are here.

    Args:
        batches: The rows of this process.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self.sizes = [len(batch) for batch in batches]
        here = torch.full((sum(self.sizes),), dist.get_rank() if world_size() > 1 else 0)
        ranks = gather_rows(here.to(batches[0].index.device))
        self.start = int((ranks < here[0]).sum())
        self.batch = self._joined(batches)

    def all(self, rows: Tensor) -> Tensor:
        """Return these and all other processes' rows, without gradient."""
        return gather_rows(rows)

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the rows that are here, batch by batch."""
        return rows[self.start : self.start + sum(self.sizes)].split(self.sizes)

    def _joined(self, batches: list[Batch]) -> Batch:
        def field(name: str) -> Any:
            parts = [getattr(batch, name) for batch in batches]
            if parts[0] is None:
                return None
            if isinstance(parts[0], dict):
                return {key: self.all(torch.cat([p[key] for p in parts])) for key in parts[0]}
            return self.all(torch.cat(parts))

        return Batch(*(field(name) for name in ("inputs", "targets", "index", "view", "weights")))


def chosen(part: Part, rows: Tensor) -> Part:
    """Return some rows of a part, with what they add."""
    batch, inputs = part.batch, part.batch.inputs
    taken = Batch(
        {key: value[rows] for key, value in inputs.items()}
        if isinstance(inputs, dict)
        else inputs[rows],
        None if batch.targets is None else batch.targets[rows],
        batch.index[rows],
        batch.view[rows],
        None if batch.weights is None else batch.weights[rows],
    )
    return Part(taken, *(tuple(one[rows] for one in side) for side in (part.g, part.h)))


def _derivatives(loss: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not loss.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    return torch.autograd.grad(loss, leaves, materialize_grads=True)


def _check_finite(derivatives: tuple[Tensor, ...], whose: str) -> None:
    for values in derivatives:
        rows = ~torch.isfinite(values).flatten(1).all(1)
        if bool(rows.any()):
            raise DataError(
                f"gradient_moments: expected finite gradients of the {whose} loss; got NaN or "
                f"infinite ones for {int(rows.sum())} of {len(rows)} rows, the first at "
                f"{int(rows.nonzero()[0, 0])}. Look for NaN in the inputs, the weights or the "
                "teacher's outputs."
            )


def _layers(loss: Any, who: str) -> tuple[str, ...]:
    found = getattr(loss, "layers", {})
    found = found.get(who, ()) if isinstance(found, Mapping) else ()
    return (found,) if isinstance(found, str) else tuple(found)


def _wants(function: Any) -> int:
    """Return how many arguments without default a function takes."""
    parameters = inspect.signature(function).parameters.values()
    return sum(
        one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        for one in parameters
    )


def _plain(value: Tensor) -> Tensor:
    wide = not value.is_floating_point() or value.dtype in (torch.float32, torch.float64)
    return (value if wide else value.float()).detach().clone()


def _on(inputs: Inputs, device: torch.device) -> Inputs:
    if isinstance(inputs, dict):
        return {key: value.to(device) for key, value in inputs.items()}
    return inputs.to(device)
