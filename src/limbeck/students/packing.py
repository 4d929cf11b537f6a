"""Weights of few bits as they are shipped: levels packed into bytes and one scale a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from limbeck.checks import LayerError, ShapeError
from limbeck.students.binary import BinaryConv2d
from limbeck.students.grids import Bits, limits
from limbeck.students.quantised_layers import Quantised


FLOAT_BYTES = 4
LEVELS: dict[Bits, int] = {8: 256, 4: 16, 2: 4, "ternary": 3, 1: 2}
PER_BYTE: dict[Bits, int] = {8: 1, 4: 2, 2: 4, "ternary": 5, 1: 8}  # 3^5 = 243


@dataclass(frozen=True)
class PackedWeight:
    """The weight of one binary or quantised layer.

    Attributes:
        bits: Levels in row-major order, counted from the lowest one as 0, several a byte as its
            digits in the base of their number, the first the highest: 8 signs (the order of
            ``numpy.packbits``; 1 is +1 and 0 is -1), 5 ternary levels, 4 of 2 bits, 2 of 4 bits or
            1 of 8. The last byte is filled with zeros.
        scale: One factor a filter, in the type of the layer's parameters, or float32.
        shape: Of the weight: filters first.
        grid: Which grid the levels are of, as ``bits`` of :func:`quantised`; 1 for binary layers.
    """

    bits: UInt8[Tensor, " bytes"]
    scale: Float[Tensor, " filters"]
    shape: tuple[int, ...]
    grid: Bits = 1


@dataclass(frozen=True)
class LayerSize:
    """What one layer takes, in bytes.

    Attributes:
        layer: Dotted name.
        float_bytes: The plain layer that it stands for, all float32.
        stored_bytes: Parameters and activation range as the state dict holds them for training.
        packed_bytes: Weights packed at their bits, everything else in float32.
    """

    layer: str
    float_bytes: int
    stored_bytes: int
    packed_bytes: int


def packed_bits(model: nn.Module) -> dict[str, PackedWeight]:
    """Pack the weights of every binary and quantised layer at their bits.

    Args:
        model: A model with binary or quantised layers; it is not changed.

    Returns:
        Dotted name to packed weight, in the order of the model; the tensors are on the CPU.

    Raises:
        LayerError: If the model has neither binary nor quantised layers.

    Example:
        The mean is 1, so that the signs are + - - +: 1001 with four zeros behind.

        >>> layer = BinaryConv2d(1, 1, (1, 4))
        >>> _ = layer.weight.data.copy_(torch.tensor([1.0, -1.0, -1.0, 5.0]))
        >>> packed_bits(nn.Sequential(layer))["0"].bits
        tensor([144], dtype=torch.uint8)

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369: sign and scale are all that a filter needs.
    """
    found = {name: _levels_of(part) for name, part in model.named_modules()}
    packed = {name: _pack(*levels) for name, levels in found.items() if levels is not None}
    if not packed:
        raise LayerError(
            "packed_bits: expected a model with binary convolutions or quantised layers; got "
            f"{type(model).__name__} without any. Make one with `binary(model)` or "
            "`quantised(model)`."
        )
    return packed


def is_torchao_linear(part: nn.Module) -> bool:
    """Return whether a layer is torchao's linear layer for training with quantisation."""
    return isinstance(part, nn.Linear) and type(part).__module__.startswith("torchao.")


@torch.no_grad()
def _levels_of(part: nn.Module) -> tuple[Tensor, Tensor, Bits] | None:
    if isinstance(part, BinaryConv2d):
        return part.signs(), part.scale.flatten(), 1
    if isinstance(part, Quantised):
        return None if part.fixed else (*part.levels(), part.bits)
    return _torchao_levels(part) if is_torchao_linear(part) else None


def _torchao_levels(part: Any) -> tuple[Tensor, Tensor, Bits] | None:
    grid = part.weight_fake_quantizer
    bits = {"torch.int8": 8, "torch.int4": 4, "torch.int2": 2}.get(
        str(getattr(getattr(grid, "config", None), "dtype", None))
    )
    if bits is None:
        return None
    weight = grid(part.weight)
    if grid.scale.shape != (len(weight), 1) or grid.zero_point.any():
        return None  # a scale a group, or an offset: not what `quantised` makes
    return (weight / grid.scale).round(), grid.scale.flatten(), cast(Bits, bits)


def _lowest(grid: Bits) -> int:
    return -1 if grid in ("ternary", 1) else limits(cast(int, grid))[0]


def _places(grid: Bits) -> Tensor:
    return LEVELS[grid] ** torch.arange(PER_BYTE[grid] - 1, -1, -1)


