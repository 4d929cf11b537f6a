"""Outputs of a teacher to columns of a store."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.checks import StoreError
from limbeck.store.columns import FEATURES
from limbeck.store.draws import counted, drawn_labels, uniform_numbers
from limbeck.store.kinds import PRECISIONS, Keep
from limbeck.store.sizes import kept_labels
from limbeck.types import Outputs


BLOCK = 1 << 24  # classes of so many rows at once, in float64, take 128 MiB


@torch.no_grad()
def encode(outputs: Outputs, index: Tensor, view: Tensor | int, keep: Keep) -> dict[str, Tensor]:
    """Return the columns that are stored of a batch of outputs, on the CPU.

    Args:
        outputs: What the teacher said: logits [batch, classes] or [batch, tokens, classes], and
            features of any shape.
        index: Position of each row in its data set, int64 [batch].
        view: Which view it is of each row, int64 [batch], or of all of them.
        keep: What is kept.

    Returns:
        ``logits``; or ``labels`` (int32) with ``log_probabilities`` [nats], ``counts`` (int32) and
        ``tail`` (the log of the mass of all other labels [nats]); and ``features.<layer>``.

    Raises:
        StoreError: If the outputs lack what is kept, are NaN, or are too large for the dtype.

    Example:
        The first of four classes has 1/2, and 1/2 is left.

        >>> said = Outputs(torch.tensor([[3.0, 1.0, 1.0, 1.0]]).log())
        >>> columns = encode(said, torch.tensor([0]), 0, Keep.of("top_k", k=1))
        >>> columns["labels"], columns["log_probabilities"].exp(), columns["tail"].exp()
        (tensor([[0]], dtype=torch.int32), tensor([[0.5000]]), tensor([0.5000]))
    """
    columns: dict[str, Tensor] = {}
    if keep.what is not None:
        if outputs.logits is None:
            raise StoreError(
                f"store: expected logits of the teacher, to keep {keep.what}; got none. "
                "Keep features only, or give a teacher with logits."
            )
        _check_said("logits", outputs.logits, index)
        columns |= _answers(outputs.logits, index, view, keep)
    if keep.features:
        if not outputs.features:
            raise StoreError(
                "store: expected features of the teacher; got none. Name layers, or keep no "
                "features."
            )
        for name, values in outputs.features.items():
            _check_said(FEATURES + name, values, index)
            columns[FEATURES + name] = values
    return {name: _narrowed(name, values, keep) for name, values in columns.items()}


def stacked(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the columns of several batches as those of one.

    Raises:
        StoreError: If their rows have several shapes.
    """
    for part in parts[1:]:
        for name, values in parts[0].items():
            shapes = [list(found.shape[1:]) for found in (values, part[name])]
            if shapes[0] != shapes[1]:
                raise StoreError(
                    f"store: expected {name} of one shape for all rows; got {shapes[0]} and "
                    f"{shapes[1]}. Pad all rows to one length, or keep features without `maps`."
                )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _answers(logits: Tensor, index: Tensor, view: Tensor | int, keep: Keep) -> dict[str, Tensor]:
    if keep.what == "logits":
        return {"logits": logits}
    if keep.what == "hard_labels" and keep.greedy:
        return {"labels": logits.argmax(dim=-1, keepdim=True).to(torch.int32)}
    classes = logits.shape[-1]
    flat = logits.reshape(-1, classes)
    kept = kept_labels(keep, classes)
    uniform = _uniform(logits, index, view, keep) if keep.drawn else None
    size = max(1, BLOCK // classes)
    blocks = [
        _drawn(part, uniform[start : start + size], kept, keep)
        if uniform is not None
        else _most_likely(part, kept, keep)
        for start, part in zip(range(0, len(flat), size), flat.split(size), strict=True)
    ]
    shape = logits.shape[:-1]
    return {
        name: values.reshape(*shape, *values.shape[1:]) for name, values in stacked(blocks).items()
    }


def _uniform(logits: Tensor, index: Tensor, view: Tensor | int, keep: Keep) -> Tensor:
    """Return numbers for every draw of every row, or token of it, [rows, draws]."""
    index = index.to(logits.device)
    views = view.to(logits.device) if isinstance(view, Tensor) else torch.full_like(index, view)
    draws = keep.draws or 1
    numbers = uniform_numbers(keep.seed, index, views, math.prod(logits.shape[1:-1]) * draws)
    return numbers.reshape(-1, draws)


def _drawn(logits: Tensor, uniform: Tensor, kept: int, keep: Keep) -> dict[str, Tensor]:
    log_t = _log_probabilities(logits, keep)
    labels, counts = counted(drawn_labels(log_t, uniform), kept)
    columns = {"labels": labels.to(torch.int32)}
    if keep.what != "hard_labels":
        found = log_t.gather(1, labels.clamp_min(0))
        columns["log_probabilities"] = found.masked_fill(labels < 0, 0.0)
    if keep.what == "sampled_counts":
        columns["counts"] = counts.to(torch.int32)
    return columns


def _most_likely(logits: Tensor, kept: int, keep: Keep) -> dict[str, Tensor]:
    log_t = _log_probabilities(logits, keep)
    top, labels = log_t.topk(kept, dim=1)
    impossible = top == -math.inf
    return {
        "labels": labels.masked_fill(impossible, -1).to(torch.int32),
        "log_probabilities": top.masked_fill(impossible, 0.0),
        # Of all others, summed in log-space: one minus the rest would be rounding.
        "tail": log_t.scatter(1, labels, -math.inf).logsumexp(dim=1),
    }


def _log_probabilities(logits: Tensor, keep: Keep) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(wide / keep.temperature, dim=-1)


def _check_said(name: str, values: Tensor, index: Tensor) -> None:
    if values.shape[0] != len(index):
        raise StoreError(
            f"store: expected {len(index)} rows of {name}; got {values.shape[0]}. The teacher must "
            "answer each row with one."
        )
    # A class that cannot be has a logit of minus infinity; nothing else is infinite for a reason.
    wrong = values.isnan() | (values == math.inf)
    impossible = values == -math.inf
    wrong |= impossible if name != "logits" else impossible.all(dim=-1, keepdim=True)
    if bool(wrong.any()):
        row = int(index[wrong.reshape(len(index), -1).any(1).nonzero()[0, 0].to(index.device)])
        raise StoreError(
            f"store: expected finite {name}; got NaN or infinity in {int(wrong.sum())} places, "
            f"first for sample {row}. Look at the teacher's output there, or run it in fp32."
        )


def _narrowed(name: str, values: Tensor, keep: Keep) -> Tensor:
    values = values.detach()
    if values.dtype == torch.int32:
        return values.cpu()
    dtype = PRECISIONS[keep.dtype]
    if dtype == torch.float32 and values.dtype == torch.float64:
        dtype = torch.float64
    narrow = values.to(dtype)
    lost = narrow.isinf() & ~values.isinf()
    if bool(lost.any()):
        raise StoreError(
            f"store: expected {name} that {keep.dtype} can hold; got "
            f"{float(values[lost].abs().max()):.4g} in {int(lost.sum())} places, more than "
            f"{torch.finfo(dtype).max:.4g}. Keep them as bf16 or fp32."
        )
    return narrow.cpu().contiguous()
