"""Rows of shards on memory maps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
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
        self._known: dict[int, Mapped] = {}

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
        shard, local = np.zeros(len(index), np.int64), index
        if self._shards_a_view > 1:
            place = index.numpy()
            shard = place // self._shard_rows
            local = torch.from_numpy(place - shard * self._shard_rows)
        if view is not None:
            shard = shard + view.numpy() * self._shards_a_view
        if not len(shard) or (shard == shard[0]).all():
            only = self._mapped(int(shard[0]) if len(shard) else 0)
            return {name: only.columns[name].index_select(0, local) for name in names}
        # Rows of one shard together: what costs time is the number of calls.
        order = shard.argsort(kind="stable")
        shard, places = shard[order], local.numpy()[order]
        edges = [0, *(np.flatnonzero(shard[1:] != shard[:-1]) + 1).tolist(), len(shard)]
        parts = [(int(shard[a]), places[a:b], slice(a, b)) for a, b in pairwise(edges)]
        return {name: self._gathered(parts, order, name) for name in names}

    def _gathered(
        self, parts: list[tuple[int, np.ndarray, slice]], order: np.ndarray, name: str
    ) -> Tensor:
        """Return rows of several shards.

        Args:
            parts: Of each shard: its number, the rows, and where they go.
            order: Where each of them goes in the end.
            name: The column.
        """
        column = self._columns[name]
        found = np.empty((2, len(order), column.row_bytes), np.uint8)
        for number, rows, to in parts:
            mapped = self._known.get(number) or self._mapped(number)
            # Rows are within the shard; "clip" spares the copy that "raise" would make.
            mapped.raw[name].take(rows, axis=0, out=found[0, to], mode="clip")
        found[1, order] = found[0]
        values = torch.from_numpy(found[1]).view(-1).view(DTYPES[column.dtype])
        return values.view(len(order), *column.shape)

    def _mapped(self, number: int) -> Mapped:
        known = self._known.get(number)
        if known is None:
            shard = self._shards[number]
            known = self._known[number] = Mapped(
                shard_path(self.folder, shard),
                self.manifest.shards[shard.name].bytes,
                len(shard),
                self._columns,
            )
        return known


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
        columns: Each as a tensor on the map.
        raw: The same as bytes, uint8 [rows, bytes of a row].
    """

    def __init__(self, path: Path, size: int, rows: int, columns: Mapping[str, Column]) -> None:
        check_size(path, size)
        # Python's map and numpy's keep a descriptor open for each shard; this one does not.
        try:
            storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        except RuntimeError as problem:  # no right to read it, or as many maps as there may be
            raise StoreError(_other(path, str(problem).splitlines()[0])) from None
        raw = torch.empty(0, dtype=torch.uint8).set_(storage)  # pyright: ignore[reportArgumentType]
        header, data = _header(raw, path)
        self.columns: dict[str, Tensor] = {}
        self.raw: dict[str, np.ndarray] = {}
        for name, column in columns.items():
            shape, itemsize = [rows, *column.shape], DTYPES[column.dtype].itemsize
            found = header.get(name, {})
            begin, stop = _offsets(found)
            if (
                (found.get("dtype"), found.get("shape")) != (CODES[column.dtype], shape)
                or stop - begin != rows * column.row_bytes
                or not data <= data + begin < data + stop <= size
                or (data + begin) % itemsize
            ):
                raise StoreError(_other(path, f"no {column.dtype} {name} of shape {shape}"))
            flat = raw[data + begin : data + stop]
            self.columns[name] = flat.view(DTYPES[column.dtype]).view(shape)
            self.raw[name] = flat.view(rows, column.row_bytes).numpy()


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
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise StoreError(_other(path, "no header of safetensors"))
    return {name: entry for name, entry in told.items() if isinstance(entry, dict)}, 8 + length


def _offsets(entry: Mapping[str, Any]) -> tuple[int, int]:
    match entry.get("data_offsets"):
        case [int(begin), int(stop)]:
            return begin, stop
    return 0, 0


def _other(path: Path, got: str) -> str:
    return (
        f"{path}: expected the shard that the manifest tells of; got {got}. Restore a copy of it, "
        "or delete the folder and write the store again."
    )
