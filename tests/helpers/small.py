"""Small data, networks and arguments that the training tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.students import binary, quantised


def rows(count: int = 48, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return vectors around class centres, [count, 6], and their classes."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % classes
    centres = 2.0 * torch.randn(classes, 6, generator=torch.Generator().manual_seed(99))
    return centres[targets] + torch.randn(count, 6, generator=generator), targets


def network(
    width: int = 8, outputs: int = 3, seed: int = 0, *, norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Return a two-layer perceptron with weights that depend on ``seed`` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: list[nn.Module] = [nn.Linear(6, width)]
        if norm:
            parts.append(nn.BatchNorm1d(width))
        parts += [nn.ReLU()]
        if dropout:
            parts.append(nn.Dropout(dropout))
        return nn.Sequential(*parts, nn.Linear(width, outputs))


def good_teacher(classes: int = 3) -> nn.Module:
    """Return a teacher that is right on :func:`rows`: the nearest class centre."""
    centres = 2.0 * torch.randn(classes, 6, generator=torch.Generator().manual_seed(99))
    with torch.random.fork_rng():
        teacher = nn.Sequential(nn.Linear(6, 10), nn.Identity(), nn.Linear(10, classes))
    with torch.no_grad():
        teacher[0].weight.copy_(torch.eye(10, 6))
        teacher[0].bias.copy_(torch.linspace(-1.0, 1.0, 10) * 0.1)
        teacher[2].weight.copy_(torch.cat([centres, torch.zeros(classes, 4)], dim=1))
        teacher[2].bias.copy_(-0.5 * (centres**2).sum(1))
    return teacher


QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.05,
    "schedule": "constant",
    "device": "cpu",
    "progress": False,
}


def weights_of(module: nn.Module) -> list[Tensor]:
    """Return copies of all tensors of a module's state."""
    return [part.detach().clone() for part in module.state_dict().values()]


def same(first: nn.Module, second: nn.Module) -> bool:
    """Say whether two modules hold the same bits."""
    return all(
        torch.equal(a, b) for a, b in zip(weights_of(first), weights_of(second), strict=True)
    )


def sets() -> tuple[Any, Any, Any]:
    """Return training, validation and test rows for recipes that name this callable.

    61 rows in batches of 16: the last batch of 13 falls unequally on two processes, and some rows
    are unlabelled.
    """
    x, y = rows(61)
    partly = torch.where(torch.arange(61) % 5 == 0, -1, y)
    return (x, partly), rows(31, seed=4), rows(31, seed=5)


def double_student() -> nn.Module:
    """Return a student in float64 without BatchNorm."""
    return network(width=8, seed=1).double()


def double_teacher() -> nn.Module:
    """Return the good teacher in float64."""
    return good_teacher().double()


def double_images(classes: int = 3) -> nn.Sequential:
    """Return convolutions in float64 without BatchNorm, on :func:`rows` as images of 2 x 3."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(24, 6),
            nn.Tanh(),
            nn.Linear(6, classes),
        ).double()


def double_binary_student() -> nn.Module:
    """Return such a student whose second convolution is binary."""
    return binary(double_images(), threshold=0.0)


def double_ternary_student() -> nn.Module:
    """Return such a student with ternary weights in its second convolution and first linear."""
    return quantised(double_images(), bits="ternary", activation_bits=None)
