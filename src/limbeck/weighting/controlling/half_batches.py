"""What the controllers of the weight share: products of gradients of two half-batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError, check_positive
from limbeck.losses.numerics import at_least_float32


Z = 1.96  # of a two-sided interval of 95 %
Scalar = float | int | Tensor
Halves = tuple[list[Tensor], list[Tensor]]


def ratio_interval(
    top: Tensor, bottom: Tensor, covariance: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ends of Fieller's interval; the whole line where the denominator may be zero.

    ``covariance`` holds the variance of the numerator, the covariance and that of the denominator.
    """
    ratio = top / bottom
    s_aa, s_ad, s_dd = z**2 * covariance / bottom**2
    q2, middle, q0 = 1 - s_dd, ratio - s_ad, ratio**2 - s_aa
    root = (middle**2 - q2 * q0).clamp_min(0.0).sqrt()
    bounded = (q2 > 0) & (bottom > 0)
    low = torch.where(bounded, (middle - root) / q2, -torch.inf)
    return low, torch.where(bounded, (middle + root) / q2, torch.inf)


def student_quantile(count: Tensor) -> Tensor:
    """Return Student's 97.5 % quantile of count - 1 degrees of freedom, in a series about 1.96.

    Cornish and Fisher's; 4.17 instead of 4.30 at 2 degrees, right to 1 % from 3 on.
    """
    per = 1 / (count - 1).clamp_min(1e-6)
    first, second = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + per * (first + per * (second + per * third))


def inner(
    one: Sequence[Tensor], two: Sequence[Tensor], metric: Sequence[Tensor] | None
) -> Float[Tensor, ""]:
    """Return the inner product over all parameters, in float32 at least."""
    metrics = [None] * len(one) if metric is None else metric
    parts: list[Tensor] = []
    for left, right, scale in zip(one, two, metrics, strict=True):
        a, b = at_least_float32(left.detach(), right.detach().to(left.device))
        parts.append((a * b if scale is None else scale * a * b).sum())
    return torch.stack(parts).sum()


def halves_apart(where: str, halves: Halves) -> list[Tensor]:
    """Return the first half minus the second, in float32 at least."""
    one, two = halves
    check_same_parameters(where, one, two)
    wide = (at_least_float32(a.detach(), b.detach()) for a, b in zip(one, two, strict=True))
    return [a - b for a, b in wide]


def beside(number: Scalar, like: Tensor) -> Float[Tensor, ""]:
    """Return a number beside a tensor; filling, unlike copying, does not wait for the device."""
    if isinstance(number, Tensor):
        return number.detach().to(like)
    return like.new_full((), float(number))


def setting_of(like: Tensor, learning_rate: Scalar, batch_size: int) -> dict[str, Tensor]:
    """Return learning rate and batch size as tensors beside another."""
    return {"learning_rate": beside(learning_rate, like), "batch_size": beside(batch_size, like)}


def kept(
    keep: Bool[Tensor, ""], new: dict[str, Tensor], old: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the new numbers where ``keep``, else the old ones; zeros where there are none."""
    before = {
        name: old[name].to(value) if old else value.new_zeros(()) for name, value in new.items()
    }
    return {name: torch.where(keep, value, before[name]) for name, value in new.items()}


def check_maximum(where: str, maximum: float) -> None:
    """Raise ArgumentError unless the largest weight lies in (0, 1]."""
    if not 0 < maximum <= 1:
        raise ArgumentError(
            f"{where}: expected `maximum` in (0, 1]; got {maximum}. 1 leaves the weight free."
        )


def check_setting(
    where: str, rows: float | int, learning_rate: Scalar, batch_size: int, **others: Scalar
) -> None:
    """Raise ArgumentError unless every number that is known here is finite and above zero."""
    numbers = {"rows": rows, "learning_rate": learning_rate, "batch_size": batch_size, **others}
    # A tensor is not looked at: that would wait for it.
    check_positive(where, **{n: x for n, x in numbers.items() if not isinstance(x, Tensor)})


def check_same_parameters(where: str, one: Sequence[Tensor], two: Sequence[Tensor]) -> None:
    """Raise ShapeError unless two lists of gradients, not empty, have the same shapes."""
    shapes = [[tuple(tensor.shape) for tensor in half] for half in (one, two)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ShapeError(
            f"{where}: expected gradients of the same parameters, one at least; got shapes "
            f"{shapes[0]} and {shapes[1]}. Keep one order, with zeros where there is no gradient."
        )


def check_started(where: str, setting: dict[str, Tensor]) -> None:
    """Raise ArgumentError before the first measurement."""
    if not setting:
        raise ArgumentError(f"{where}: expected a measurement first; got none. Call observe().")
