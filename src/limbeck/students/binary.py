"""Binary convolutions (1-bit weights, 1-bit activations), and students made of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, LayerError, ModelError, ShapeError, nearest
from limbeck.students.conversions import conversion
from limbeck.students.signs import (
    TAU_START,
    VARIANCE_FLOOR,
    binarised,
    binary_activation,
    check_tau,
    pulled_in,
    quantile,
)


TAU_END = 0.99


class BinaryConv2d(nn.Conv2d):
    """Convolve the signs of the activations with the signs of the weights, times a scale.

    The output is ``scale[c] * conv(sign(a - threshold), sign(rectified(weight, tau)))``, plus the
    bias if there is one. sign(0) is +1 on both sides; padding adds zeros after the sign. In
    training what is above or below the threshold is divided by its deviation within the sample
    before the sign, which changes gradients only. Arguments that are not listed are those of
    :class:`torch.nn.Conv2d`.

    Args:
        tau: Where the weights are clamped, in (0.5, 1). It shapes gradients, never an output,
            and is not part of the state dict. :func:`limbeck.distill` moves it from epoch to
            epoch by :func:`tau`; in a loop of one's own see :func:`set_tau`.
        threshold: Start of the learnable threshold of each input channel, in units of the
            activations. After a ReLU it must be above zero: the sign would be +1 everywhere.

    Attributes:
        scale: Learnable, [out_channels, 1, 1]; starts at the mean magnitude of each centred
            filter, the scale whose signs are nearest to that filter in squares.
        threshold: Learnable, [in_channels, 1, 1].

    Raises:
        ArgumentError: If ``tau`` is not in (0.5, 1), or ``threshold`` is not finite.
        ShapeError: If a filter has a single weight, as in a grouped 1x1 convolution.

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369 (scale: uniform in [0, 1) there; without
        thresholds); thresholds: Liu et al. (2020), ReActNet, arXiv:2003.03488.
    """

    def __init__(
        self, *args: Any, tau: float = TAU_START, threshold: float | int = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tau = tau
        if not math.isfinite(threshold):
            raise ArgumentError(f"BinaryConv2d: expected finite `threshold`; got {threshold}.")
        weight = self.weight.detach()
        if weight[0].numel() < 2:
            raise ShapeError(
                "BinaryConv2d: expected two weights a filter at least; got weights "
                f"{tuple(weight.shape)}. Leave this layer in full precision."
            )
        self.scale = nn.Parameter(_mean_magnitude(weight))
        self.threshold = nn.Parameter(weight.new_full((self.in_channels, 1, 1), threshold))

    @classmethod
    def from_float(
        cls, conv: nn.Conv2d, *, tau: float = TAU_START, threshold: float | int = 0.0
    ) -> BinaryConv2d:
        """Return the binary counterpart of a convolution, with a copy of weights and bias.

        Args:
            conv: A convolution of any stride, padding, dilation and groups.
            tau: As the class takes it.
            threshold: As the class takes it.

        Returns:
            The layer, on the device, in the type and in the mode (training or not) of ``conv``.

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
            dtype=conv.weight.dtype,
            tau=tau,
            threshold=threshold,
        )
        weight, bias = conv.weight.detach(), conv.bias
        made.weight = nn.Parameter(weight.clone(), conv.weight.requires_grad)
        made.scale = nn.Parameter(_mean_magnitude(weight))
        made.threshold = nn.Parameter(weight.new_full((conv.in_channels, 1, 1), threshold))
        if bias is not None:
            made.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
        return made.train(conv.training)

    @property
    def tau(self) -> float:
        """Where the weights are clamped, in (0.5, 1)."""
        return self._tau

    @tau.setter
    def tau(self, value: float) -> None:
        check_tau("BinaryConv2d", tau=value)
        self._tau = value
        # A tensor: a number would make torch.compile compile anew in every epoch. Not a buffer: a
        # layer made narrower keeps it whole, and averages and other processes leave it alone.
        self._limit = torch.tensor(quantile(value), dtype=torch.float64, device="cpu")

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set tau by the published schedule; the training loop calls this before each epoch.

        Args:
            epoch: The epoch that begins, from 0.
            epochs: Their number.

        Raises:
            ArgumentError: As :func:`tau` does.
        """
        self.tau = tau(epoch, epochs)

    def signs(self) -> Float[Tensor, "filters channels height width"]:
        """Return the signs of the weights, -1 and +1, with a straight-through gradient."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        return binarised(pulled_in(self.weight, self._limit.to(wide)))

    def effective_weight(self) -> Float[Tensor, "filters channels height width"]:
        """Return signs times scale: two values a filter, in the units of the scale."""
        return self.signs().to(self.scale.dtype) * self.scale[..., None]

    def forward(self, input: Float[Tensor, "*batch channels height width"]) -> Tensor:
        """Return the maps [..., out_channels, height_out, width_out], in the type of torch's."""
        bits = binary_activation(self._scaled(input - self.threshold.to(input.dtype)))
        maps = self._conv_forward(bits, self.signs().to(bits.dtype), None)
        maps = maps * self.scale.to(maps.dtype)
        return maps if self.bias is None else maps + self.bias.to(maps.dtype)[:, None, None]

    def _scaled(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        correction = min(1, wide.shape[-3:].numel() - 1)
        variance = wide.var((-3, -2, -1), keepdim=True, correction=correction)
        return (wide / (variance + VARIANCE_FLOOR).sqrt()).to(x.dtype)


def _mean_magnitude(weight: Tensor) -> Tensor:
    wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32)).flatten(1)
    size = (wide - wide.mean(1, keepdim=True)).abs().mean(1)
    return size.to(weight.dtype)[:, None, None]


