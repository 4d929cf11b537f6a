"""Convolutions and linear layers whose weights and inputs lie on a grid while they train."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError
from limbeck.students.grids import (
    ActivationGrid,
    Bits,
    check_bits,
    integer_weight,
    one_bit_weight,
    start_step,
    ternary_weight,
    weight_levels,
)


class Quantised(nn.Module):
    """What convolutions and linear layers on a grid share.

    Attributes:
        bits: Grid of the weights.
        fixed: Whether the weights were put on their grid for good, see :meth:`fix`.
        step: Learnable step of each filter, [filters]; None for ``"ternary"`` and 1.
        activation: The grid of the inputs, or None.
    """

    weight: Any
    bias: Any
    step: nn.Parameter | None
    bits: Bits

    def _start(self, bits: Bits, activation_bits: int | None) -> None:
        where = type(self).__name__
        check_precision(where, bits, activation_bits)
        if self.weight[0].numel() < 2:
            raise ShapeError(
                f"{where}: expected two weights a filter at least; got weights "
                f"{tuple(self.weight.shape)}. Leave this layer in full precision."
            )
        self.bits, self.fixed = bits, False
        self.activation = None if activation_bits is None else ActivationGrid()
        step = None if bits in ("ternary", 1) else nn.Parameter(self._first_step())
        self.register_parameter("step", step)

    def _first_step(self) -> Tensor:
        if self.weight.is_meta:
            return self.weight.new_empty(len(self.weight))
        return start_step(self.weight, bits=cast(int, self.bits))

    def _take_over(self, layer: nn.Conv2d | nn.Linear) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        if self.step is not None:
            self.step = nn.Parameter(self._first_step())
        self.train(layer.training)
        if self.activation is not None:
            self.activation.to(layer.weight.device)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        plain = f"{prefix}weight" in state_dict and f"{prefix}step" not in state_dict
        if plain and self.step is not None:
            with torch.no_grad():
                self.step.copy_(self._first_step())

    def effective_weight(self) -> Float[Tensor, "filters ..."]:
        """Return the weights on their grid, in float32 at least, with gradients."""
        if self.fixed:
            return self.weight
        if self.bits == "ternary":
            return ternary_weight(self.weight)
        if self.bits == 1:
            return one_bit_weight(self.weight)
        return integer_weight(self.weight, cast(Tensor, self.step), bits=self.bits)

    def fix(self) -> None:
        """Put the weights on their grid for good: they are not rounded any more, nor trained."""
        weight = self.effective_weight().detach().clone()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.step, self.fixed = None, True

    def levels(self) -> tuple[Int8[Tensor, "filters ..."], Float[Tensor, " filters"]]:
        """Return integers and one scale a filter whose product is the effective weight."""
        return weight_levels(self.weight, self.step, bits=self.bits)

    def _ready(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x if self.activation is None else self.activation(x)
        return x, self.effective_weight().to(x.dtype)

    def _precision(self) -> str:
        return f", bits={self.bits!r}, activation_bits={None if self.activation is None else 8}" + (
            ", fixed" if self.fixed else ""
        )


class FakeQuantisedConv2d(Quantised, nn.Conv2d):
    """Convolve activations on a grid of 8 bits with weights on a grid of few bits.

    The layer computes in floating point and keeps its weights in full precision for the optimiser;
    its output is that of weights and activations on their grids. Arguments that are not listed are
    those of :class:`torch.nn.Conv2d`.

    Args:
        bits: Grid of the weights: 8, 4 and 2 are integers times a learned step a filter
            (:func:`integer_weight`), ``"ternary"`` is :func:`ternary_weight` and 1
            :func:`one_bit_weight`.
        activation_bits: 8 for :class:`ActivationGrid`, None for activations as they are.

    Attributes:
        step: Learnable, [out_channels], None for ``"ternary"`` and 1; starts where the rounded
            weights are nearest in squares, see :func:`start_step`.
        activation: The :class:`ActivationGrid`, or None.

    Raises:
        ArgumentError: If ``bits`` or ``activation_bits`` is not one of those.
        ShapeError: If a filter has a single weight, as in a grouped 1x1 convolution.

    Source:
        As the grids: Esser et al. (2020), arXiv:1902.08153; Li and Liu (2016), arXiv:1605.04711;
        Rastegari et al. (2016), arXiv:1603.05279; Jacob et al. (2018), arXiv:1712.05877.
    """

    def __init__(
        self, *args: Any, bits: Bits = 8, activation_bits: int | None = 8, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._start(bits, activation_bits)

    @classmethod
    def from_float(
        cls, conv: nn.Conv2d, *, bits: Bits = 8, activation_bits: int | None = 8
    ) -> FakeQuantisedConv2d:
        """Return the quantised counterpart of a convolution, with its weight and bias themselves.

        Args:
            conv: A convolution of any stride, padding, dilation and groups.
            bits: As the class takes it.
            activation_bits: As the class takes it.

        Returns:
            The layer, on the device, in the type and in the mode (training or not) of ``conv``,
            whose parameters it shares: tied weights stay tied.

        Raises:
            ArgumentError: As the class does.
            ShapeError: As the class does.
        """
        made = cls(
            conv.in_channels,
            conv.out_channels,
            cast(Any, conv.kernel_size),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",  # draws no random numbers
            bits=bits,
            activation_bits=activation_bits,
        )
        made._take_over(conv)
        return made

    def forward(self, input: Float[Tensor, "*batch channels height width"]) -> Tensor:
        """Return the maps [..., out_channels, height_out, width_out], in the type of torch's."""
        x, weight = self._ready(input)
        return self._conv_forward(x, weight, self.bias)

    def extra_repr(self) -> str:
        """Return the settings as ``print`` shows them."""
        return super().extra_repr() + self._precision()


class FakeQuantisedLinear(Quantised, nn.Linear):
    """Multiply activations on a grid of 8 bits with ternary or 1-bit weights.

    torchao trains linear layers of 8, 4 and 2 bits; it has no ternary grid, and its grid of one bit
    is -1 and 0. Arguments, attributes and errors are those of :class:`FakeQuantisedConv2d`, and of
    :class:`torch.nn.Linear`.
    """

    def __init__(
        self, *args: Any, bits: Bits = "ternary", activation_bits: int | None = 8, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._start(bits, activation_bits)

    @classmethod
    def from_float(
        cls, linear: nn.Linear, *, bits: Bits = "ternary", activation_bits: int | None = 8
    ) -> FakeQuantisedLinear:
        """Return the quantised counterpart of a linear layer, with its weight and bias themselves.

        Args:
            linear: A linear layer.
            bits: As the class takes it.
            activation_bits: As the class takes it.

        Returns:
            The layer, which shares the parameters of ``linear``.
        """
        made = cls(
            linear.in_features,
            linear.out_features,
            bias=cast(Any, linear.bias) is not None,
            device="meta",
            bits=bits,
            activation_bits=activation_bits,
        )
        made._take_over(linear)
        return made

    def forward(self, input: Float[Tensor, "*batch width"]) -> Tensor:
        """Return [..., out_features], in the type of torch's."""
        x, weight = self._ready(input)
        return nn.functional.linear(x, weight, self.bias)

    def extra_repr(self) -> str:
        """Return the settings as ``print`` shows them."""
        return super().extra_repr() + self._precision()


def check_precision(where: str, bits: object, activation_bits: object) -> None:
    """Raise ArgumentError unless both name a grid."""
    check_bits(where, bits)
    if activation_bits not in (8, None):
        raise ArgumentError(
            f"{where}: expected `activation_bits` to be 8 or None; got {activation_bits!r}."
        )
