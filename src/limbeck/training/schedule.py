"""Learning rate, warm-up and order as pure functions of the position in a run."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limbeck.checks import DataError
from limbeck.data import Data
from limbeck.randomness import derive_seed, generator, keyed_uniform
from limbeck.training.options import Options


def rate_factor(options: Options, position: float) -> float:
    """Return the learning rate's factor at ``position``, in epochs from 0 (2.5: mid third epoch).

    The step schedule changes at whole epochs; warm-up and cosine move with every step.

    Example:
        >>> rate_factor(Options(epochs=240, milestones=(150, 180, 210)), 150.0)
        0.1
    """
    if position < options.warmup_epochs:
        return (position + 1e-9) / options.warmup_epochs
    if options.schedule == "cosine":
        span = max(options.epochs - options.warmup_epochs, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min((position - options.warmup_epochs) / span, 1.0)))
    if options.schedule == "step":
        passed = sum(position >= stone for stone in milestones(options))
        return options.decay**passed
    return 1.0


def milestones(options: Options) -> list[float]:
    """Return the milestones in epochs; fractions of the run are rounded to whole epochs."""
    return [
        stone if stone >= 1 else float(max(round(stone * options.epochs), 1))
        for stone in options.milestones
    ]


def loss_factor(options: Options, position: float) -> float:
    """Return the factor of the distillation term's weight at ``position`` [epochs]."""
    return min(position / options.loss_warmup_epochs, 1.0) if options.loss_warmup_epochs else 1.0


def epoch_order(rows: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Return the row positions of each batch of an epoch, shuffled by (seed, epoch) alone."""
    order = torch.randperm(rows, generator=generator(seed, "order", epoch))
    return list(order.split(batch_size))


def whole_batches(rows: int, batch_size: int, seed: int, epoch: int, ranks: int) -> list[Tensor]:
    """Return the row positions of an epoch's batches, without one too small for all ranks.

    Raises:
        DataError: If a whole batch has fewer rows than there are ranks.
    """
    order = epoch_order(rows, batch_size, seed, epoch)
    if len(order) > 1 and len(order[-1]) < 2 * ranks:
        order.pop()
    if len(order[0]) < ranks:
        raise DataError(
            f"distill: expected at least one row for each of {ranks} processes; got batches of "
            f"{len(order[0])}. Use a larger batch."
        )
    return order


def first_of_rank(rows: int, rank: int, ranks: int) -> int:
    """Return where in a batch of so many rows a rank's share begins.

    Example:
        >>> [first_of_rank(13, rank, 3) for rank in range(3)]
        [0, 5, 9]
    """
    return rank * (rows // ranks) + min(rank, rows % ranks)


def share_of_rank(index: Tensor, rank: int, ranks: int) -> Tensor:
    """Return the rows of one batch that this rank works on."""
    return index if ranks == 1 else index.tensor_split(ranks)[rank]


def views_of(index: Tensor, epoch: int, options: Options, seed: int) -> Tensor:
    """Return the view in which each row is served in an epoch; the same in every batch and rank."""
    if options.views is None:
        return torch.full_like(index, epoch)
    if options.view_order == "cycle":
        return torch.full_like(index, epoch % options.views)
    drawn = keyed_uniform(derive_seed(seed, "views"), index, torch.full_like(index, epoch), 1)
    return (drawn[:, 0].double() * options.views).long()


def repeats_rows(data: Data, views: int | None) -> bool:
    """Say whether every epoch takes the same inputs: none is augmented, or all in one view."""
    return data.augment is None or views == 1
