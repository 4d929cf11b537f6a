"""CIFAR-10 and CIFAR-100: the original archives, or folders of contact sheets."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limbeck.checks import DataError
from limbeck.zoo.data.cifar_pickle import read_pickle
from limbeck.zoo.data.contact_sheets import read_sheets
from limbeck.zoo.data.names import CIFAR10, CIFAR100
from limbeck.zoo.data.reading import damaged, read_bytes
from limbeck.zoo.data.rows import Rows, Source, rows_of


_PIXELS = 3 * 32 * 32
Decode = Callable[[bytes, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Layout:
    """Where one of the original archives keeps what, and how a file of it is decoded."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    decode: Decode


def read_cifar10(folder: Path) -> Source | None:
    """Read CIFAR-10; None if nothing of it lies in ``folder``."""
    return _read(folder, _CIFAR10, CIFAR10)


def read_cifar100(folder: Path) -> Source | None:
    """Read CIFAR-100 with its 100 fine labels; None if nothing of it lies in ``folder``."""
    return _read(folder, _CIFAR100, CIFAR100)


def _read(
    folder: Path, layouts: tuple[_Layout, ...], class_names: tuple[str, ...]
) -> Source | None:
    for layout in layouts:
        files = _files(folder, layout)
        if files is not None:
            train = _joined(files, layout.train, layout.decode)
            return Source(train, _joined(files, layout.test, layout.decode), class_names)
    train, test = read_sheets(folder, "train"), read_sheets(folder, "test")
    return None if train is None or test is None else Source(train, test, class_names)


def _files(folder: Path, layout: _Layout) -> dict[str, bytes] | None:
    names = (*layout.train, *layout.test)
    for place in (folder, folder / layout.folder):
        present = [name for name in names if (place / name).is_file()]
        if present:
            _check_complete(present, names, place)
            return {name: read_bytes(place / name) for name in names}
    archive = folder if folder.is_file() else folder / layout.archive
    if archive.name != layout.archive or not archive.is_file():
        return None
    files = _members(archive, names)
    _check_complete(list(files), names, archive)
    return files


def _members(archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Read members by their last name, in memory: nothing of the archive is written anywhere."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                name = Path(member.name).name
                content = opened.extractfile(member) if member.isfile() else None
                if name in names and content is not None:
                    files[name] = content.read()
    except (tarfile.TarError, gzip.BadGzipFile, OSError, EOFError, zlib.error) as problem:
        raise damaged(archive, problem) from None
    return files


def _check_complete(present: list[str], names: tuple[str, ...], place: Path) -> None:
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"load_dataset: expected {', '.join(names)} in {place}; got no "
            f"{', '.join(missing)}. Fetch the archive again."
        )


def _joined(files: dict[str, bytes], names: tuple[str, ...], decode: Decode) -> Rows:
    parts = [decode(files[name], name) for name in names]
    images = np.concatenate([part[0] for part in parts]).reshape(-1, 3, 32, 32)
    return rows_of(images, np.concatenate([part[1] for part in parts]), names[0], nchw=True)


def _binary(label_bytes: int) -> Decode:
    """Return the decoder of records of ``label_bytes`` labels, the last one wanted, and pixels."""
    record = label_bytes + _PIXELS

    def decode(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
        if len(content) % record:
            raise DataError(
                f"load_dataset: expected records of {record} bytes in {name}; got {len(content)} "
                "bytes, which is no multiple. Fetch it again."
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, record)
        return rows[:, label_bytes:], rows[:, label_bytes - 1]

    return decode


def _pickled(labels: str) -> Decode:
    return lambda content, name: read_pickle(content, labels, name)


_TEN_BINARY = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEN_PYTHON = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR10 = (
    _Layout(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        _TEN_BINARY,
        ("test_batch.bin",),
        _binary(1),
    ),
    _Layout(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        _TEN_PYTHON,
        ("test_batch",),
        _pickled("labels"),
    ),
)
_CIFAR100 = (
    _Layout(
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        ("train.bin",),
        ("test.bin",),
        _binary(2),
    ),
    _Layout(
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        ("train",),
        ("test",),
        _pickled("fine_labels"),
    ),
)
