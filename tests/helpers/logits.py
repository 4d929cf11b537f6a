"""The logits of section 8.3 of the reference, and class distributions in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.types import Batch


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def logits() -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's: 6 samples, 5 classes."""
    i = torch.arange(6, dtype=torch.float64)[:, None]
    j = torch.arange(5, dtype=torch.float64)
    student = 2 * torch.sin(0.4 + 1.1 * i + 0.6 * j + 0.3 * i * j)
    return student, 3 * torch.cos(0.2 + 0.7 * i - 0.9 * j + 0.2 * i * j)


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Return normal numbers in float64."""
    source = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=source, dtype=torch.float64)


def batch_of(rows: int, targets: Tensor | None = None) -> Batch:
    """Return a batch of whose inputs nothing is used."""
    index = torch.arange(rows)
    return Batch(torch.zeros(rows, 1), targets, index, index * 0)


def softmax(scores: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Return the distribution of moderate scores."""
    powers = [math.exp(score / temperature) for score in scores]
    return [power / sum(powers) for power in powers]


def divergence(p: Sequence[float], q: Sequence[float]) -> float:
    """Return KL(p || q) in nats."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def pairs(*matrices: Tensor) -> list[tuple[list[float], ...]]:
    """Return the rows of several matrices side by side, as lists."""
    return list(zip(*(matrix.tolist() for matrix in matrices), strict=True))