def _pack(levels: Tensor, scale: Tensor, grid: Bits) -> PackedWeight:
    digits = (levels.cpu().flatten().to(torch.int64) - _lowest(grid)) // (2 if grid == 1 else 1)
    digits = nn.functional.pad(digits, (0, -len(digits) % PER_BYTE[grid]))
    packed = (digits.view(-1, PER_BYTE[grid]) * _places(grid)).sum(1)
    return PackedWeight(
        packed.to(torch.uint8), scale.detach().cpu().clone(), tuple(levels.shape), grid
    )


def unpacked_levels(name: str, packed: PackedWeight) -> Tensor:
    """Return the levels of a packed weight in its shape, in the type of its scale.

    Raises:
        ShapeError: If the bytes or the scales do not fit the weight's shape.
    """
    count, per_byte = torch.Size(packed.shape).numel(), PER_BYTE[packed.grid]
    if packed.bits.numel() != -(-count // per_byte) or packed.scale.numel() != packed.shape[0]:
        raise ShapeError(
            f"unpacked: expected for {name!r} of shape {packed.shape} {-(-count // per_byte)} "
            f"bytes and {packed.shape[0]} scales; got {packed.bits.numel()} and "
            f"{packed.scale.numel()}. Pack the model again."
        )
    digits = packed.bits.to(torch.int64)[:, None] // _places(packed.grid) % LEVELS[packed.grid]
    levels = digits.flatten()[:count] * (2 if packed.grid == 1 else 1) + _lowest(packed.grid)
    return levels.view(packed.shape).to(packed.scale.dtype)


def unpacked(packed: Mapping[str, PackedWeight]) -> dict[str, Tensor]:
    """Restore the effective weights, level times scale, exactly.

    Args:
        packed: As :func:`packed_bits` returns it.

    Returns:
        Name to weight, filters first, equal in every bit to the layer's effective weight on the
        CPU (:meth:`BinaryConv2d.effective_weight`, for one).

    Raises:
        ShapeError: If the bytes or the scales do not fit a weight's shape.

    Example:
        >>> bits = torch.tensor([144], dtype=torch.uint8)
        >>> packed = PackedWeight(bits, torch.tensor([0.5]), (1, 1, 1, 4))
        >>> unpacked({"conv": packed})["conv"].flatten()
        tensor([ 0.5000, -0.5000, -0.5000,  0.5000])

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369.
    """
    return {
        name: unpacked_levels(name, weight) * weight.scale.view(-1, *[1] * (len(weight.shape) - 1))
        for name, weight in packed.items()
    }


def size_table(model: nn.Module) -> list[LayerSize]:
    """Compare what each layer takes in float32, as it is trained, and with packed weights.

    Args:
        model: Any model; layers that are neither binary nor quantised take the same in the first
            and the last column.

    Returns:
        A row for every layer with parameters of its own [bytes]. A binary or quantised layer counts
        as the plain layer it stands for, weight and bias, against packed levels with scale, bias,
        threshold and activation range in float32. Other buffers, which are the same in all, are not
        counted.

    Example:
        288 weights take 1152 bytes or 36; four scales and eight thresholds take 48.

        >>> size_table(BinaryConv2d(8, 4, 3, bias=False))
        [LayerSize(layer='', float_bytes=1152, stored_bytes=1200, packed_bytes=84)]

    Source:
        Counted, not measured; the weights as :func:`packed_bits` packs them.
    """
    rows = []
    for name, part in model.named_modules():
        own = dict(part.named_parameters(recurse=False))
        if own:
            rows.append(LayerSize(name, *_sizes(part, own)))
    return rows


def _sizes(part: nn.Module, own: Mapping[str, nn.Parameter]) -> tuple[int, int, int]:
    stored = sum(parameter.numel() * parameter.element_size() for parameter in own.values())
    levels = _levels_of(part)
    if levels is None:
        full = FLOAT_BYTES * sum(parameter.numel() for parameter in own.values())
        return full, stored, full
    weight, filters = own["weight"].numel(), len(own["weight"])
    bias = own["bias"].numel() if "bias" in own else 0
    others = bias + filters
    others += part.threshold.numel() if isinstance(part, BinaryConv2d) else 0
    if isinstance(part, Quantised) and part.activation is not None:
        low_and_high = (part.activation.low, part.activation.high)
        stored += sum(buffer.element_size() for buffer in low_and_high)
        others += len(low_and_high)
    packed = -(-weight // PER_BYTE[levels[2]])
    return FLOAT_BYTES * (weight + bias), stored, packed + FLOAT_BYTES * others
