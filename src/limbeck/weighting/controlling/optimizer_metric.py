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
    optimizer: Optimizer,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor] | None = None,
) -> tuple[float, list[Tensor] | None]:
    r"""Return the rate and the factors D of steps of :math:`\gamma D` times the gradient.

    .. math:: \gamma_k = \gamma \frac{1 - \mathrm{dampening}}{1 - \mathrm{momentum}}
              \text{ (SGD)}, \qquad D_k = \frac{1}{\sqrt{\hat v_k} + \epsilon} \text{ (Adam, AdamW)}

    Where groups have rates of their own the largest is :math:`\gamma`, and D holds the others'
    shares of it. With AMSGrad the largest :math:`v_k` so far counts.

    Args:
        optimizer: As :func:`check_optimizer` lets it pass.
        parameters: Theirs are the factors; those of no group count as the first group's.
        gradients: Of the step that is about to be taken: Adam takes them into :math:`v_k` first,
            without which a parameter that had none so far would have the factor
            :math:`1 / \epsilon`. None leaves :math:`v_k` as it is.

    Returns:
        The rate, and one tensor a parameter or None for ones. The rate is 0 where nothing is to
        be weighed: all rates are 0, or Adam has not taken its first step. Of a parameter that had
        no gradient so far, and has none now, the factor is 0.

    Example:
        0.1 (1 - 0) / (1 - 0.75).

        >>> x = torch.nn.Parameter(torch.ones(1))
        >>> metric_of(torch.optim.SGD([x], lr=0.1, momentum=0.75), [x])
        (0.4, None)

    Source:
        Derived; Adam: Kingma and Ba (2015), arXiv:1412.6980; AMSGrad: Reddi, Kale and Kumar (2018),
        arXiv:1904.09237.
    """
    if not has_metric(optimizer, parameters):
        return 0.0, None
    own = _groups(optimizer, parameters)
    rates = [_rate(group) for group in own]
    largest = max(rates)
    if len(set(rates)) == 1 and not any("amsgrad" in group for group in own):
        return largest, None
    factors: list[Tensor] = []
    for at, (parameter, group, rate) in enumerate(zip(parameters, own, rates, strict=True)):
        factor = torch.full_like(parameter, rate / largest, requires_grad=False)
        if "amsgrad" in group:
            state = optimizer.state.get(parameter, {})
            now = None if gradients is None else gradients[at]
            second = _second_moment(state, group, now)
            factor = factor * 0 if second is None else factor / (second.sqrt() + group["eps"])
        factors.append(factor)
    return largest, factors


def has_metric(optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
    """Say whether steps have a metric yet: a rate above 0, and of Adam a first step taken."""
    own = _groups(optimizer, parameters)
    started = [
        "exp_avg_sq" in optimizer.state.get(parameter, {})
        for parameter, group in zip(parameters, own, strict=True)
        if "amsgrad" in group
    ]
    return max(map(_rate, own)) > 0 and (not started or any(started))


def decay_of(optimizer: Optimizer) -> tuple[float, float]:
    r"""Return weight decay as curvature: what all directions have, and what parameters have.

    SGD adds :math:`\omega x` to the gradient. AdamW takes :math:`\gamma \omega x` off the
    parameters, which in the coordinates :math:`D^{-1/2} x` is a curvature :math:`\omega` as well.
    Adam adds it to the gradient before the metric: a curvature :math:`\omega` of the parameters.

    Returns:
        The decay in the metric of :func:`metric_of`, and that before it; one of them is 0.
    """
    group = optimizer.param_groups[0]
    decay = float(group["weight_decay"])
    before = "amsgrad" in group and not group.get("decoupled_weight_decay", False)
    return (0.0, decay) if before else (decay, 0.0)


def _second_moment(
    state: Mapping[str, Any], group: Mapping[str, Any], gradient: Tensor | None
) -> Tensor | None:
    """Return Adam's corrected second moment, with a gradient that it will take in next."""
    decay = group["betas"][1]
    largest = state.get("max_exp_avg_sq") if group["amsgrad"] else None
    if gradient is None:
        if "exp_avg_sq" not in state:
            return None
        raw = state["exp_avg_sq"] if largest is None else largest
        return raw / (1 - decay ** state["step"].double())
    square = (1 - decay) * gradient.detach() ** 2
    if "exp_avg_sq" not in state:
        return square / (1 - decay)
    raw = decay * state["exp_avg_sq"] + square
    raw = raw if largest is None else torch.maximum(largest, raw)
    return raw / (1 - decay ** (state["step"].double() + 1))


def _groups(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[Mapping[str, Any]]:
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    first = optimizer.param_groups[0]
    return [groups.get(id(p), first) for p in parameters]


def _rate(group: Mapping[str, Any]) -> float:
    rate = float(group["lr"])
    if "dampening" not in group or not group["momentum"]:
        return rate
    return rate * (1 - group["dampening"]) / (1 - group["momentum"])
