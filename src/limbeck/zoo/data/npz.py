"""Data sets in one .npz file."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from limbeck.checks import DataError
from limbeck.zoo.data.reading import damaged, read_bytes
from limbeck.zoo.data.rows import CHANNELS, Rows, Source, rows_of


def read_npz(path: Path) -> Source | None:
    """Read arrays ``x_train``, ``y_train`` and perhaps ``x_test``, ``y_test``, or ``x``, ``y``.

    ``class_names``, an array of strings, names the classes; without it they are numbered, and
    every number up to the largest must occur in training.

    Args:
        path: The file, or a folder with this one .npz file in it.

    Returns:
        What it holds, or None if there is no such file.

    Raises:
        DataError: If it is damaged or holds other arrays.
    """
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if len(found) != 1:
            return None
        path = found[0]
    arrays = _arrays(path)
    suffix = "_train" if "x_train" in arrays else ""
    if f"x{suffix}" not in arrays or f"y{suffix}" not in arrays:
        raise DataError(
            f"load_dataset: expected arrays x_train, y_train, or x, y, in {path}; "
            f"got {', '.join(sorted(arrays)) or 'none'}."
        )
    train = _rows(arrays[f"x{suffix}"], arrays[f"y{suffix}"], path)
    test = None
    if suffix and ("x_test" in arrays or "y_test" in arrays):
        if not ("x_test" in arrays and "y_test" in arrays):
            raise DataError(
                f"load_dataset: expected both x_test and y_test in {path}, or neither; "
                f"got {', '.join(sorted(arrays))}."
            )
        test = _rows(arrays["x_test"], arrays["y_test"], path)
    return Source(train, test, _class_names(arrays.get("class_names"), train, path))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    content = read_bytes(path)
    if not content.startswith(b"PK"):
        raise damaged(path, "it is no zip archive")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
        raise damaged(path, problem) from None


def _rows(images: np.ndarray, labels: np.ndarray, path: Path) -> Rows:
    where = str(path)
    nchw = False
    if images.ndim == 4:
        first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
        if first and last:
            raise DataError(
                f"load_dataset: expected images with channels either first or last in {where}; got "
                f"shape {images.shape}, which can be read both ways. Save images of one channel as "
                "(rows, height, width)."
            )
        nchw = first
    return rows_of(images, labels, where, nchw=nchw)


def _class_names(given: np.ndarray | None, train: Rows, path: Path) -> tuple[str, ...]:
    if given is not None:
        return tuple(str(name) for name in given.reshape(-1))
    present = train.labels.unique().tolist()
    if present != list(range(len(present))):
        raise DataError(
            f"load_dataset: expected labels from 0 upwards without a gap in {path}; got "
            f"{', '.join(map(str, present[:10]))}. Renumber them, or add an array `class_names` "
            "with one name a class."
        )
    return tuple(map(str, present))
