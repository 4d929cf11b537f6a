"""The grids that quantised weights and activations lie on, with straight-through gradients."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from limbeck.checks import ArgumentError, check_between
from limbeck.students.signs import binarised


Bits = Literal[8, 4, 2, "ternary", 1]
GRIDS: tuple[Bits, ...] = (8, 4, 2, "ternary", 1)
ACTIVATION_LEVELS = 255
MOMENTUM = 0.01
TERNARY_THRESHOLD = 0.7
STEP_FLOOR = 1e-8
CANDIDATES = 100


class _Integer(torch.autograd.Function):
    """Round to multiples of a step; the step's gradient is that of LSQ, times a factor."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, step: Tensor, low: int, high: int, factor: float) -> Tensor:  # noqa: ARG004
        return (weight / step).round().clamp(low, high) * step

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Tensor, int, int, float],
        output: Tensor,  # noqa: ARG004
    ) -> None:
        weight, step, ctx.low, ctx.high, ctx.factor = inputs
        ctx.save_for_backward(weight, step)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (weight, step) = grad_outputs, ctx.saved_tensors
        scaled = weight / step
        clamped = scaled.clamp(ctx.low, ctx.high)
        inside = scaled == clamped
        slope = torch.where(inside, scaled.round() - scaled, clamped)
        axes = tuple(range(1, weight.ndim))
        for_step = (gradient * slope).sum(axes, keepdim=True) * ctx.factor
        return torch.where(inside, gradient, 0), for_step, None, None, None


class _Projected(torch.autograd.Function):
    """Ternary or 1-bit weights; the gradient passes as it is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, bits: Bits) -> Tensor:
        levels, scale = _levels(weight, bits)
        return levels * scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Bits], output: Tensor) -> None:
        """Keep nothing: the gradient does not depend on the input."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad_outputs[0], None


class _Round(torch.autograd.Function):
    """Round half to even; the gradient passes as it is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep nothing: the gradient does not depend on the input."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # noqa: ARG004
        return grad_outputs[0]


def check_bits(where: str, bits: object) -> None:
    """Raise ArgumentError unless ``bits`` names a grid."""
    if isinstance(bits, bool) or bits not in GRIDS:
        raise ArgumentError(
            f"{where}: expected `bits` to be one of 8, 4, 2, 'ternary', 1; got {bits!r}."
        )


def limits(bits: int) -> tuple[int, int]:
    """Return the lowest and highest level of a grid of integers: -2^(b-1) and 2^(b-1) - 1."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def start_step(weight: Float[Tensor, "filters ..."], *, bits: int) -> Float[Tensor, " filters"]:
    """Return the step of each filter whose rounded weights are nearest to it in squares.

    Args:
        weight: Filters along the first axis.
        bits: Of the grid of integers, 2 to 8.

    Returns:
        The best of 100 steps, evenly spaced up to the one at which the largest weight is the
        highest level [units of the weight]. A filter of zeros gets the layer's largest step, and a
        layer of zeros 1.

    Raises:
        ArgumentError: If ``bits`` is not in [2, 8].

    Example:
        Multiples of 0.5 between -2 and 1 steps are on the grid: nothing is lost.

        >>> start_step(torch.tensor([[0.5, -1.0, 0.0, -0.5]]), bits=2)
        tensor([0.5000])

    Source:
        The step that is learned: Esser et al. (2020), LSQ, arXiv:1902.08153, who start it at
        2 mean|w| / sqrt(2^(b-1) - 1); at 8 bits that is several times too coarse.
    """
    check_between("start_step", 2.0, 8.0, bits=bits)
    wide = _wide(weight.detach()).flatten(1)
    low, high = limits(bits)
    largest = wide.abs().amax(1, keepdim=True) / high
    best, least = torch.zeros_like(largest), torch.full_like(largest, torch.inf)
    for share in range(1, CANDIDATES + 1):
        step = largest * (share / CANDIDATES)
        safe = step.clamp(min=STEP_FLOOR)
        error = ((wide / safe).round().clamp(low, high) * safe - wide).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    best = best[:, 0]
    best = torch.where(best > STEP_FLOOR, best, best.max())
    return torch.where(best > STEP_FLOOR, best, 1.0).to(weight.dtype)


