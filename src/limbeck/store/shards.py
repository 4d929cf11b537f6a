"""Rows of shards on memory maps."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.checks import StoreError
from limbeck.store.columns import CODES, DTYPES, Column
from limbeck.store.folder import shard_path
from limbeck.store.manifest import Manifest


class Shards:
    """All shards of a store, each mapped when it is first read.

    The maps lie anywhere in memory. A column is read through one tensor that begins with the lowest
    map and ends with the highest, whose "rows" begin at every element: so the rows of a batch are
    gathered from any number of shards at once, for as little as from one array. Gaps between the
    maps are part of that tensor and never touched, as indices are made of valid rows alone.

    Args:
        folder: The store's folder.
        manifest: Its manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        plan = manifest.plan
        self._shards = list(plan.shards())
        self._shard_rows = plan.shard_rows
        self._shards_a_view = math.ceil(plan.rows / plan.shard_rows)
        self._columns = plan.columns
        self._maps = _Maps({}, self._columns, len(self._shards))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps out: whoever unpickles this maps the files anew."""
        return {"folder": self.folder, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["manifest"])

    def check_sizes(self) -> None:
        """Raise StoreError unless every shard is there with the size that the manifest has."""
        for name, written in self.manifest.shards.items():
            check_size(shard_path(self.folder, name), written.bytes)

    def rows(self, index: Tensor, view: Tensor | None, names: Sequence[str]) -> dict[str, Tensor]:
        """Return copies of rows, in the dtypes they are stored in.

        Args:
            index: Samples, int64 on the CPU, within the store.
            view: View of each, within the store; None for the first of all.
            names: Columns.
        """
        local = index.numpy()
        shard: Any = 0
        if self._shards_a_view > 1:
            shard = local // self._shard_rows
            local = local - shard * self._shard_rows
        if view is not None and len(self._shards) > 1:
            shard = shard + view.numpy() * self._shards_a_view
        maps = self._maps
        if not (maps.are_all or (maps.known and maps.has[shard].all())):
            maps = self._mapped(np.unique(shard).tolist() or [0])
        found: dict[str, Tensor] = {}
        for name in names:
            through, shape = maps.through[name], self._columns[name].shape
            begins = through.begins[shard] + local * through.width
            rows = through.tensor.index_select(0, torch.from_numpy(begins))
            found[name] = rows if len(shape) == 1 else rows.view(len(local), *shape)
        return found

    def _mapped(self, numbers: list[int]) -> _Maps:
        known = dict(self._maps.known)
        for number in numbers:
            shard = self._shards[number]
            known[number] = known.get(number) or Mapped(
                shard_path(self.folder, shard),
                self.manifest.shards[shard.name].bytes,
                len(shard),
                self._columns,
            )
        # Replaced at once: another thread that reads has all of the old or all of the new. If both
        # map something one of them is forgotten, and mapped again when it is needed.
        self._maps = maps = _Maps(known, self._columns, len(self._shards))
        return maps


class _Maps:
    """The shards that are mapped.

    Attributes:
        known: Each by its number.
        has: Which these are.
        are_all: Whether these are all.
        through: How each column is read.
    """

    def __init__(
        self, known: Mapping[int, Mapped], columns: Mapping[str, Column], shards: int
    ) -> None:
        self.known, self.are_all = known, len(known) == shards
        self.has = np.zeros(shards, dtype=bool)
        self.has[list(known)] = True
        self.through = {
            name: _Through(column, name, known, shards) for name, column in columns.items() if known
        }


class Mapped:
    """One shard on a private memory map: whoever writes to it changes no file.

    Args:
        path: The file.
        size: Its size by the manifest.
        rows: Its rows by the manifest.
        columns: Its columns by the manifest.

    Raises:
        StoreError: If the file is absent or another one.

    Attributes:
        begins: Where each column begins in memory.
        end: Where the map ends.
    """

    def __init__(self, path: Path, size: int, rows: int, columns: Mapping[str, Column]) -> None:
        check_size(path, size)
        # Python's map and numpy's keep a descriptor open for each shard; this one does not.
        self.storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        raw = torch.empty(0, dtype=torch.uint8).set_(self.storage)  # pyright: ignore[reportArgumentType]
        header, data = _header(raw, path)
        self.begins: dict[str, int] = {}
        for name, column in columns.items():
            shape, itemsize = [rows, *column.shape], DTYPES[column.dtype].itemsize
            found = header.get(name, {})
            begin, stop = found.get("data_offsets", (0, 0))
            if (
                (found.get("dtype"), found.get("shape")) != (CODES[column.dtype], shape)
                or stop - begin != rows * column.row_bytes
                or not data <= data + begin < data + stop <= size
                or (data + begin) % itemsize
            ):
                raise StoreError(_other(path, f"no {column.dtype} {name} of shape {shape}"))
            self.begins[name] = self.storage.data_ptr() + data + begin
        self.end = self.storage.data_ptr() + size


class _Through:
    """One tensor through all maps, for a column.

    Attributes:
        tensor: Row i begins with element i behind the lowest map.
        begins: Row with which each shard begins.
        width: Elements of a row of the store.
    """

    def __init__(self, column: Column, name: str, maps: Mapping[int, Mapped], shards: int) -> None:
        dtype = DTYPES[column.dtype]
        low = min(mapped.begins[name] for mapped in maps.values())
        high = max(mapped.end for mapped in maps.values())
        self.width = math.prod(column.shape)
        self.begins = np.zeros(shards, dtype=np.int64)
        for number, mapped in maps.items():
            self.begins[number] = (mapped.begins[name] - low) // dtype.itemsize
        elements = (high - low) // dtype.itemsize
        memory = (ctypes.c_char * (elements * dtype.itemsize)).from_address(low)
        flat = torch.frombuffer(memory, dtype=dtype)
        self.tensor = flat.as_strided((elements - self.width + 1, self.width), (1, 1))


def check_size(path: Path, size: int) -> None:
    """Raise StoreError unless a file is there with a size."""
    try:
        found = path.stat().st_size
    except OSError as problem:
        raise StoreError(_other(path, problem.strerror or str(problem))) from None
    if found != size:
        raise StoreError(_other(path, f"{found} bytes in the place of {size}"))


def _header(raw: Tensor, path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where its numbers begin."""
    length = int.from_bytes(bytes(raw[:8].tolist()), "little")
    try:
        told = json.loads(raw[8 : 8 + length].numpy().tobytes())
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise StoreError(_other(path, "no header of safetensors"))
    return told, 8 + length


def _other(path: Path, got: str) -> str:
    return (
        f"{path}: expected the shard that the manifest tells of; got {got}. Restore a copy of it, "
        "or delete the folder and write the store again."
    )
