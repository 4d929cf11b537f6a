"""Labelled images as the readers hand them on, and the checks that all of them share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limbeck.checks import DataError


CHANNELS = (1, 3)


@dataclass(frozen=True)
class Rows:
    """Images [rows, channels, height, width] and their class indices, int64 [rows]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> Rows:
        """Return the rows at ``index``."""
        return Rows(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Source:
    """What a reader found: ``None`` where the data set has no such part of its own."""

    train: Rows
    test: Rows | None
    class_names: tuple[str, ...]
    validation: Rows | None = None


def rows_of(images: np.ndarray, labels: np.ndarray, where: str, *, nchw: bool = False) -> Rows:
    """Make rows of arrays.

    Args:
        images: uint8, or float in [0, 1] (kept as float32); [rows, height, width] or
            [rows, height, width, channels], or [rows, channels, height, width] if ``nchw``.
        labels: Integers [rows].
        where: What messages call these arrays.
        nchw: Whether channels stand before the pixels.

    Raises:
        DataError: If shapes, types or values are others than these.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"load_dataset: expected integer labels of shape (rows,) in {where}; "
            f"got {labels.dtype} {labels.shape}."
        )
    if images.ndim == 3:
        images = images[..., None]
        nchw = False
    if images.ndim != 4 or images.shape[1 if nchw else 3] not in CHANNELS:
        raise DataError(
            f"load_dataset: expected images with 1 or 3 channels in {where}; "
            f"got shape {images.shape}."
        )
    if len(images) != len(labels):
        raise DataError(
            f"load_dataset: expected one label for each image in {where}; got {len(images)} images "
            f"and {len(labels)} labels."
        )
    if 0 in images.shape:
        raise DataError(
            f"load_dataset: expected at least one image in {where}; got shape {images.shape}. "
            "Check that the download is whole."
        )
    ordered = images if nchw else images.transpose(0, 3, 1, 2)
    return Rows(
        torch.from_numpy(_pixels(ordered, where)), torch.from_numpy(labels.astype(np.int64))
    )


def check_source(source: Source, where: str) -> None:
    """Raise DataError unless the parts fit each other and the classes.

    Raises:
        DataError: If image shapes differ, a label is no class, or the training rows are all of one
            class.
    """
    classes = len(source.class_names)
    parts = {"train": source.train, "validation": source.validation, "test": source.test}
    for part, rows in parts.items():
        if rows is None:
            continue
        low, high = int(rows.labels.min()), int(rows.labels.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"load_dataset: expected labels from 0 to {classes - 1} in the {part} part of "
                f"{where}; got labels from {low} to {high}. Check that the files belong to {where}."
            )
        if rows.images.shape[1:] != source.train.images.shape[1:]:
            raise DataError(
                f"load_dataset: expected {part} images of the training images' shape "
                f"{tuple(source.train.images.shape[1:])} in {where}; "
                f"got {tuple(rows.images.shape[1:])}."
            )
    if len(source.train.labels.unique()) < 2:
        raise DataError(
            f"load_dataset: expected training rows of at least two classes in {where}; got "
            f"{len(source.train)} rows, all of class {int(source.train.labels[0])}."
        )


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return np.array(images, order="C")
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:
        return np.array(images, dtype=np.float32, order="C")
    held = f"{images.dtype} from {images.min()} to {images.max()}"
    raise DataError(
        f"load_dataset: expected pixels as uint8, or as float in [0, 1], in {where}; got {held}. "
        "Rescale them and save them again."
    )
