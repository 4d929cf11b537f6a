"""The python version of CIFAR, whose files are pickles: read without running what they say."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from limbeck.checks import DataError


def read_pickle(content: bytes, labels: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 [rows, 3072], and labels, int64 [rows], of one pickled batch.

    A pickle may name any function and have it called. Here it gets stand-ins for the four names
    that a numpy array is pickled with, and every other name is refused.

    Args:
        content: The file.
        labels: Key of the labels in it.
        name: What messages call the file.

    Raises:
        DataError: If it names anything else, is cut off, or holds no images and labels.
    """
    try:
        batch = _Reader(io.BytesIO(content), encoding="latin1").load()
    except _UNREADABLE as problem:
        raise DataError(
            f"load_dataset: expected an original CIFAR batch in {name}; got a pickle that cannot "
            f"be read safely ({problem}). Fetch the archive again, or take its binary version."
        ) from None
    held = _by_text(batch)
    pixels, targets = held.get("data"), held.get(labels)
    if not isinstance(pixels, _Array) or pixels.value is None or not _are_integers(targets):
        raise DataError(
            f"load_dataset: expected `data` and `{labels}` in {name}; got "
            f"{', '.join(sorted(held)) or type(batch).__name__}. Fetch the archive again."
        )
    if pixels.value.ndim != 2 or pixels.value.shape[1] != 3072:
        raise DataError(
            f"load_dataset: expected `data` of shape (rows, 3072) in {name}; "
            f"got {pixels.value.shape}. Fetch the archive again."
        )
    return pixels.value, np.asarray(targets, dtype=np.int64)


class _Array:
    """Stands in for a numpy array of bytes while it is unpickled."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple[int, tuple[int, ...], Any, bool, str | bytes]) -> None:
        _, shape, kind, column_major, content = state
        if not isinstance(kind, _Kind) or kind.name not in ("u1", "|u1"):
            raise pickle.UnpicklingError("an array that is not of uint8")
        raw = content.encode("latin1") if isinstance(content, str) else content
        self.value = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if column_major else "C")


class _Kind:
    """Stands in for a numpy dtype."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and field names, which bytes have none of."""


def _new_array(*_: Any) -> _Array:
    return _Array()


def _new_kind(name: str, *_: Any) -> _Kind:
    return _Kind(name)


def _encoded(text: str, _: str) -> bytes:
    return text.encode("latin1")


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): None,  # handed to _reconstruct, which knows what it makes
    ("numpy", "dtype"): _new_kind,
    ("_codecs", "encode"): _encoded,
}
_UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
)


class _Reader(pickle.Unpickler):
    """An unpickler to which nothing exists but the stand-ins."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}") from None


def _by_text(batch: object) -> dict[str, Any]:
    """Return the batch with text keys: python 2 wrote bytes, python 3 writes either."""
    if not isinstance(batch, dict):
        return {}
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value
        for key, value in batch.items()
    }


def _are_integers(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, int) for value in values)