def integer_weight(
    weight: Float[Tensor, "filters ..."], step: Float[Tensor, " filters"], *, bits: int
) -> Float[Tensor, "filters ..."]:
    r"""Round every weight to a multiple of its filter's step.

    .. math:: \hat w = s \, \mathrm{clip}(\lfloor w / s \rceil, -2^{b-1}, 2^{b-1} - 1)

    The gradient of a weight passes inside of the grid and is zero outside. The gradient of a step
    is :math:`\lfloor w/s \rceil - w/s` inside and the nearest level outside, summed over the
    filter, times :math:`1 / \sqrt{n (2^{b-1} - 1)}` with n weights a filter.

    Args:
        weight: Filters along the first axis.
        step: One a filter, in units of the weight; its magnitude counts, 1e-8 at least.
        bits: Of the grid, 2 to 8.

    Returns:
        The weights on the grid, in float32 at least; halves are rounded to even.

    Raises:
        ArgumentError: If ``bits`` is not in [2, 8].

    Example:
        >>> weight = torch.tensor([[0.3, -0.8, 5.0]])
        >>> integer_weight(weight, torch.tensor([0.5]), bits=2)
        tensor([[ 0.5000, -1.0000,  0.5000]])

    Source:
        Esser et al. (2020), LSQ, arXiv:1902.08153, equations 1 to 5; one step a layer there, one a
        filter here, so that n counts the weights of a filter.
    """
    check_between("integer_weight", 2.0, 8.0, bits=bits)
    wide = _wide(weight)
    low, high = limits(bits)
    factor = (wide[0].numel() * high) ** -0.5
    return cast(Tensor, _Integer.apply(wide, _column(_size(step), wide), low, high, factor))


def ternary_weight(weight: Float[Tensor, "filters ..."]) -> Float[Tensor, "filters ..."]:
    r"""Replace every weight by -alpha, 0 or alpha of its filter.

    .. math:: \Delta = 0.7\, \mathrm{E}|w|, \qquad
              \alpha = \mathrm{E}\bigl[|w| \bigm| |w| > \Delta\bigr], \qquad
              \hat w = \alpha\, \mathrm{sign}(w)\, 1[|w| > \Delta]

    Args:
        weight: Filters along the first axis.

    Returns:
        Three values a filter, in float32 at least. Backward, the gradient passes unchanged.

    Example:
        The mean magnitude is 1, and two weights lie above 0.7: their mean magnitude is 1.75.

        >>> ternary_weight(torch.tensor([[1.5, -2.0, 0.25, -0.25]]))
        tensor([[ 1.7500, -1.7500,  0.0000, -0.0000]])

    Source:
        Li and Liu (2016), TWN, arXiv:1605.04711; threshold and scale are of a layer there, of a
        filter here.
    """
    return cast(Tensor, _Projected.apply(_wide(weight), "ternary"))


def one_bit_weight(weight: Float[Tensor, "filters ..."]) -> Float[Tensor, "filters ..."]:
    """Replace every weight by its sign times the mean magnitude of its filter.

    Args:
        weight: Filters along the first axis.

    Returns:
        Two values a filter, in float32 at least; sign(0) is +1. Backward, the gradient passes
        unchanged.

    Example:
        >>> one_bit_weight(torch.tensor([[1.0, -2.0, 0.0]]))
        tensor([[ 1., -1.,  1.]])

    Source:
        Rastegari et al. (2016), XNOR-Net, arXiv:1603.05279, section 3.1; their gradient has a
        further term through the scale, and a clip at 1.
    """
    return cast(Tensor, _Projected.apply(_wide(weight), 1))


