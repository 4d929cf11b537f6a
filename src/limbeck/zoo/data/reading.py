"""Files as bytes and arrays: plain, gzip or xz, damaged ones refused by name."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from pathlib import Path

import numpy as np

from limbeck.checks import DataError


_PACKED = {".gz": gzip.open, ".xz": lzma.open}


def find_file(folder: Path, *names: str) -> Path | None:
    """Return the first of ``names`` that lies in ``folder``, as it is or as .gz or .xz."""
    for name in names:
        for ending in ("", *_PACKED):
            path = folder / f"{name}{ending}"
            if path.is_file():
                return path
    return None


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if its name ends in .gz or .xz.

    Raises:
        DataError: If it cannot be read or is damaged.
    """
    try:
        if path.suffix in _PACKED:
            with _PACKED[path.suffix](path, "rb") as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as problem:
        raise damaged(path, problem) from None


def read_array(path: Path) -> np.ndarray:
    """Read a .npy file, packed or not; one that holds pickled objects is refused.

    Raises:
        DataError: If it is not a whole .npy file of numbers.
    """
    content = io.BytesIO(read_bytes(path))
    try:
        return np.load(content, allow_pickle=False)
    except (ValueError, EOFError, OSError) as problem:
        raise damaged(path, problem) from None


def damaged(path: Path | str, problem: object) -> DataError:
    """Return the error for a file that is cut off or not what its name says."""
    return DataError(
        f"load_dataset: expected a whole file {path}; got one that cannot be read ({problem}). "
        "Fetch it again."
    )


def listing(folder: Path) -> str:
    """Return the names of a few files in ``folder``, for messages."""
    names = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return shown or "an empty folder"
