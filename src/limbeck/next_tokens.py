"""Which token follows each position of a text, and where none does: padding, borders, no label."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError
from limbeck.types import Batch


ABSENT = -1
SEQUENCES = ("sequence_ids", "seq_idx")  # keys of inputs that number the documents of a row


def next_tokens(batch: Batch) -> Int64[Tensor, "batch length"]:
    r"""Return the token that follows each position, -1 where no prediction counts.

    .. math:: y_t = x_{t+1} \text{ if } t + 1 \text{ has a label and follows } t, \text{ else } -1

    Targets are aligned with the inputs, as transformers has its ``labels``: the shift is done here.
    Without targets every token is one. See :func:`follows` for what follows what.

    Args:
        batch: ``inputs`` are token ids [batch, length], or a dict with ``input_ids``; ``targets``
            are token ids of the same shape, below 0 where a token is not to be predicted, or None.

    Returns:
        Token ids, -1 where none counts: always in the last column.

    Raises:
        ArgumentError: If the inputs have no token ids.
        ShapeError: If ids, targets, masks and positions do not fit each other.

    Example:
        A text of four tokens, of which the last is padding:

        >>> ids, mask = torch.tensor([[5, 6, 7, 0]]), torch.tensor([[1, 1, 1, 0]])
        >>> row = torch.zeros(1, dtype=torch.int64)
        >>> next_tokens(Batch({"input_ids": ids, "attention_mask": mask}, None, row, row))
        tensor([[ 6,  7, -1, -1]])

    Source:
        Derived.
    """
    ids = token_ids(batch)
    targets = batch.targets
    if targets is None or targets.is_floating_point():  # outputs of a teacher stand in for targets
        targets = ids
    if targets.shape != ids.shape:
        raise ShapeError(
            f"next_tokens: expected targets of the shape of the token ids {tuple(ids.shape)}, "
            f"aligned with them; got {tuple(targets.shape)}. Give labels as transformers has "
            "them: the input ids, -100 where a token is not to be predicted."
        )
    following = torch.full_like(ids, ABSENT, dtype=torch.int64)
    following[:, :-1] = targets[:, 1:]
    return following.masked_fill(~follows(batch) | (following < 0), ABSENT)


def follows(batch: Batch) -> Bool[Tensor, "batch length"]:
    """Say of each position whether the next one goes on with the same document.

    It does not at the end of a row, into or out of padding (``attention_mask`` [batch, length];
    masks that number the documents from 1 are read so), where ``position_ids`` do not rise by one,
    where ``sequence_ids`` or ``seq_idx`` change, and where a mask of documents (``attention_mask``
    [batch, heads, length, length]; true, or additive 0, where one may look) hides one from the
    other.

    Args:
        batch: As in :func:`next_tokens`.

    Returns:
        True where a prediction of the next token has its context; false in the last column.

    Raises:
        ArgumentError: If the inputs have no token ids.
        ShapeError: If masks and positions do not fit the token ids.

    Example:
        Two documents of two tokens in one row:

        >>> ids, places = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[0, 1, 0, 1]])
        >>> row = torch.zeros(1, dtype=torch.int64)
        >>> follows(Batch({"input_ids": ids, "position_ids": places}, None, row, row))
        tensor([[ True, False,  True, False]])

    Source:
        Derived.
    """
    ids = token_ids(batch)
    found = torch.ones(ids.shape, dtype=torch.bool, device=ids.device)
    found[:, -1:] = False
    if not isinstance(batch.inputs, dict):
        return found
    mask = batch.inputs.get("attention_mask")
    if mask is not None:
        found[:, :-1] &= _looks_back(mask, ids)
    places = _like(batch, "position_ids", ids)
    if places is not None:
        found[:, :-1] &= places[:, 1:] == places[:, :-1] + 1
    for key in SEQUENCES:
        numbers = _like(batch, key, ids)
        if numbers is not None:
            found[:, :-1] &= numbers[:, 1:] == numbers[:, :-1]
    return found


def token_ids(batch: Batch) -> Tensor:
    """Return the token ids of a batch [batch, length].

    Raises:
        ArgumentError: If there are none.
    """
    inputs = batch.inputs.get("input_ids") if isinstance(batch.inputs, dict) else batch.inputs
    if inputs is None or inputs.is_floating_point() or inputs.ndim != 2:
        got = (
            f"keys {', '.join(batch.inputs) or 'none'}"
            if isinstance(batch.inputs, dict)
            else f"{str(batch.inputs.dtype).removeprefix('torch.')} {tuple(batch.inputs.shape)}"
        )
        raise ArgumentError(
            "language_model: expected inputs of token ids [batch, length], or a dict with "
            f"`input_ids` of that shape; got {got}. Encode the texts first, for instance with "
            "limbeck.zoo.tokens.load_tokens."
        )
    return inputs


def _looks_back(mask: Tensor, ids: Tensor) -> Tensor:
    """Return whether each position but the first may look at the one before it."""
    if tuple(mask.shape) == tuple(ids.shape):
        return (mask[:, 1:] != 0) & (mask[:, 1:] == mask[:, :-1])
    length = ids.shape[1]
    square = mask.ndim == 4 and tuple(mask.shape[-2:]) == (length, length)
    if not square or mask.shape[0] not in (1, len(ids)):
        raise ShapeError(
            f"language_model: expected an attention mask {tuple(ids.shape)}, or a mask of "
            f"documents [batch, heads, {length}, {length}]; got {tuple(mask.shape)}."
        )
    seen = mask[:, 0] == 0 if mask.is_floating_point() else mask[:, 0] != 0
    return seen.diagonal(-1, dim1=1, dim2=2).expand(len(ids), -1)


def _like(batch: Batch, key: str, ids: Tensor) -> Tensor | None:
    found = batch.inputs.get(key) if isinstance(batch.inputs, dict) else None
    if found is not None and tuple(found.shape) != tuple(ids.shape):
        raise ShapeError(
            f"language_model: expected `{key}` of the shape of the token ids {tuple(ids.shape)}; "
            f"got {tuple(found.shape)}."
        )
    return found
