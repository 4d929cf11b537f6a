"""Folders of contact sheets: many images of 32x32 as tiles of a few lossless WebP files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from limbeck.checks import DataError
from limbeck.zoo.data.reading import damaged, read_array
from limbeck.zoo.data.rows import Rows, rows_of


_TILE = 32
_STEP = 5


def read_sheets(folder: Path, part: str) -> Rows | None:
    """Read one part of a data set from its sheets, the tiles row by row.

    ``<part>_00.webp``, ``<part>_01.webp``, ... hold exact pixels; ``<part>_q5_00.webp``, ... hold
    pixels divided by 5 and rounded, and are multiplied again. ``<part>_labels.npy`` has the labels.

    Args:
        folder: Where the sheets lie.
        part: "train" or "test".

    Returns:
        The rows, or None if there are no such sheets.

    Raises:
        DataError: If a sheet is damaged or no grid of tiles, or their number is not that of the
            labels.
    """
    labels = folder / f"{part}_labels.npy"
    exact = sorted(folder.glob(f"{part}_[0-9][0-9].webp"))
    coarse = sorted(folder.glob(f"{part}_q{_STEP}_[0-9][0-9].webp"))
    if not labels.is_file() or not (exact or coarse):
        return None
    tiles = [_tiles(path) for path in exact] or [_scaled(_tiles(path), path) for path in coarse]
    return rows_of(np.concatenate(tiles), read_array(labels), f"the {part} sheets of {folder}")


def _tiles(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            sheet = np.asarray(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as problem:
        raise damaged(path, problem) from None
    height, width, _ = sheet.shape
    if height % _TILE or width % _TILE:
        raise DataError(
            f"load_dataset: expected a grid of tiles of {_TILE}x{_TILE} pixels in {path}; "
            f"got {height}x{width} pixels."
        )
    grid = sheet.reshape(height // _TILE, _TILE, width // _TILE, _TILE, 3)
    return grid.swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3)


def _scaled(tiles: np.ndarray, path: Path) -> np.ndarray:
    if tiles.max() > 255 // _STEP:
        raise DataError(
            f"load_dataset: expected pixels up to {255 // _STEP}, to be multiplied by {_STEP}, in "
            f"{path}; got {tiles.max()}. Name the sheets without q{_STEP} if they are exact."
        )
    return tiles * np.uint8(_STEP)
