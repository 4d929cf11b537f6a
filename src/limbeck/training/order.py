"""Which rows every step of a run takes, and the rows of this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from limbeck.data import Data, Rows
from limbeck.training.options import Options
from limbeck.training.schedule import share_of_rank, whole_batches
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
            if self.options.channels_last and isinstance(batch.inputs, Tensor):
                images = batch.inputs.contiguous(memory_format=torch.channels_last)
                yield replace(batch, inputs=images)
            else:
                yield batch

    def last_of_step(self, number: int) -> Batch:
        """Serve this process's last micro-batch of a step of the run, counted from 0, again."""
        epoch, place = divmod(number, self.steps_per_epoch)
        *_, last = self.served([self.batches_of(epoch)[place]], epoch)
        return last

    def _plan(self, batches: list[Tensor], epoch: int) -> Iterator[Rows]:
        views = self.options.views
        view = epoch % views if views else epoch
        for batch in batches:
            index, which = share_of_rank(batch, view, self.rank, self.ranks)
            if self.options.accumulate == 1:
                yield index, which
                continue
            size = math.ceil(len(index) / self.options.accumulate)
            yield from zip(index.split(size), which.split(size), strict=True)