def weight_levels(
    weight: Float[Tensor, "filters ..."], step: Tensor | None, *, bits: Bits
) -> tuple[Int8[Tensor, "filters ..."], Float[Tensor, " filters"]]:
    """Return the weights as integers and one scale a filter: their product lies on the grid.

    Args:
        weight: Filters along the first axis.
        step: One a filter for grids of integers; None for ``"ternary"`` and 1.
        bits: Which grid.

    Returns:
        Levels (no unit) and scales [units of the weight]; their product is in every bit what the
        function of that grid returns. No gradient.

    Raises:
        ArgumentError: If ``bits`` names no grid, or the step is missing or too much.

    Example:
        >>> weight_levels(torch.tensor([[1.5, -2.0, 0.25, -0.25]]), None, bits="ternary")
        (tensor([[ 1, -1,  0,  0]], dtype=torch.int8), tensor([1.7500]))

    Source:
        As :func:`integer_weight`, :func:`ternary_weight` and :func:`one_bit_weight`.
    """
    check_bits("weight_levels", bits)
    if (step is None) != (bits in ("ternary", 1)):
        raise ArgumentError(
            f"weight_levels: expected a `step` for 8, 4 and 2 bits only; got bits={bits!r} "
            f"and {'no' if step is None else 'a'} step."
        )
    wide = _wide(weight.detach())
    if step is None:
        levels, scale = _levels(wide, bits)
    else:
        scale = _column(_size(step.detach()), wide)
        levels = (wide / scale).round().clamp(*limits(cast(int, bits)))
    return levels.to(torch.int8), scale.flatten()


class ActivationGrid(nn.Module):
    r"""Round activations to 256 values between the running least and the running largest.

    With l and h the running range, zero included: :math:`s = (h - l) / 255`,
    :math:`z = \lfloor -l / s \rceil`, and :math:`\hat a = s (\mathrm{clip}(\lfloor a / s \rceil +
    z, 0, 255) - z)`. Zero is on the grid, so padding is exact; behind a ReLU l is zero and the grid
    unsigned. The gradient passes inside of the range and is zero outside. While training the range
    moves by ``momentum`` towards each batch's, and starts at that of the first one; before it,
    activations pass as they are.

    Args:
        momentum: Share of the newest batch in the running range, in (0, 1].

    Attributes:
        low: Running least value (zero at most), a scalar buffer in float32.
        high: Running largest value (zero at least), a scalar buffer in float32.

    Raises:
        ArgumentError: If ``momentum`` is not in (0, 1].

    Source:
        Jacob et al. (2018), arXiv:1712.05877, sections 2.1 and 3.1.
    """

    low: Tensor
    high: Tensor

    def __init__(self, momentum: float = MOMENTUM) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ArgumentError(f"ActivationGrid: expected `momentum` in (0, 1]; got {momentum}.")
        self.momentum = momentum
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the activations on the grid, in the type and shape given."""
        wide = _wide(x)
        if self.training and x.numel():
            self._follow(wide.detach())
        span = (self.high - self.low).to(wide.dtype)
        step = torch.where(span > 0, span, 1.0) / ACTIVATION_LEVELS
        zero = (-self.low.to(wide.dtype) / step).round()
        scaled = (wide / step).clamp(-zero, ACTIVATION_LEVELS - zero)
        rounded = cast(Tensor, _Round.apply(scaled)) * step
        return torch.where(span > 0, rounded, wide).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the settings as ``print`` shows them."""
        return f"momentum={self.momentum}"

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        seen = self.high > self.low
        extremes = ((self.low, x.amin().clamp(max=0)), (self.high, x.amax().clamp(min=0)))
        for running, extreme in extremes:
            now = extreme.to(running.dtype)
            running.copy_(torch.where(seen, running + self.momentum * (now - running), now))


def _levels(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    axes = tuple(range(1, weight.ndim))
    size = weight.abs()
    mean = size.mean(axes, keepdim=True)
    if bits == 1:
        return binarised(weight), mean
    above = (size > TERNARY_THRESHOLD * mean).to(weight.dtype)
    scale = (size * above).sum(axes, keepdim=True) / above.sum(axes, keepdim=True).clamp(min=1)
    return weight.sign() * above, scale


def _size(step: Tensor) -> Tensor:
    wide = _wide(step)
    return torch.where(wide < 0, -wide, wide).clamp(min=STEP_FLOOR)


def _column(step: Tensor, weight: Tensor) -> Tensor:
    return step.reshape(-1, *[1] * (weight.ndim - 1)).to(weight.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
