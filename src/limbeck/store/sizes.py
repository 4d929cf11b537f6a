"""How many bytes a store takes, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

from limbeck.checks import ArgumentError
from limbeck.store.columns import FEATURES, Column, Columns, row_bytes
from limbeck.store.kinds import PRECISIONS, Keep


Width = int | tuple[int, ...]


def bytes_per_row(
    keep: Keep, classes: Width | None = None, widths: Mapping[str, Width] | None = None
) -> int:
    """Return how many bytes one view of a sample takes on disk.

    Args:
        keep: What is kept.
        classes: Width of the logits, or their shape behind the batch, as (tokens, classes).
        widths: Width or shape of each layer's features.

    Returns:
        Bytes, without the few of the manifest and the shards' headers. A float64 teacher's numbers
        take twice as many at "fp32".

    Raises:
        ArgumentError: If a width that ``keep`` needs is missing, or fewer classes than labels.

    Example:
        100 classes in two bytes each; five labels of four bytes, as many log-probabilities of two
        and the tail's.

        >>> bytes_per_row(Keep.of("logits", dtype="fp16"), 100)
        200
        >>> bytes_per_row(Keep.of("top_k", k=5, dtype="fp16"), 100)
        32
    """
    return row_bytes(planned_columns(keep, classes, widths))


def planned_columns(
    keep: Keep, classes: Width | None = None, widths: Mapping[str, Width] | None = None
) -> Columns:
    """Return the columns that a store of a float32 teacher's outputs has.

    Args:
        keep: What is kept.
        classes: Width of the logits, or their shape behind the batch.
        widths: Width or shape of each layer's features.

    Raises:
        ArgumentError: If a width that ``keep`` needs is missing, or fewer classes than labels.
    """
    dtype = str(PRECISIONS[keep.dtype]).removeprefix("torch.")
    columns: Columns = {}
    if keep.what is not None:
        if classes is None:
            raise ArgumentError(f"bytes_per_row: expected `classes` with {keep.what}; got None.")
        columns |= _answers(keep, dtype, _shape(classes))
    if keep.features:
        if not widths:
            raise ArgumentError("bytes_per_row: expected `widths` of the layers; got none.")
        columns |= {FEATURES + name: Column(dtype, _shape(width)) for name, width in widths.items()}
    return columns


def kept_labels(keep: Keep, classes: int) -> int:
    """Return how many labels a row has.

    Raises:
        ArgumentError: If more of the most likely labels are asked for than there are classes.
    """
    if keep.what == "top_k":
        number = keep.k or 1
        if number > classes:
            raise ArgumentError(
                f"keep: expected `k` of at most {classes}, the number of classes; got {number}. "
                "Choose a smaller k, or keep logits."
            )
        return number
    return min(keep.draws or 1, classes)


def _answers(keep: Keep, dtype: str, shape: tuple[int, ...]) -> Columns:
    if keep.what == "logits":
        return {"logits": Column(dtype, shape)}
    outer = shape[:-1]
    labels = Column("int32", (*outer, kept_labels(keep, shape[-1])))
    columns = {"labels": labels}
    if keep.what != "hard_labels":
        columns["log_probabilities"] = Column(dtype, labels.shape)
    if keep.what == "sampled_counts":
        columns["counts"] = labels
    if keep.what == "top_k":
        columns["tail"] = Column(dtype, outer)
    return columns


def _shape(width: Width) -> tuple[int, ...]:
    return (width,) if isinstance(width, int) else tuple(width)
