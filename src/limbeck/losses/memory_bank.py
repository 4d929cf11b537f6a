"""The memory of all samples that contrastive distillation may draw its negatives from."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from limbeck.checks import ArgumentError
from limbeck.randomness import generator
from limbeck.ranks import gather_rows


SIDES = ("student", "teacher")
NO_LABEL = -1


class MemoryBank(nn.Module):
    """An embedding of every training row for student and teacher, as last seen.

    Args:
        rows: Number of training rows; ``batch.index`` of every batch is below it.
        width: Of the embeddings.
        negatives: How many rows are drawn for a batch, at most all.
        momentum: What is kept of a row's old embedding when the row is seen.
        seed: Of the first embeddings and of the draws.

    Source:
        Tian, Krishnan and Isola (2020), arXiv:1910.10699. There every sample draws negatives of its
        own, so that a step gathers batch x negatives embeddings; here a batch shares its draw.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    mean_scores: Tensor
    draws: Tensor

    def __init__(
        self, rows: int, width: int, *, negatives: int, momentum: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        self.count = min(negatives, rows)
        self.momentum, self.seed = momentum, seed
        bound = 1.0 / math.sqrt(width / 3.0)
        for side in SIDES:
            drawn = torch.rand(rows, width, generator=generator(seed, "memory bank", side))
            self.register_buffer(side, (2.0 * drawn - 1.0) * bound)
        self.register_buffer("labels", torch.full((rows,), NO_LABEL))
        self.register_buffer("mean_scores", torch.full((2,), math.nan))  # logarithms
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def candidates(
        self, index: Int[Tensor, " batch"], labels: Int[Tensor, " batch"] | None
    ) -> tuple[Int64[Tensor, " candidates"], Bool[Tensor, "batch candidates"]]:
        """Return rows to compare with, those of the batch first, and which are negatives.

        A row is no negative of itself nor of rows that are known to be of its class; what class a
        row is of is known once it was seen.

        Raises:
            ArgumentError: If an index is not below the number of rows.
        """
        if len(index) and int(index.max()) >= len(self.labels):
            raise ArgumentError(
                f"CRD: expected row numbers below bank={len(self.labels)}; got "
                f"{int(index.max())}. Set `bank` to the number of training rows."
            )
        random = generator(self.seed, "negatives", int(self.draws))
        drawn = torch.randperm(len(self.labels), generator=random)[: self.count].to(index.device)
        allowed = index[:, None] != drawn
        if labels is not None:
            others = self.labels[drawn]
            allowed &= (labels[:, None] != others) | (labels[:, None] < 0)
        own = torch.zeros(len(index), len(index), dtype=torch.bool, device=index.device)
        return torch.cat([index.to(torch.int64), drawn]), torch.cat([own, allowed], dim=1)

    @torch.no_grad()
    def remember(
        self,
        index: Int[Tensor, " batch"],
        student: Float[Tensor, "batch width"],
        teacher: Float[Tensor, "batch width"],
        labels: Int[Tensor, " batch"] | None,
        *,
        across_ranks: bool,
    ) -> None:
        """Move the rows' embeddings towards those of now, of length 1, on all ranks alike."""
        if labels is None:
            labels = torch.full((len(index),), NO_LABEL, device=index.device)
        seen = [index.to(torch.int64), student, teacher, labels.to(self.labels.dtype)]
        if across_ranks:
            seen = [gather_rows(part) for part in seen]
        places = seen[0]
        for side, rows in zip(SIDES, seen[1:3], strict=True):
            bank = getattr(self, side)
            mixed = self.momentum * bank[places] + (1.0 - self.momentum) * rows.to(bank.dtype)
            bank[places] = nn.functional.normalize(mixed, dim=1)
        self.labels[places] = seen[3]
        self.draws += 1
