"""Moments with the student in training mode: each group of rows is a batch of its own."""

from __future__ import annotations

import torch

from limbeck.randomness import derive_seed
from limbeck.ranks import alone
from limbeck.types import Batch
from limbeck.weighting.measuring.problem import Parameters, Problem


def gradients(problem: Problem, batch: Batch, *seed: int | str) -> tuple[Parameters, Parameters]:
    """Return the gradients of a group's mean losses, of one forward pass.

    BatchNorm uses the group's own statistics, and leaves its running ones alone; dropout draws what
    the seed says, the same for task and distillation and whenever this is called again.

    Args:
        problem: The student, in training mode.
        batch: The group.
        seed: Of the random numbers in the forward pass.
    """
    devices = [problem.device] if problem.device.type != "cpu" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), alone():
        torch.manual_seed(derive_seed(*seed))
        values = problem.function(problem.parameters, batch.inputs)
        losses = problem.losses(problem.outputs(values), problem.ask(batch), batch)
    g, d = (
        torch.autograd.grad(
            loss, tuple(problem.parameters.values()), retain_graph=at == 0, materialize_grads=True
        )
        for at, loss in enumerate(losses)
    )
    names = list(problem.parameters)
    return (
        dict(zip(names, g, strict=True)),
        {name: a - b for name, a, b in zip(names, g, d, strict=True)},
    )
