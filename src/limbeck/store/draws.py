"""Labels drawn from a teacher's distribution, as pure functions of (seed, sample, view)."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.randomness import keyed_uniform


def uniform_numbers(seed: int, index: Tensor, view: Tensor, count: int) -> Tensor:
    """Return numbers in [0, 1) for every (sample, view), float64 [batch, count].

    They are those by which the losses draw from a live teacher with ``redraw``, so that stored
    labels are the same as live ones.
    """
    # 24 bits would never draw the rare labels of a large vocabulary; two draws make 48.
    wide = torch.float32 if index.device.type == "mps" else torch.float64  # mps has no other
    pairs = keyed_uniform(seed, index, view, 2 * count).to(wide)
    return pairs[:, ::2] + pairs[:, 1::2] / (1 << 24)


def drawn_labels(log_probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return the labels at which the distribution functions pass the numbers, int64 [rows, draws].

    Args:
        log_probabilities: Of all classes [nats], float [rows, classes].
        uniform: In [0, 1), float [rows, draws].

    Example:
        The function is 0.25, then 1.

        >>> half = torch.tensor([[0.25, 0.75]]).log()
        >>> drawn_labels(half, torch.tensor([[0.0, 0.2, 0.3, 0.9]]))
        tensor([[0, 0, 1, 1]])
    """
    passed = log_probabilities.exp().to(uniform.dtype).cumsum(dim=1)
    levels = uniform * passed[:, -1:]
    found = torch.searchsorted(passed, levels.contiguous(), right=True)
    return found.clamp_max(log_probabilities.shape[1] - 1)


def counted(labels: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return the distinct labels of every row in rising order, -1 behind them, and their counts.

    Args:
        labels: int64 [rows, draws].
        kept: Width of the result; at least the largest number of distinct labels.

    Example:
        >>> counted(torch.tensor([[7, 2, 7]]), 2)
        (tensor([[2, 7]]), tensor([[1, 2]]))
    """
    ordered = labels.sort(dim=1).values
    new = torch.ones_like(ordered)
    new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()
    place = new.cumsum(dim=1) - 1
    distinct = torch.full_like(ordered, -1).scatter(1, place, ordered)
    counts = torch.zeros_like(ordered).scatter_add(1, place, torch.ones_like(ordered))
    return distinct[:, :kept], counts[:, :kept]
