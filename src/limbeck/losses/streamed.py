"""Row sums over a large vocabulary, a block of logits at a time, and their gradients.

Blocks are computed in the forward pass, dropped, and computed again in the backward pass, so that
memory holds one block and not the logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.losses.numerics import without_autocast


class Blocks(NamedTuple):
    """How many rows and how many classes a block of logits has."""

    rows: int
    classes: int


class Scores(NamedTuple):
    """Logits of rows: as they are, or as ``hidden @ embedding.T + bias``.

    Attributes:
        source: Logits [rows, classes], or hidden states [rows, width].
        embedding: None, or [classes, width].
        bias: None, or [classes].
        valid: Which rows count, or None for all; the logits of the others are taken for zero.
    """

    source: Tensor
    embedding: Tensor | None
    bias: Tensor | None
    valid: Tensor | None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return (self.source.shape[1:] if self.embedding is None else self.embedding.shape)[0]

    @property
    def kind(self) -> torch.dtype:
        """The float type of sums over logits: float32 at least."""
        return torch.promote_types(self._product_kind, torch.float32)

    @property
    def _product_kind(self) -> torch.dtype:
        if self.embedding is None:
            return self.source.dtype
        return torch.promote_types(self.source.dtype, self.embedding.dtype)

    def block(self, rows: slice, classes: slice) -> Tensor:
        """Return one block of logits, in float32 at least."""
        if self.embedding is None:
            found = self.source[rows, classes].to(self.kind)
            return found if self.valid is None else found.masked_fill(~self.valid[rows, None], 0.0)
        kind = self._product_kind
        with without_autocast(self.source):
            found = self.source[rows].to(kind) @ self.embedding[classes].to(kind).T
        found = found.to(self.kind)
        return found if self.bias is None else found + self.bias[classes].to(self.kind)

    def row_blocks(self, blocks: Blocks) -> Iterator[slice]:
        """Yield the rows block by block."""
        return _slices(len(self.source), blocks.rows)

    def class_blocks(self, blocks: Blocks) -> Iterator[slice]:
        """Yield the classes block by block."""
        return _slices(self.classes, blocks.classes)


class _Gradients:
    """Takes the derivatives of blocks of logits to what the logits were made of."""

    def __init__(self, scores: Scores, wanted: tuple[bool, bool, bool]) -> None:
        self.scores = scores

        def made(like: Tensor | None, wants: bool, kind: torch.dtype) -> Tensor | None:
            # Sums over blocks in a wide type; logits have no sums and stay as narrow as they are.
            return torch.zeros_like(like, dtype=kind) if wants and like is not None else None

        source_kind = scores.source.dtype if scores.embedding is None else scores.kind
        self.source = made(scores.source, wanted[0], source_kind)
        self.embedding = made(scores.embedding, wanted[1], scores.kind)
        self.bias = made(scores.bias, wanted[2], scores.kind)

    def add(self, rows: slice, classes: slice, derivative: Tensor) -> None:
        scores = self.scores
        if scores.embedding is None:
            if self.source is not None:
                self.source[rows, classes] = derivative.to(self.source.dtype)
            return
        kind = scores._product_kind
        narrow = derivative.to(kind)
        with without_autocast(derivative):
            if self.source is not None:
                self.source[rows] += narrow @ scores.embedding[classes].to(kind)
            if self.embedding is not None:
                self.embedding[classes] += narrow.T @ scores.source[rows].to(kind)
        if self.bias is not None:
            self.bias[classes] += derivative.sum(dim=0)

    def all(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        found = (self.source, self.embedding, self.bias)
        return tuple(  # pyright: ignore[reportReturnType]
            None if gradient is None or like is None else gradient.to(like.dtype)
            for gradient, like in zip(found, self.scores[:3], strict=True)
        )


class KeptSums(torch.autograd.Function):
    """Logits of some classes of every row, and sums over all classes and over the others.

    ``apply(*scores, labels, blocks, with_others)``, of :class:`Scores`, returns the logits at
    ``labels`` [rows, kept] (0 where a label is below 0), the log-sum-exp of all classes, that of
    the classes that are not among the labels (-inf where there is none, or they are not asked for),
    both [rows], and without gradient the sum of the squared probabilities.
    """

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        embedding: Tensor | None,
        bias: Tensor | None,
        valid: Tensor | None,
        labels: Int[Tensor, "rows kept"],
        blocks: Blocks,
        with_others: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sum over blocks of classes, block of rows by block of rows."""
        scores = Scores(source, embedding, bias, valid)
        count = len(source)
        at = torch.zeros(labels.shape, dtype=scores.kind, device=source.device)
        total, others, highest = (at.new_full((count,), -math.inf) for _ in range(3))
        squares = torch.zeros_like(total)  # of exp(logit - highest)
        for rows in scores.row_blocks(blocks):
            for classes in scores.class_blocks(blocks):
                block = scores.block(rows, classes)
                here, inside = _labels_in(labels[rows], classes)
                at[rows] += block.gather(1, here).masked_fill(~inside, 0.0)
                top = torch.maximum(highest[rows], _finite(block.amax(dim=1)))
                powers = (block - top[:, None]).exp()
                kept = (highest[rows] - top).exp().square() * squares[rows]
                squares[rows] = kept + powers.square().sum(dim=1)
                highest[rows] = top
                total[rows] = torch.logaddexp(total[rows], top + powers.sum(dim=1).log())
                if with_others:
                    rest = _without(block, here, inside).logsumexp(dim=1)
                    others[rows] = torch.logaddexp(others[rows], rest)
        purity = squares * (2.0 * (highest - total)).exp()
        ctx.save_for_backward(*scores, labels, total, others)
        ctx.blocks, ctx.with_others = blocks, with_others
        ctx.mark_non_differentiable(purity)
        return at, total, others, purity

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute every block again, and pass its derivatives on."""
        *parts, labels, total, others = ctx.saved_tensors
        for_at, for_total, for_others, _ = gradients
        scores = Scores(*parts)
        found = _Gradients(scores, ctx.needs_input_grad[:3])
        for rows in scores.row_blocks(ctx.blocks):
            for classes in scores.class_blocks(ctx.blocks):
                block = scores.block(rows, classes)
                here, inside = _labels_in(labels[rows], classes)
                derivative = for_total[rows, None] * (block - total[rows, None]).exp()
                if ctx.with_others:
                    rest = _without(block - others[rows, None], here, inside).exp()
                    derivative += for_others[rows, None] * rest
                derivative.scatter_add_(1, here, for_at[rows].masked_fill(~inside, 0.0))
                found.add(rows, classes, derivative)
        return (*found.all(), None, None, None, None)


class Divergences(torch.autograd.Function):
    """KL(teacher, student) of every row [nats], with a gradient for the student's side.

    ``apply(*scores, teacher, temperature, blocks)``, of :class:`Scores` on either side. Both sides'
    logits are divided by the temperature.
    """

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        embedding: Tensor | None,
        bias: Tensor | None,
        valid: Tensor | None,
        teacher: Scores,
        temperature: float,
        blocks: Blocks,
    ) -> Float[Tensor, " rows"]:
        """Sum over blocks of classes, block of rows by block of rows."""
        student = Scores(source, embedding, bias, valid)
        kind = torch.promote_types(student.kind, teacher.kind)
        mine = source.new_full((len(source),), -math.inf, dtype=kind)
        theirs, divergence = mine.clone(), torch.zeros_like(mine)
        for rows in student.row_blocks(blocks):
            for classes in student.class_blocks(blocks):
                for side, sums in ((student, mine), (teacher, theirs)):
                    part = (side.block(rows, classes).to(kind) / temperature).logsumexp(dim=1)
                    sums[rows] = torch.logaddexp(sums[rows], part)
            # A second pass over the row's blocks: the difference of two sums over large logits
            # would lose the digits of a small divergence.
            for classes in student.class_blocks(blocks):
                log_p = student.block(rows, classes).to(kind) / temperature - mine[rows, None]
                log_t = teacher.block(rows, classes).to(kind) / temperature - theirs[rows, None]
                divergence[rows] += (log_t.exp() * (log_t - log_p)).sum(dim=1)
        ctx.save_for_backward(*student, *teacher, mine, theirs)
        ctx.temperature, ctx.blocks = temperature, blocks
        return divergence

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Compute every block again, and pass its derivatives on."""
        *parts, mine, theirs = ctx.saved_tensors
        student, teacher = Scores(*parts[:4]), Scores(*parts[4:])
        found = _Gradients(student, ctx.needs_input_grad[:3])
        scale = gradients[0] / ctx.temperature
        for rows in student.row_blocks(ctx.blocks):
            for classes in student.class_blocks(ctx.blocks):
                p, t = (
                    (side.block(rows, classes).to(sums.dtype) / ctx.temperature - sums[rows, None])
                    for side, sums in ((student, mine), (teacher, theirs))
                )
                found.add(rows, classes, scale[rows, None] * (p.exp() - t.exp()))
        return (*found.all(), None, None, None, None)


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _finite(logits: Tensor) -> Tensor:
    """Return 0 for -inf: a block may hold nothing but entries that pad the vocabulary."""
    return logits.masked_fill(torch.isneginf(logits), 0.0)


def _labels_in(labels: Tensor, classes: slice) -> tuple[Tensor, Tensor]:
    """Return the labels' places in a block, 0 for those outside, and which are inside."""
    inside = (labels >= classes.start) & (labels < classes.stop)
    return (labels - classes.start).masked_fill(~inside, 0).long(), inside


def _without(block: Tensor, here: Tensor, inside: Tensor) -> Tensor:
    """Return the block with -inf at the labels that are inside of it."""
    mark = torch.zeros(len(block), block.shape[1] + 1, dtype=torch.bool, device=block.device)
    mark.scatter_(1, here.masked_fill(~inside, block.shape[1]), True)
    return block.masked_fill(mark[:, :-1], -math.inf)
