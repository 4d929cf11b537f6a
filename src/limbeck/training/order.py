"""Which rows every step of a run takes, and the rows of this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from limbeck.data import Data, Rows
from limbeck.training.options import Options
from limbeck.training.schedule import share_of_rank, views_of, whole_batches
from limbeck.types import Batch


class Order:
    """The order of a run's rows: a function of the seed, so that any step can be served again.

    Args:
        data: The training rows.
        options: Of the run: batch size, micro-batches, views, memory format.
        seed: Of the run.
        accelerator: Says which share of a batch is this process's, and where it goes.
    """

    def __init__(self, data: Data, options: Options, seed: int, accelerator: Accelerator) -> None:
        self.data, self.options, self.seed = data, options, seed
        self.batch_size = options.batch_size or 64
        self.device = accelerator.device
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes
        self.steps_per_epoch = len(self.batches_of(0))

    def batches_of(self, epoch: int) -> list[Tensor]:
        """Return the row positions of an epoch's batches, without one too small for all ranks."""
        return whole_batches(len(self.data), self.batch_size, self.seed, epoch, self.ranks)

    def served(self, batches: list[Tensor], epoch: int) -> Iterator[Batch]:
        """Serve this process's micro-batches of some of an epoch's batches."""
        for batch in self.data.batches(self._plan(batches, epoch), self.device):
            yield channels_last_of(batch) if self.options.channels_last else batch

    def last_of_step(self, number: int) -> Batch:
        """Serve this process's last micro-batch of a step of the run, counted from 0, again."""
        epoch, place = divmod(number, self.steps_per_epoch)
        *_, last = self.served([self.batches_of(epoch)[place]], epoch)
        return last

    def _plan(self, batches: list[Tensor], epoch: int) -> Iterator[Rows]:
        for batch in batches:
            index = share_of_rank(batch, self.rank, self.ranks)
            which = views_of(index, epoch, self.options, self.seed)
            pieces = pieces_of(len(batch), self.ranks, self.options.accumulate)
            yield from zip(index.tensor_split(pieces), which.tensor_split(pieces), strict=True)


def pieces_of(rows: int, ranks: int, accumulate: int) -> int:
    """Return how many micro-batches a batch is served in: the same number on every process.

    Example:
        Eight and nine rows in four: 3, 2, 2, 2 and 2, 2, 2, 2. Three and two: no row would be left.

        >>> pieces_of(17, 2, 4), pieces_of(5, 2, 4)
        (4, 2)
    """
    return max(min(accumulate, rows // ranks), 1)


def sizes_of(rows: int, ranks: int, accumulate: int) -> list[int]:
    """Return the rows of a batch's micro-batches, of one process after the other.

    Example:
        >>> sizes_of(17, 2, 4)
        [3, 2, 2, 2, 2, 2, 2, 2]
    """
    shares = torch.arange(rows).tensor_split(ranks)
    pieces = pieces_of(rows, ranks, accumulate)
    return [len(part) for share in shares for part in share.tensor_split(pieces)]


def channels_last_of(batch: Batch) -> Batch:
    """Return the batch with images in the memory format in which networks run faster."""
    if not isinstance(batch.inputs, Tensor):
        return batch
    return replace(batch, inputs=batch.inputs.contiguous(memory_format=torch.channels_last))


def takes_channels_last(example: Batch, precision: str, wanted: bool | None = None) -> bool:
    """Say whether batches like this one are served channels last.

    Args:
        example: A batch, where it will be.
        precision: "fp32" or "bf16".
        wanted: What was asked for; None takes what is faster: for images on a CPU, or in bf16.
    """
    images = isinstance(example.inputs, Tensor) and example.inputs.ndim == 4
    faster = example.index.device.type == "cpu" or precision == "bf16"
    return images and (faster if wanted is None else wanted)
