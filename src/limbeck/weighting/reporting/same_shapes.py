"""Teachers with the student's parameters: the free baseline, and which way distillation leads."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from limbeck.capture import Capture
from limbeck.data import Data
from limbeck.ranks import alone
from limbeck.types import Batch, Outputs, Task
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.mean_gradients import mean_gradients
from limbeck.weighting.measuring.problem import Parameters, Problem, Together


CHUNK = 64  # rows at a time


@dataclass(frozen=True)
class SameShapes:
    """What a teacher with the student's parameters allows to say, a number for each weight.

    Attributes:
        losses: The task's loss of (1 - lambda) x + lambda theta on the measured rows [nats].
        cosines: Of gbar - lambda hbar and grad f(x) - lambda grad f(theta), in [-1, 1]; None where
            one of them is zero.
    """

    losses: tuple[float, ...]
    cosines: tuple[float | None, ...]


def measured_rows(rows: Data, moments: GradientMoments, device: torch.device) -> list[Batch]:
    """Return the rows that moments come from, unit after unit, in view 0.

    Args:
        rows: That were measured.
        moments: Of :func:`limbeck.gradient_moments`, which keeps their positions.
        device: Where the batches go.
    """
    assert moments.index is not None  # gradient_moments keeps it
    index = torch.from_numpy(moments.index).flatten()
    return list(rows.batches([(one, torch.zeros_like(one)) for one in index.split(CHUNK)], device))


def have_same_shapes(student: nn.Module, teacher: object) -> bool:
    """Say whether a teacher is a module with the names and shapes of the student's parameters."""
    return isinstance(teacher, nn.Module) and _shapes(student) == _shapes(teacher)


def compared(
    student: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Batch],
    *,
    task: Task,
    loss: Callable[..., Tensor],
    weights: Sequence[float],
) -> SameShapes:
    r"""Compare a distilled student with the free baseline: weights between student and teacher.

    .. math:: f((1 - \lambda) x + \lambda \theta), \qquad \cos\bigl(\bar g - \lambda \bar h,
              \nabla f(x) - \lambda \nabla f(\theta)\bigr)

    In least squares distillation is this interpolation, and the cosine is 1. Both in eval mode;
    floating buffers are interpolated too, the others are the student's.

    Args:
        student: x.
        teacher: theta, of the same parameter names and shapes.
        batches: The rows, on the student's device.
        task: Gives f.
        loss: The distillation term.
        weights: Each :math:`\lambda`.

    Returns:
        Both for each weight; the loss at weight 0 is the student's, at 1 the teacher's.

    Source:
        Derived, for self-distillation as in Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    with alone():  # every process has all rows
        losses = tuple(
            _task_loss(_between(student, teacher, weight), batches, task) for weight in weights
        )
        g, h = _mean_gradients(student, teacher, batches, task, loss)
        theirs, _ = _mean_gradients(_between(student, teacher, 1.0), teacher, batches, task, loss)
    cosines = tuple(_cosine(_less(g, h, weight), _less(g, theirs, weight)) for weight in weights)
    return SameShapes(losses, cosines)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.named_parameters()}


def _between(student: nn.Module, teacher: nn.Module, weight: float) -> nn.Module:
    made = copy.deepcopy(student).eval()
    theirs = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    with torch.no_grad():
        for name, value in (*made.named_parameters(), *made.named_buffers()):
            other = theirs.get(name)
            if value.is_floating_point() and other is not None and other.shape == value.shape:
                value.lerp_(other.to(value), weight)
    return made


def _task_loss(model: nn.Module, batches: Sequence[Batch], task: Task) -> float:
    with Capture(model, name="student") as run, torch.no_grad():
        logits = torch.cat([cast(Tensor, run(batch.inputs).logits) for batch in batches])
        return float(task.loss(Outputs(logits), Together(list(batches)).batch))


def _mean_gradients(
    student: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Batch],
    task: Task,
    loss: Callable[..., Tensor],
) -> tuple[Parameters, Parameters]:
    with Problem(student, teacher, task, loss, example=batches[0].inputs) as problem:
        rows = sum(len(batch) for batch in batches)
        return mean_gradients(problem, problem.parts(list(batches)), rows)


def _less(first: Parameters, second: Parameters, weight: float) -> Tensor:
    return torch.cat(
        [(first[name].double() - weight * second[name].double()).flatten() for name in first]
    )


def _cosine(first: Tensor, second: Tensor) -> float | None:
    size = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / size if size > 0 else None