def tau(epoch: float | int, epochs: int, start: float = TAU_START, end: float = TAU_END) -> float:
    r"""Return where to clamp in an epoch: from ``start`` to ``end``, ever faster.

    .. math:: \tau(e) = \tau_0 + (\tau_1 - \tau_0)\, \frac{\exp(e / E) - 1}{\exp(1) - 1}

    Args:
        epoch: The epoch e, in [0, epochs]; fractions are allowed.
        epochs: Their number E, above zero.
        start: Value at epoch 0, in (0.5, 1).
        end: Value at epoch E, in (0.5, 1).

    Returns:
        The clamp's quantile (no unit), for :func:`set_tau`.

    Raises:
        ArgumentError: If an argument lies outside of its range.

    Example:
        >>> round(tau(300, 600), 6)
        0.902856

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369, the schedule of its authors' code.
    """
    if not (epochs > 0 and 0 <= epoch <= epochs):
        raise ArgumentError(
            f"tau: expected 0 <= `epoch` <= `epochs` and `epochs` > 0; got {epoch} and {epochs}."
        )
    check_tau("tau", start=start, end=end)
    return start + (end - start) * math.expm1(epoch / epochs) / math.expm1(1)


def set_tau(model: nn.Module, value: float) -> None:
    """Set where every binary convolution of a model clamps its weights.

    Args:
        model: A model with binary convolutions; changed in place.
        value: In (0.5, 1), most often of :func:`tau`.

    Raises:
        ArgumentError: If ``value`` is not in (0.5, 1).
        LayerError: If the model has no binary convolution.

    Example:
        >>> layer = BinaryConv2d(1, 1, 3)
        >>> set_tau(layer, 0.9)
        >>> layer.tau
        0.9

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369.
    """
    check_tau("set_tau", value=value)
    layers = [part for part in model.modules() if isinstance(part, BinaryConv2d)]
    if not layers:
        raise LayerError(
            f"set_tau: expected a model with binary convolutions; got {type(model).__name__} "
            "without any. Make one with `binary(model)`."
        )
    for layer in layers:
        layer.tau = value


@conversion
def binary(
    model: nn.Module, *, keep: Collection[str] | None = None, threshold: float | int = 0.5
) -> nn.Module:
    """Return a copy of a CNN whose convolutions are binary, all but the first.

    Linear layers stay in full precision, and with them the last layer of most networks; where the
    last layer is a convolution, name it in ``keep``. The first convolution is the first in the
    order in which the model registers them.

    Args:
        model: The model; it is not changed. Its :class:`torch.nn.Conv2d` layers are replaced.
        keep: Dotted names of modules that stay as they are, with everything inside of them.
        threshold: Where each activation's sign turns at the start, see :class:`BinaryConv2d`; zero
            for models whose convolutions get signed maps, above zero for those with ReLUs.

    Returns:
        The copy, with weights and names of the original; hooks on replaced layers are not taken
        over. A model that says in ``limbeck_source`` how it was built, as those of the zoo do, has
        the conversion added there, and a saved copy comes back by itself.

    Raises:
        LayerError: If a name in ``keep`` is unknown, or no convolution is left to replace.
        ModelError: If a convolution is of a class of its own, or has one weight a filter.
        ArgumentError: If ``threshold`` is not finite.

    Example:
        >>> binary(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3)))[2]
        BinaryConv2d(2, 2, kernel_size=(3, 3), stride=(1, 1))

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369: which layers stay in full precision.
    """
    kept = [keep] if isinstance(keep, str) else list(keep or ())
    known = {name: part for name, part in model.named_modules(remove_duplicate=False) if name}
    for name in kept:
        if name not in known:
            raise LayerError(
                f"binary: expected in `keep` names of layers of {type(model).__name__}; got "
                f"{name!r}, which it does not have.{nearest(name, known)} Names are those of "
                "`model.named_modules()`."
            )
    copied = copy.deepcopy(model)
    places = [
        (name, part)
        for name, part in copied.named_modules(remove_duplicate=False)
        if isinstance(part, nn.Conv2d) and not isinstance(part, BinaryConv2d) and name
    ]
    spared = {id(part) for name, part in places if _inside(name, kept)}
    spared |= {id(part) for _, part in places[:1]}
    made: dict[int, BinaryConv2d] = {}
    for name, part in places:
        if id(part) not in spared:
            if id(part) not in made:
                made[id(part)] = _converted(name, part, threshold)
            copied.set_submodule(name, made[id(part)])
    if not made:
        raise LayerError(
            f"binary: expected a convolution to replace beside the first one and `keep`; got "
            f"{type(model).__name__} with {len(places)} in full precision and {kept} kept. "
            "Name fewer layers, or take a deeper network."
        )
    return copied


def _inside(name: str, kept: Collection[str]) -> bool:
    return any(name == outer or name.startswith(f"{outer}.") for outer in kept)


def _converted(name: str, conv: nn.Conv2d, threshold: float | int) -> BinaryConv2d:
    if type(conv) is not nn.Conv2d or conv.weight[0].numel() < 2:
        raise ModelError(
            f"binary: expected {name!r} to be a torch.nn.Conv2d with two weights a filter at "
            f"least; got {type(conv).__name__} with weights {tuple(conv.weight.shape)}. "
            "Name it in `keep`."
        )
    return BinaryConv2d.from_float(conv, threshold=threshold)
