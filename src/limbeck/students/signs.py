"""Signs with surrogate gradients, and the clamp of weights before them."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError


VARIANCE_FLOOR = 1e-5
TAU_START = 0.85


class _Sign(torch.autograd.Function):
    """Sign with sign(0) = +1; the gradient passes as it is. What is not a number stays so."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _signs(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep nothing: the gradient does not depend on the input."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # noqa: ARG004
        return grad_outputs[0]


class _PolynomialSign(torch.autograd.Function):
    """Sign with sign(0) = +1; the gradient is multiplied by max(0, 2 - 2 abs(x))."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _signs(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * (2 - 2 * x.abs()).clamp(min=0)


def _signs(x: Tensor) -> Tensor:
    ones = torch.ones_like(x)
    return torch.where(x >= 0, ones, torch.where(x < 0, -ones, x))


def rectified(
    weight: Float[Tensor, "filters ..."], tau: float = TAU_START
) -> Float[Tensor, "filters ..."]:
    r"""Standardise every filter and pull in the weights of the layer that lie far out.

    .. math:: w_1 = 2\sqrt{2}\, \frac{w - \bar w}{\sqrt{\mathrm{var}(w) + 10^{-5}}}, \qquad
              Q = -\mathrm{E}|w_1| \ln(2 - 2\tau), \qquad w_2 = \min(\max(w_1, -Q), Q)

    Mean and unbiased variance are of each filter, the expectation of the whole layer; Q is the
    quantile :math:`\tau` of a Laplace distribution with that mean magnitude. The signs are those
    of the centred weights, whatever :math:`\tau` is.

    Args:
        weight: Filters along the first axis, with two weights each at least.
        tau: Share of the distribution below Q, in (0.5, 1).

    Returns:
        The rectified weights (no unit) in float32 at least, in the shape given; no gradient
        reaches Q, nor a weight through its own clamp.

    Raises:
        ArgumentError: If ``tau`` is not in (0.5, 1).
        ShapeError: If a filter has fewer than two weights: its centred weight is always zero.

    Example:
        Centred, the weights are -1 and 1, their variance is 2, so that w_1 = ±2; Q = -2 ln 0.3.

        >>> import torch
        >>> rectified(torch.tensor([[1.0, 3.0]]), tau=0.85)
        tensor([[-2.0000,  2.0000]])

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369; constants as in the code of its authors.
    """
    check_tau("rectified", tau=tau)
    if weight.ndim < 2 or weight[0].numel() < 2:
        raise ShapeError(
            f"rectified: expected two weights a filter at least; got {tuple(weight.shape)}. "
            "Leave this layer in full precision."
        )
    return pulled_in(weight, quantile(tau))


def quantile(tau: float) -> float:
    """Return the quantile ``tau`` of the magnitude's Laplace distribution, in its own mean."""
    return -math.log(2 - 2 * tau)


def pulled_in(weight: Tensor, limit: float | Tensor) -> Tensor:
    """Return what :func:`rectified` does, with the limit in mean magnitudes, perhaps a tensor."""
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    axes = tuple(range(1, wide.ndim))
    variance = wide.var(axes, keepdim=True)
    centred = wide - wide.mean(axes, keepdim=True)
    scaled = centred * (2 * math.sqrt(2)) / (variance + VARIANCE_FLOOR).sqrt()
    far = scaled.detach().abs().mean() * limit
    return scaled.clamp(-far, far)


def binarised(weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the sign of every weight, with the gradient of the identity.

    Args:
        weight: Weights of any shape, most often :func:`rectified`.

    Returns:
        -1 below zero, +1 above and at zero, in the type given; NaN stays NaN. Backward, the
        gradient passes unchanged.

    Example:
        >>> import torch
        >>> binarised(torch.tensor([-0.2, 0.0, 3.0]))
        tensor([-1.,  1.,  1.])

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369; there sign(0) is 0, here +1, which one bit holds.
    """
    return cast(Tensor, _Sign.apply(weight))


def binary_activation(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the sign of every activation, with a piecewise polynomial's gradient.

    Backward, the gradient is multiplied by max(0, 2 - 2 abs(x)): the derivative of 2x + x² below
    zero and of 2x - x² above it, within [-1, 1].

    Args:
        x: Activations of any shape.

    Returns:
        -1 below zero, +1 above and at zero, in the type given; NaN stays NaN.

    Example:
        >>> import torch
        >>> x = torch.tensor([-2.0, -0.25, 0.0, 0.5], requires_grad=True)
        >>> binary_activation(x).sum().backward()
        >>> x.grad
        tensor([0.0000, 1.5000, 2.0000, 1.0000])

    Source:
        Liu et al. (2018), Bi-Real Net, arXiv:1808.00278, the approximation of the sign.
    """
    return cast(Tensor, _PolynomialSign.apply(x))


def check_tau(where: str, **values: float) -> None:
    """Raise ArgumentError unless every value lies in (0.5, 1), where the clamp is above zero."""
    for name, value in values.items():
        if not 0.5 < value < 1:
            raise ArgumentError(f"{where}: expected `{name}` in (0.5, 1); got {value}.")
