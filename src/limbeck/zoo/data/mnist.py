"""MNIST and Fashion-MNIST: IDX files or .npy arrays, packed or not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from limbeck.checks import DataError
from limbeck.zoo.data.reading import find_file, read_array, read_bytes
from limbeck.zoo.data.rows import Rows, Source, rows_of


def read_mnist(folder: Path, class_names: tuple[str, ...]) -> Source | None:
    """Read both official parts; None if the folder holds neither IDX files nor arrays."""
    train, test = _part(folder, "train", "train"), _part(folder, "t10k", "test")
    if train is None or test is None:
        return None
    return Source(train, test, class_names)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes.

    Args:
        path: The file, packed or not.
        dimensions: How many the array must have: 3 for images, 1 for labels.

    Raises:
        DataError: If the magic number is another, or the length is not what the header says.
    """
    content = read_bytes(path)
    magic = int.from_bytes(content[:4], "big")
    expected = 0x0800 + dimensions
    if len(content) < 4 or magic != expected:
        raise DataError(
            f"load_dataset: expected an IDX file with magic number {expected} at {path}; got "
            f"{magic}. Check that images and labels are not swapped, and that it is unpacked or "
            "named .gz."
        )
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:start].ljust(4 * dimensions, b"\0"), ">u4").tolist())
    length = start + math.prod(shape)
    if len(content) != length:
        raise DataError(
            f"load_dataset: expected {length} bytes for an array of shape {shape} in {path}; "
            f"got {len(content)}. Fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _part(folder: Path, prefix: str, part: str) -> Rows | None:
    images = find_file(folder, f"{prefix}-images-idx3-ubyte", f"{prefix}-images.idx3-ubyte")
    labels = find_file(folder, f"{prefix}-labels-idx1-ubyte", f"{prefix}-labels.idx1-ubyte")
    if images is not None and labels is not None:
        return rows_of(read_idx(images, 3), read_idx(labels, 1), f"{images.name}")
    images, labels = find_file(folder, f"x_{part}.npy"), find_file(folder, f"y_{part}.npy")
    if images is not None and labels is not None:
        return rows_of(read_array(images), read_array(labels), f"{images.name}")
    return None
