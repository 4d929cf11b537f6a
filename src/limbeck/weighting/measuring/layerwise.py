"""Moments layer by layer: two backward passes give every row's gradient in known layers."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ModelError
from limbeck.weighting.measuring.collecting import Collector, Factored
from limbeck.weighting.measuring.problem import Parameters, Part, Problem, chosen


CHUNK = 64  # rows whose gradients are held at once
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
KNOWN = (nn.Linear, nn.Conv2d, *BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)
Pair = tuple[Tensor, Tensor]  # of g and of h


def unknown_layers(model: nn.Module) -> list[str]:
    """Return the names of parts with trained parameters of a kind that has no rule here."""
    return [
        f"{name or type(part).__name__} ({type(part).__name__})"
        for name, part in model.named_modules()
        if type(part) not in KNOWN
        and any(one.requires_grad for one in part.parameters(recurse=False))
    ]


def collect(problem: Problem, parts: list[Part], collector: Collector) -> None:
    """Give the collector both gradients of every row.

    Args:
        problem: The student, in eval mode.
        parts: The rows.
        collector: Takes the gradients; of linear layers on vectors their two factors.

    Raises:
        ModelError: If a part has parameters and is of no known kind.
    """
    unknown = unknown_layers(problem.student)
    if unknown:
        raise ModelError(
            "gradient_moments: expected linear layers, 2-d convolutions and normalisations for "
            f"method='gram'; got {', '.join(unknown[:3])}. Take method='per_sample' or 'groups'."
        )
    layers = _Layers(problem)
    for part in parts:
        for rows in torch.arange(len(part.batch)).split(CHUNK):
            layers.collect(chosen(part, rows.to(problem.device)), collector)


class _Layers:
    """The student's layers with trained parameters, and which parameter is whose."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.names = {id(value): name for name, value in problem.parameters.items()}
        self.owned = {
            layer: name
            for name, layer in problem.student.named_modules()
            if any(id(one) in self.names for one in layer.parameters(recurse=False))
        }
        self.owners = Counter(
            id(one) for layer in self.owned for one in layer.parameters(recurse=False)
        )

    def collect(self, part: Part, collector: Collector) -> None:
        seen, derivatives = self._run(part)
        calls = Counter(layer for layer, _, _ in seen)
        g: Parameters = {}
        h: Parameters = {}
        factored: dict[str, Factored] = {}
        for (layer, inputs, _), *both in zip(seen, *derivatives, strict=True):
            pair = cast(Pair, tuple(both))
            if collector.preconditioner is None and self._is_outer(layer, inputs, calls[layer]):
                factored[self.owned[layer]] = _factors(cast(nn.Linear, layer), inputs, *pair)
                continue
            for value, found in _by_parameter(layer, inputs, pair):
                name = self.names[id(value)]
                for side, new in zip((g, h), found, strict=True):
                    side[name] = side[name] + new if name in side else new
        held = {name for layer in factored for name in collector.layers[layer]}
        for name in set(self.problem.parameters) - set(g) - held:  # of layers that did not run
            value = self.problem.parameters[name]
            g[name] = h[name] = value.new_zeros(len(part.batch), *value.shape)
        collector.add(g, h, factored)

    def _run(self, part: Part) -> tuple[list[tuple[nn.Module, Tensor, Tensor]], list[Any]]:
        """Return every layer's call with its inputs, and both derivatives by its output."""
        seen: list[tuple[nn.Module, Tensor, Tensor]] = []

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not inputs:
                raise ModelError(
                    "gradient_moments: expected layers that get their inputs by position for "
                    f"method='gram'; got them by name in {self.owned[layer]!r}. Take "
                    "method='per_sample' or 'groups'."
                )
            seen.append((layer, inputs[0].detach().clone(), output))
            return output.clone()  # what follows may work in place

        handles = [layer.register_forward_hook(keep) for layer in self.owned]
        try:
            with torch.enable_grad():
                values = self.problem.function(self.problem.parameters, part.batch.inputs)
                outputs = [output for _, _, output in seen]
                return seen, [
                    torch.autograd.grad(
                        values, outputs, side, retain_graph=side is part.g, materialize_grads=True
                    )
                    for side in (part.g, part.h)
                ]
        finally:
            for handle in handles:
                handle.remove()

    def _is_outer(self, layer: nn.Module, inputs: Tensor, calls: int) -> bool:
        """Say whether a layer's gradients are one outer product a row, and nobody else's."""
        alone = all(self.owners[id(one)] == 1 for one in layer.parameters(recurse=False))
        linear = isinstance(layer, nn.Linear) and layer.weight.requires_grad
        return linear and alone and calls == 1 and inputs.ndim == 2


def _factors(layer: nn.Linear, inputs: Tensor, g: Tensor, h: Tensor) -> Factored:
    bias = cast(Any, layer.bias) is not None and layer.bias.requires_grad
    if bias:
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
    return Factored(inputs, g, h, bias)


def _by_parameter(layer: nn.Module, inputs: Tensor, both: Pair) -> list[tuple[Tensor, Pair]]:
    """Return the rows' gradients of each of a layer's trained parameters."""
    if isinstance(layer, nn.Linear):
        rule = _linear
    elif isinstance(layer, nn.Conv2d):
        rule = _convolution
    else:
        rule = _normalisation
    found: list[tuple[Tensor, Pair]] = []
    weight, bias = cast(Any, layer.weight), cast(Any, layer.bias)
    if weight is not None and weight.requires_grad:
        found.append((weight, cast(Pair, rule(cast(Any, layer), inputs, both))))
    if bias is not None and bias.requires_grad:
        axes = _axes_of_bias(layer, both[0])
        found.append((bias, cast(Pair, tuple(one.sum(axes) if axes else one for one in both))))
    return found


def _axes_of_bias(layer: nn.Module, derivative: Tensor) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return tuple(range(1, derivative.ndim - 1))
    if isinstance(layer, nn.LayerNorm):
        return tuple(range(1, derivative.ndim - len(layer.normalized_shape)))
    return tuple(range(2, derivative.ndim))


def _linear(layer: nn.Linear, inputs: Tensor, both: Pair) -> tuple[Tensor, ...]:  # noqa: ARG001
    a = inputs.flatten(1, -2) if inputs.ndim > 2 else inputs[:, None]
    flat = (one.flatten(1, -2) if one.ndim > 2 else one[:, None] for one in both)
    return tuple(d.transpose(1, 2) @ a for d in flat)


def _convolution(layer: nn.Conv2d, inputs: Tensor, both: Pair) -> tuple[Tensor, ...]:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    size = cast(Any, layer.kernel_size)
    columns = F.unfold(padded, size, dilation=layer.dilation, stride=layer.stride)
    columns = columns.unflatten(1, (layer.groups, -1))
    return tuple(
        (d.flatten(2).unflatten(1, (layer.groups, -1)) @ columns.transpose(2, 3))
        .flatten(1, 2)
        .unflatten(2, layer.weight.shape[1:])
        for d in both
    )


def _normalisation(layer: Any, inputs: Tensor, both: Pair) -> tuple[Tensor, ...]:
    if isinstance(layer, nn.LayerNorm):
        unit = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    elif isinstance(layer, nn.GroupNorm):
        unit = F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    else:
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        mean, variance = layer.running_mean.view(shape), layer.running_var.view(shape)
        unit = (inputs - mean) / (variance + layer.eps).sqrt()
    axes = _axes_of_bias(layer, inputs)
    return tuple((one * unit).sum(axes) if axes else one * unit for one in both)
