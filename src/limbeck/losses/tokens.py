"""Logits of every position of texts, given as they are or as what they are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses.streamed import Blocks, Scores


BLOCK = (1024, 8192)  # 32 MB in float32


class LazyLogits(NamedTuple):
    """Logits ``hidden @ embedding.T + bias`` that are computed a block at a time.

    With 128,000 classes one float32 copy of the logits of 8,192 positions takes 4.2 GB, and a loss
    holds several; the hidden states of width 4,096 that they are made of take 134 MB.

    Attributes:
        hidden: What the output layer gets, [batch, length, width].
        embedding: The weight of the output layer, [classes, width].
        bias: Its bias, [classes], or None.
    """

    hidden: Tensor
    embedding: Tensor
    bias: Tensor | None = None


Logits = Float[Tensor, "batch length classes"] | LazyLogits


def scores_of(where: str, side: str, logits: Logits, mask: Tensor | None) -> Scores:
    """Return logits by row, of all positions of all texts one after the other, or raise ShapeError.

    What stands at masked positions, NaN too, is taken for zero.
    """
    lazy = isinstance(logits, LazyLogits)
    source = logits.hidden if lazy else logits
    embedding, bias = (logits.embedding, logits.bias) if lazy else (None, None)
    fits = source.ndim == 3
    if embedding is not None:
        fits = fits and embedding.ndim == 2 and embedding.shape[1] == source.shape[-1]
        fits = fits and (bias is None or bias.shape == embedding.shape[:1])
    if not fits:
        got = tuple(source.shape)
        if embedding is not None:
            got = f"hidden {got}, embedding {tuple(embedding.shape)}"
            got += "" if bias is None else f", bias {tuple(bias.shape)}"
        raise ShapeError(
            f"{where}: expected the {side}'s logits [batch, length, classes], or LazyLogits of "
            f"hidden states [batch, length, width] and an embedding [classes, width]; got {got}. "
            "Give one row of logits for every position."
        )
    if mask is not None and tuple(mask.shape) != tuple(source.shape[:2]):
        raise ShapeError(
            f"{where}: expected a mask with one entry for each of the positions "
            f"{tuple(source.shape[:2])}; got {tuple(mask.shape)}."
        )
    flat = source.flatten(0, 1)
    valid = None if mask is None else mask.flatten() != 0
    if lazy and valid is not None:
        flat = flat.masked_fill(~valid[:, None], 0.0)  # few numbers, unlike logits
        valid = None
    return Scores(flat, embedding, bias, valid)


def detached(scores: Scores) -> Scores:
    """Return the same logits without the graph behind them, which a loss would keep alive."""
    return Scores(*(None if part is None else part.detach() for part in scores))  # pyright: ignore[reportArgumentType]


def blocks_of(where: str, block: tuple[int, int]) -> Blocks:
    """Return the size of a block of logits, or raise ArgumentError."""
    if len(block) != 2 or not all(isinstance(size, int) and size > 0 for size in block):
        raise ArgumentError(
            f"{where}: expected `block` to be two whole numbers above zero, positions and classes; "
            f"got {block}."
        )
    return Blocks(*block)


def weights_of_positions(
    where: str,
    like: Float[Tensor, " rows"],
    shape: tuple[int, ...],
    mask: Bool[Tensor, "batch length"] | None,
    weights: Tensor | None,
) -> Float[Tensor, " rows"]:
    """Return every position's weight, 0 for a masked one."""
    found = torch.ones_like(like)
    if weights is not None:
        if tuple(weights.shape) != shape:
            raise ShapeError(
                f"{where}: expected one weight for each of the positions {shape}; got "
                f"{tuple(weights.shape)}."
            )
        found = weights.detach().to(like.dtype).flatten()
    return found if mask is None else found.masked_fill(mask.flatten() == 0, 0.0)


def mean_of_positions(rows: Float[Tensor, " rows"], weights: Float[Tensor, " rows"]) -> Tensor:
    """Return the weighted mean; zero where nothing counts."""
    counted = rows.masked_fill(weights == 0, 0.0) * weights
    return counted.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
