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
_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}

Labelled = list[tuple[Path, int]]


def read_image_folder(folder: Path, size: tuple[int, int] | None) -> Source | None:
    """Read ``train/<class>/*``, and ``val`` and ``test`` of the same form where they exist.

    Without any of these, ``<class>/*`` are training images as in a ``train`` by itself. Images are
    grey if all training images are, else of three colours. All get one size.

    Args:
        folder: Where ``train`` lies, or the folders of the classes.
        size: Height and width; None takes the one that most training images have, the larger of
            two that are equally common.

    Returns:
        The images, or None if there is neither.

    Raises:
        DataError: If an image cannot be read, a part has none, or ``val`` or ``test`` has a class
            that ``train`` has not.
    """
    places = {part: folder / part for part in ("train", "val", "test")}
    if not places["train"].is_dir():
        if not _is_plain(folder):
            return None
        places = {"train": folder}
    classes = tuple(sorted(path.name for path in _folders(places["train"])))
    train = _files(places["train"], classes)
    heads = [_head(path) for path, _ in train]
    mode = "L" if all(grey for _, grey in heads) else "RGB"
    if size is None:
        counts = Counter(shape for shape, _ in heads)
        size = max(counts, key=lambda shape: (counts[shape], shape))
    rows = {
        part: _decoded(_files(place, classes), size, mode, str(place))
        for part, place in places.items()
        if place.is_dir()
    }
    return Source(rows["train"], rows.get("test"), classes, rows.get("val"))


def _is_plain(folder: Path) -> bool:
    """Say whether folders of classes lie right here: images in each, no name of a part of data."""
    if not folder.is_dir():
        return False
    found = _folders(folder)
    named = {path.name.lower() for path in found} & _PARTS
    return len(found) > 1 and not named and all(map(_holds_images, found))


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in ENDINGS for path in folder.iterdir() if path.is_file())


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
