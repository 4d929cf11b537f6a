"""The optimiser of a run, and the generators that every step seeds anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from limbeck.training.options import Options


def optimizer_of(trained: Iterable[nn.Parameter], options: Options) -> torch.optim.Optimizer:
    """Return AdamW or SGD, as the options say, over some parameters."""
    if options.optimizer == "adamw":
        return torch.optim.AdamW(
            trained, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
    return torch.optim.SGD(
        trained,
        lr=options.learning_rate,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        fused=True,
    )


def seed_device(seed: int) -> None:
    """Seed the default generators of the CPU and of the present GPU."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)
