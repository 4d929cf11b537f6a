"""The features of sections 8.1 and 8.3 of the reference, and what tests of feature losses share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from limbeck.types import Batch, Outputs


# Printed to 12 decimals, float64: half a unit of the last one, and rounding.
DIGITS = {"rel": 1e-10, "abs": 2e-12}


def vectors() -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's: 6 samples, 4 features."""
    i = torch.arange(6, dtype=torch.float64)[:, None]
    k = torch.arange(4, dtype=torch.float64)
    student = torch.sin(1 + 0.7 * i + 1.3 * k + 0.11 * i * k)
    return student, torch.cos(0.5 + 0.9 * i - 0.4 * k + 0.07 * i * k)


def maps(rows: int, channels: int, side: int, phase: float) -> Tensor:
    """Return the fixture map(n, C, H, phi)."""
    sizes = [torch.arange(size, dtype=torch.float64) for size in (rows, channels, side, side)]
    a, c, y, x = torch.meshgrid(*sizes, indexing="ij")
    return torch.sin(phase + 0.8 * a + 1.1 * c + 0.5 * y - 0.3 * x + 0.2 * x * y)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return normal numbers in float64."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def turned(width: int, seed: int = 9) -> Tensor:
    """Return a rotation, possibly with a reflection."""
    return torch.linalg.qr(drawn(width, width, seed=seed))[0]


def batch_of(rows: int, targets: Tensor | None = None, mask: Tensor | None = None) -> Batch:
    """Return a batch of whose inputs nothing but the attention mask is used."""
    index = torch.arange(rows)
    inputs = torch.zeros(rows, 1) if mask is None else {"attention_mask": mask}
    return Batch(inputs, targets, index, index * 0)


def args(
    student: Tensor | dict[str, Tensor],
    teacher: Tensor | dict[str, Tensor],
    *,
    layer: str = "penultimate",
    targets: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Outputs, Outputs, Batch]:
    """Return what a loss is called with."""
    sides = [one if isinstance(one, dict) else {layer: one} for one in (student, teacher)]
    rows = len(next(iter(sides[0].values())))
    return Outputs(None, sides[0]), Outputs(None, sides[1]), batch_of(rows, targets, mask)


def prepared(loss: nn.Module, given: tuple[Outputs, Outputs, Batch]) -> nn.Module:
    """Return the loss after its first batch, as the loop makes it ready."""
    loss.prepare(*given)
    return loss


def value_and_gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[float, Tensor]:
    """Return a scalar function's value and gradient; both must be finite."""
    at = at.detach().clone().requires_grad_()
    value = function(at)
    (gradient,) = torch.autograd.grad(value, at)
    assert value.isfinite()
    assert gradient.isfinite().all()
    return value.item(), gradient


def assert_finite(function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Assert that a scalar function's value and gradient are finite."""
    value, gradient = value_and_gradient(function, at)
    assert math.isfinite(value)
    assert gradient.isfinite().all()
