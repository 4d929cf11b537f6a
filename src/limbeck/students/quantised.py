"""Quantised students: a model's copy whose layers train on a grid of few bits."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import cast

import torch
from torch import nn

from limbeck.checks import LayerError, ModelError, nearest
from limbeck.students.binary import BinaryConv2d
from limbeck.students.conversions import conversion
from limbeck.students.grids import Bits
from limbeck.students.packing import is_torchao_linear
from limbeck.students.quantised_layers import (
    FakeQuantisedConv2d,
    FakeQuantisedLinear,
    Quantised,
    check_precision,
)


@conversion
def quantised(
    model: nn.Module,
    *,
    bits: Bits = 8,
    activation_bits: int | None = 8,
    keep: Collection[str] | None = None,
) -> nn.Module:
    """Return a copy of a model whose layers train on a grid, all but the first and the last.

    In full precision stay the first :class:`torch.nn.Conv2d` and the last
    :class:`torch.nn.Linear`, in the order in which the model registers them, and what ``keep``
    names. Every other Conv2d becomes a :class:`FakeQuantisedConv2d`. Every other Linear becomes
    torchao's layer for training with quantisation (8, 4 and 2 bits; max-abs scale a filter,
    activations in int8 with a range a row), or a :class:`FakeQuantisedLinear` (ternary and 1 bit).
    Layers that are binary or quantised already, and layers of other kinds, stay as they are.

    Args:
        model: The model; it is not changed.
        bits: Of the weights: 8, 4, 2, ``"ternary"`` or 1.
        activation_bits: Of the inputs of those layers: 8, or None for full precision.
        keep: Dotted names of modules that stay as they are, with everything inside of them.

    Returns:
        The copy, with weights and names of the original, whose state dict it loads with
        ``strict=False``: steps then start anew. Hooks on replaced layers are not taken over.

    Raises:
        ArgumentError: If ``bits`` or ``activation_bits`` is not one of those.
        LayerError: If a name in ``keep`` is unknown, or no layer is left to replace.
        ModelError: If a layer is of a class of its own, has one weight a filter, or is read past
            its forward(); or if linear layers need torchao and it is not there.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
        >>> quantised(model, bits=4)[2].bits
        4

    Source:
        First and last layer in full precision: Rastegari et al. (2016), XNOR-Net,
        arXiv:1603.05279; in 8 bits in Esser et al. (2020), LSQ, arXiv:1902.08153.
    """
    check_precision("quantised", bits, activation_bits)
    kept = [keep] if isinstance(keep, str) else list(keep or ())
    known = {name: part for name, part in model.named_modules(remove_duplicate=False) if name}
    for name in kept:
        if name not in known:
            raise LayerError(
                f"quantised: expected in `keep` names of layers of {type(model).__name__}; got "
                f"{name!r}, which it does not have.{nearest(name, known)} Names are those of "
                "`model.named_modules()`."
            )
    copied = copy.deepcopy(model)
    places = [
        (name, part)
        for name, part in copied.named_modules(remove_duplicate=False)
        if name and isinstance(part, (nn.Conv2d, nn.Linear)) and not _is_cheap(part)
    ]
    spared = {id(part) for name, part in places if _inside(name, kept)}
    spared |= {id(part) for part in [p for _, p in places if isinstance(p, nn.Conv2d)][:1]}
    spared |= {id(part) for part in [p for _, p in places if isinstance(p, nn.Linear)][-1:]}
    made: dict[int, nn.Module] = {}
    for name, part in places:
        if id(part) not in spared:
            if id(part) not in made:
                _check_layer(copied, name, part)
                made[id(part)] = _converted(part, bits, activation_bits)
            copied.set_submodule(name, made[id(part)])
    if not made:
        raise LayerError(
            f"quantised: expected a layer to replace beside the first convolution, the last linear "
            f"layer and `keep`; got {type(model).__name__} with {len(places)} in full precision "
            f"and {kept} kept. Name fewer layers, or take a deeper network."
        )
    return copied


def _is_cheap(part: nn.Module) -> bool:
    return isinstance(part, (BinaryConv2d, Quantised)) or is_torchao_linear(part)


def _inside(name: str, kept: Collection[str]) -> bool:
    return any(name == outer or name.startswith(f"{outer}.") for outer in kept)


def _check_layer(model: nn.Module, name: str, part: nn.Conv2d | nn.Linear) -> None:
    kind = nn.Conv2d if isinstance(part, nn.Conv2d) else nn.Linear
    if type(part) is not kind or part.weight[0].numel() < 2:
        raise ModelError(
            f"quantised: expected {name!r} to be a torch.nn.{kind.__name__} with two weights a "
            f"filter at least; got {type(part).__name__} with weights {tuple(part.weight.shape)}. "
            "Name it in `keep`."
        )
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.TransformerEncoderLayer):
        raise ModelError(
            f"quantised: expected {name!r} to be called through its forward(); got a layer of "
            "torch.nn.TransformerEncoderLayer, which in eval mode reads the weights in full "
            "precision past it. Name it in `keep`, or take another implementation."
        )


def _converted(part: nn.Conv2d | nn.Linear, bits: Bits, activation_bits: int | None) -> nn.Module:
    if isinstance(part, nn.Conv2d):
        return FakeQuantisedConv2d.from_float(part, bits=bits, activation_bits=activation_bits)
    if bits in ("ternary", 1):
        return FakeQuantisedLinear.from_float(part, bits=bits, activation_bits=activation_bits)
    return _torchao_linear(part, cast(int, bits), activation_bits)


def _torchao_linear(linear: nn.Linear, bits: int, activation_bits: int | None) -> nn.Module:
    try:
        from torchao.quantization.qat import FakeQuantizedLinear, IntxFakeQuantizeConfig
    except ModuleNotFoundError as problem:
        raise ModelError(
            f"quantised: expected the package torchao, for linear layers of 8, 4 and 2 bits "
            f"({problem}). pip install 'limbeck[quant]'"
        ) from None
    rows = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    filters = IntxFakeQuantizeConfig(getattr(torch, f"int{bits}"), "per_channel", is_symmetric=True)
    made = FakeQuantizedLinear.from_linear(
        linear, None if activation_bits is None else rows, filters
    )
    return made.train(linear.training)
