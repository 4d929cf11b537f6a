"""Held-out rows that are training rows too, where that is certain and costs nothing to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import Subset

from limbeck.data import Arrays, Data
from limbeck.training.preflight import Finding


def check_overlap(data: Data, **held_out: Data | None) -> list[Finding]:
    """Find held-out rows that lie in the training rows' own memory, or are the same items.

    Copies are not looked for: that would mean to read every row.

    Args:
        data: The training rows.
        held_out: Validation and test rows by what they are called.
    """
    counts = {name: _shared(data, rows) for name, rows in held_out.items() if rows is not None}
    return [
        Finding(
            "warning",
            f"{name}: {count} of its rows are training rows too, so that it says nothing of new "
            "ones. Give rows that the student does not learn from.",
        )
        for name, count in counts.items()
        if count
    ]


def _shared(one: Data, other: Data) -> int:
    """Return how many rows of the second are surely rows of the first."""
    first, second = one.source, other.source
    if isinstance(first, Arrays) and isinstance(second, Arrays):
        ours, theirs = _named(first.inputs), _named(second.inputs)
        if ours.keys() != theirs.keys():
            return 0
        return min(_shared_memory(ours[name], theirs[name]) for name in ours)
    if isinstance(first, Arrays) or isinstance(second, Arrays):
        return 0
    (base, places), (other_base, others) = _places(first.dataset), _places(second.dataset)
    if base is not other_base:
        return 0
    return len(set(places) & set(others))


def _named(inputs: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"inputs": inputs} if isinstance(inputs, Tensor) else inputs


def _shared_memory(one: Tensor, other: Tensor) -> int:
    """Return how many rows two arrays have in common by where they lie in memory."""
    alike = one.device == other.device and one.dtype == other.dtype
    whole = one.is_contiguous() and other.is_contiguous()
    if not alike or not whole or one.shape[1:] != other.shape[1:] or not one.numel():
        return 0
    row = one.nbytes // len(one)
    begin = max(one.data_ptr(), other.data_ptr())
    end = min(one.data_ptr() + one.nbytes, other.data_ptr() + other.nbytes)
    return max(end - begin, 0) // row


def _places(dataset: Any) -> tuple[Any, range | list[int]]:
    """Return the data set under any subsets, and which of its rows these have left."""
    if not isinstance(dataset, Subset):
        return dataset, range(len(dataset))
    base, places = _places(dataset.dataset)
    return base, [places[int(at)] for at in dataset.indices]
