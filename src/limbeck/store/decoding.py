"""Columns of a store to outputs of a teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.store.columns import FEATURES
from limbeck.store.kinds import Keep
from limbeck.types import Answers, Outputs


def decode(columns: Mapping[str, Tensor], keep: Keep) -> Outputs:
    """Return what a teacher said, as a live one would give it.

    Args:
        columns: Some or all of a store's columns for a batch of rows, on any device.
        keep: What was kept.

    Returns:
        Logits and features in float32 (float64 stays). Of the other kinds ``answers``: labels that
        were drawn have counts, the most likely ones have none.

    Example:
        >>> decode(
        ...     {"labels": torch.tensor([[3]], dtype=torch.int32)}, Keep.of("hard_labels")
        ... ).answers
        Answers(labels=tensor([[3]]), log_probabilities=None, counts=tensor([[1]]))
    """
    wide = {name: _wide(values) for name, values in columns.items()}
    features = {
        name.removeprefix(FEATURES): values
        for name, values in wide.items()
        if name.startswith(FEATURES)
    }
    return Outputs(wide.get("logits"), features, _answers(wide, keep))


def _answers(columns: Mapping[str, Tensor], keep: Keep) -> Answers | None:
    labels = columns.get("labels")
    if labels is None:
        return None
    counts = columns.get("counts")
    if counts is None and keep.drawn:
        counts = torch.ones_like(labels)
    return Answers(labels, columns.get("log_probabilities"), counts)


def _wide(values: Tensor) -> Tensor:
    if values.dtype == torch.int32:
        return values.to(torch.int64)
    return values if values.dtype == torch.float64 else values.to(torch.float32)
