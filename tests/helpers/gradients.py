"""Gradients of single rows by plain loops, and small networks to take them of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(width: int, seed: int, *, inputs: int = 6, classes: int = 3) -> nn.Sequential:
    """Return a tanh network in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, classes)
        ).double()


class Convolutions(nn.Module):
    """Convolutions with groups, strides, dilation and paddings, three normalisations, in float64.

    Inputs are [rows, 36], seen as images of 6 x 6; a linear layer runs at every position, twice.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(1, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding="valid", groups=2)
            self.group_norm = nn.GroupNorm(3, 6)
            self.third = nn.Conv2d(
                6, 4, 3, padding=2, dilation=2, padding_mode="circular", bias=False
            )
            self.layer_norm = nn.LayerNorm([4, 3])
            self.mixed = nn.Linear(3, 3)
            self.head = nn.Linear(16 * 3, 3)
        self.double()
        with torch.no_grad():
            state = self.norm.state_dict()
            state["running_mean"].copy_(torch.linspace(-0.2, 0.3, 4))
            state["running_var"].copy_(torch.linspace(0.5, 2.0, 4))
            state["weight"].copy_(torch.linspace(0.5, 1.5, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (1, 6, 6))
        x = F.relu(self.norm(self.first(x)), inplace=True)
        x = torch.tanh(self.group_norm(self.second(x)))
        x = F.relu_(self.third(x))
        x = self.layer_norm(x.permute(0, 2, 1, 3))
        x = torch.tanh(self.mixed(torch.tanh(self.mixed(x))))
        return self.head(x.flatten(1))


def rows(count: int, inputs: int = 6, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return normal inputs in float64 and classes that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=generator, dtype=torch.float64)
    return x, (x[:, :classes] + 0.5 * torch.randn(count, classes, generator=generator)).argmax(1)


def kd(student: Tensor, teacher: Tensor) -> Tensor:
    """The cross-entropy to the teacher's probabilities at temperature 1."""
    return F.cross_entropy(student, teacher.softmax(1))


def one_by_one(
    student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, distillation: Any = kd
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return g and h of every row, [rows, *shape of the parameter], by a backward pass a row."""
    trained = {name: one for name, one in student.named_parameters() if one.requires_grad}
    g: dict[str, list[Tensor]] = {name: [] for name in trained}
    h: dict[str, list[Tensor]] = {name: [] for name in trained}
    for row in range(len(x)):
        inputs, target = x[row : row + 1], y[row : row + 1]
        with torch.no_grad():
            said = teacher(inputs)
        for kept, loss in (
            (g, lambda z, _, target=target: F.cross_entropy(z, target)),
            (h, lambda z, t, target=target: F.cross_entropy(z, target) - distillation(z, t)),
        ):
            value = loss(student(inputs), said)
            for name, found in zip(
                trained,
                torch.autograd.grad(value, list(trained.values()), materialize_grads=True),
                strict=True,
            ):
                kept[name].append(found)
    return tuple({k: torch.stack(v) for k, v in side.items()} for side in (g, h))  # pyright: ignore[reportReturnType]


def expected_moments(g: dict[str, Tensor], h: dict[str, Tensor]) -> dict[str, float]:
    """Return the five moments from all gradients at once, by covariance matrices."""
    flat = [
        torch.cat([one.flatten(1) for one in side.values()], dim=1).double().numpy()
        for side in (g, h)
    ]
    n = len(flat[0])
    centred = [one - one.mean(0) for one in flat]
    found = {
        f"tr_{a}{b}": float((centred[i] * centred[j]).sum() / (n - 1))
        for (a, i), (b, j) in ((("g", 0), ("h", 1)), (("g", 0), ("g", 0)), (("h", 1), ("h", 1)))
    }
    for name, one in (("gbar2", flat[0]), ("hbar2", flat[1])):
        gram = one @ one.T
        found[name] = float((gram.sum() - np.trace(gram)) / (n * (n - 1)))
    return found
