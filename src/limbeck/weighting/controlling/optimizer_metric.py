"""How far an optimiser's steps go: its effective learning rate, and each parameter's factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from limbeck.checks import ArgumentError


def check_optimizer(where: str, optimizer: Optimizer) -> None:
    """Raise ArgumentError unless the optimiser is one that :func:`metric_of` reads.

    Args:
        where: What the message begins with.
        optimizer: SGD, Adam or AdamW of torch, or what wraps one and shows its groups and state.
    """
    if not all("dampening" in group or "amsgrad" in group for group in optimizer.param_groups):
        raise ArgumentError(
            f"{where}: expected SGD, Adam or AdamW; got {type(optimizer).__name__}. Call "
            "AdaptiveWeight.observe with its learning rate and preconditioner."
        )


def metric_of(
    optimizer: Optimizer, parameters: Sequence[Tensor]
) -> tuple[float, list[Tensor] | None]:
    r"""Return the rate and the factors D of steps of :math:`\gamma D` times the gradient.

    .. math:: \gamma_k = \gamma \frac{1 - \mathrm{dampening}}{1 - \mathrm{momentum}}
              \text{ (SGD)}, \qquad D_k = \frac{1}{\sqrt{\hat v_k} + \epsilon} \text{ (Adam, AdamW)}

    Where groups have rates of their own the largest is :math:`\gamma`, and D holds the others'
    shares of it.

    Args:
        optimizer: As :func:`check_optimizer` lets it pass.
        parameters: Theirs are the factors; those of no group count as the first group's.

    Returns:
        The rate, and one tensor a parameter or None for ones. The rate is 0 where nothing is to
        be weighed: all rates are 0, or Adam has not taken its first step.

    Example:
        0.1 (1 - 0) / (1 - 0.75).

        >>> x = torch.nn.Parameter(torch.ones(1))
        >>> metric_of(torch.optim.SGD([x], lr=0.1, momentum=0.75), [x])
        (0.4, None)

    Source:
        Derived; Adam: Kingma and Ba (2015), arXiv:1412.6980.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    first = optimizer.param_groups[0]
    own = [groups.get(id(p), first) for p in parameters]
    rates = [_rate(group) for group in own]
    largest = max(rates)
    if largest == 0:
        return 0.0, None
    factors, plain = [], len(set(rates)) == 1
    for parameter, group, rate in zip(parameters, own, rates, strict=True):
        factor = torch.full_like(parameter, rate / largest, requires_grad=False)
        if "amsgrad" in group:
            plain, state = False, optimizer.state.get(parameter, {})
            if "exp_avg_sq" not in state:
                return 0.0, None
            corrected = state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"].double())
            factor = factor / (corrected.sqrt() + group["eps"])
        factors.append(factor)
    return largest, None if plain else factors


def decay_of(optimizer: Optimizer) -> float:
    """Return the weight decay that is part of the gradient: SGD's; 0 for Adam and AdamW."""
    group = optimizer.param_groups[0]
    return float(group["weight_decay"]) if "dampening" in group else 0.0


def _rate(group: Mapping[str, Any]) -> float:
    rate = float(group["lr"])
    if "dampening" not in group or not group["momentum"]:
        return rate
    return rate * (1 - group["dampening"]) / (1 - group["momentum"])
