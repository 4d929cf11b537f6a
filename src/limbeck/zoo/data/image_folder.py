"""Folders with one sub-folder of image files a class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from limbeck.checks import DataError
from limbeck.zoo.data.rows import Rows, Source, rows_of


ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
_GREY = {"1", "L"}

Labelled = list[tuple[Path, int]]


def read_image_folder(folder: Path, size: tuple[int, int] | None) -> Source | None:
    """Read ``train/<class>/*``, and ``val`` and ``test`` of the same form where they exist.

    Images are grey if all training images are, else of three colours. All get one size.

    Args:
        folder: Where ``train`` lies.
        size: Height and width; None takes the one that most training images have, the larger of
            two that are equally common.

    Returns:
        The images, or None if there is no ``train``.

    Raises:
        DataError: If an image cannot be read, a part has none, or ``val`` or ``test`` has a class
            that ``train`` has not.
    """
    if not (folder / "train").is_dir():
        return None
    classes = tuple(sorted(path.name for path in _folders(folder / "train")))
    train = _files(folder / "train", classes)
    heads = [_head(path) for path, _ in train]
    mode = "L" if all(grey for _, grey in heads) else "RGB"
    if size is None:
        counts = Counter(shape for shape, _ in heads)
        size = max(counts, key=lambda shape: (counts[shape], shape))
    rows = {
        part: _decoded(_files(folder / part, classes), size, mode, str(folder / part))
        for part in ("train", "val", "test")
        if (folder / part).is_dir()
    }
    return Source(rows["train"], rows.get("test"), classes, rows.get("val"))


def _folders(part: Path) -> list[Path]:
    return [path for path in part.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _files(part: Path, classes: tuple[str, ...]) -> Labelled:
    unknown = sorted({path.name for path in _folders(part)} - set(classes))
    if unknown:
        raise DataError(
            f"load_dataset: expected only classes that train has in {part}; "
            f"got {', '.join(unknown)}."
        )
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((part / name).rglob("*"))
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(
            f"load_dataset: expected images as {part}/<class>/<name>.png; got none. "
            f"Endings that count: {', '.join(sorted(ENDINGS))}."
        )
    return found


def _head(path: Path) -> tuple[tuple[int, int], bool]:
    """Return height and width, and whether the image is grey, without decoding its pixels."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode in _GREY
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as problem:
        raise _unreadable(path, problem) from None


def _decoded(files: Labelled, size: tuple[int, int], mode: str, where: str) -> Rows:
    channels = () if mode == "L" else (3,)
    images = np.empty((len(files), *size, *channels), np.uint8)
    for row, (path, _) in enumerate(files):
        try:
            with Image.open(path) as opened:
                image = opened.convert(mode)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as problem:
            raise _unreadable(path, problem) from None
        if (image.height, image.width) != size:
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        images[row] = np.asarray(image)
    return rows_of(images, np.array([label for _, label in files], np.int64), where)


def _unreadable(path: Path, problem: object) -> DataError:
    return DataError(
        f"load_dataset: expected an image in {path}; got a file that cannot be read ({problem}). "
        "Remove or replace it."
    )
