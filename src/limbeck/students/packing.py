"""Binary weights as they are shipped: eight signs a byte and one scale a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from limbeck.checks import LayerError, ShapeError
from limbeck.students.binary import BinaryConv2d


FLOAT_BYTES = 4


@dataclass(frozen=True)
class PackedWeight:
    """The weight of one binary convolution.

    Attributes:
        bits: Signs in row-major order, eight a byte, the first in the highest bit (the order of
            ``numpy.packbits``); 1 is +1 and 0 is -1, and the last byte is filled with zeros.
        scale: One factor a filter, in the type of the layer's parameters.
        shape: Of the weight: filters, channels a group, height, width.
    """

    bits: UInt8[Tensor, " bytes"]
    scale: Float[Tensor, " filters"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LayerSize:
    """What one layer's own parameters take, in bytes: all float32, and with packed signs."""

    layer: str
    float_bytes: int
    packed_bytes: int


def packed_bits(model: nn.Module) -> dict[str, PackedWeight]:
    """Pack the weights of every binary convolution, one bit each.

    Args:
        model: A model with binary convolutions; it is not changed.

    Returns:
        Dotted name to packed weight, in the order of the model; the tensors are on the CPU.

    Raises:
        LayerError: If the model has no binary convolution.

    Example:
        The mean is 1, so that the signs are + - - +: 1001 with four zeros behind.

        >>> layer = BinaryConv2d(1, 1, (1, 4))
        >>> _ = layer.weight.data.copy_(torch.tensor([1.0, -1.0, -1.0, 5.0]))
        >>> packed_bits(nn.Sequential(layer))["0"].bits
        tensor([144], dtype=torch.uint8)

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369: sign and scale are all that a filter needs.
    """
    packed = {
        name: _pack(part) for name, part in model.named_modules() if isinstance(part, BinaryConv2d)
    }
    if not packed:
        raise LayerError(
            f"packed_bits: expected a model with binary convolutions; got {type(model).__name__} "
            "without any. Make one with `binary(model)`."
        )
    return packed


def _pack(layer: BinaryConv2d) -> PackedWeight:
    positive = (layer.signs().detach() > 0).cpu().numpy()
    return PackedWeight(
        torch.from_numpy(np.packbits(positive)),
        layer.scale.detach().flatten().cpu().clone(),
        tuple(layer.weight.shape),
    )


def unpacked(packed: Mapping[str, PackedWeight]) -> dict[str, Tensor]:
    """Restore the effective weights, sign times scale, exactly.

    Args:
        packed: As :func:`packed_bits` returns it.

    Returns:
        Name to weight [filters, channels a group, height, width], equal in every bit to
        :meth:`BinaryConv2d.effective_weight` on the CPU.

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
    return {name: _unpack(name, weight) for name, weight in packed.items()}


def _unpack(name: str, packed: PackedWeight) -> Tensor:
    count = int(np.prod(packed.shape))
    if packed.bits.numel() != -(-count // 8) or packed.scale.numel() != packed.shape[0]:
        raise ShapeError(
            f"unpacked: expected for {name!r} of shape {packed.shape} {-(-count // 8)} bytes and "
            f"{packed.shape[0]} scales; got {packed.bits.numel()} and {packed.scale.numel()}. "
            "Pack the model again."
        )
    bits = torch.from_numpy(np.unpackbits(packed.bits.numpy(), count=count)).view(packed.shape)
    signs = 2 * bits.to(packed.scale.dtype) - 1
    return signs * packed.scale.view(-1, *[1] * (len(packed.shape) - 1))


def size_table(model: nn.Module) -> list[LayerSize]:
    """Compare what each layer takes in float32 with what it takes when signs are packed.

    Args:
        model: Any model; layers that are not binary take the same in both columns.

    Returns:
        A row for every layer with parameters of its own [bytes]. A binary convolution counts as
        the convolution it stands for, weight and bias, against packed signs with scale, threshold
        and bias in float32. Buffers, which are the same in both, are not counted.

    Example:
        288 weights take 1152 bytes or 36; four scales and eight thresholds take 48.

        >>> size_table(BinaryConv2d(8, 4, 3, bias=False))
        [LayerSize(layer='', float_bytes=1152, packed_bytes=84)]

    Source:
        Counted, not measured; the signs as :func:`packed_bits` packs them.
    """
    rows = []
    for name, part in model.named_modules():
        own = dict(part.named_parameters(recurse=False))
        full = FLOAT_BYTES * sum(parameter.numel() for parameter in own.values())
        if isinstance(part, BinaryConv2d):
            weight, extra = part.weight.numel(), part.scale.numel() + part.threshold.numel()
            packed = full - FLOAT_BYTES * weight + -(-weight // 8)
            rows.append(LayerSize(name, full - FLOAT_BYTES * extra, packed))
        elif own:
            rows.append(LayerSize(name, full, full))
    return rows
