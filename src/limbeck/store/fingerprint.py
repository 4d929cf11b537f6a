"""Fingerprints of the teacher and the data that stored outputs depend on."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checks import ArgumentError, StoreError
from limbeck.data import Data
from limbeck.randomness import derive_seed
from limbeck.sources import Arrays, Inputs, Items


WHOLE_BYTES = 1 << 30
PROBES = 64
SHOWN = 12  # hexadecimal digits of a digest that tell two apart


@dataclass(frozen=True, slots=True)
class TeacherFingerprint:
    """Which network a store's outputs are of.

    Attributes:
        name: Its class.
        parameters: Number of its parameters.
        digest: Of names, types, shapes and bytes of its weights and buffers.
        precision: It ran in.
    """

    name: str
    parameters: int
    digest: str
    precision: str = "fp32"

    def difference(self, asked: TeacherFingerprint) -> str | None:
        """Return how another network differs, both sides named, or None."""
        if self.digest != asked.digest:
            return f"teacher weights {self._told()} in the store, {asked._told()} now"
        if self.name != asked.name:
            return f"a teacher of class {self.name} in the store, {asked.name} now"
        if self.precision != asked.precision:
            return f"a teacher in {self.precision} in the store, in {asked.precision} now"
        return None

    def _told(self) -> str:
        return f"{self.digest[:SHOWN]} ({self.name}, {self.parameters:,} parameters)"


@dataclass(frozen=True, slots=True)
class DataFingerprint:
    """Which inputs a store's outputs are for.

    Attributes:
        rows: Number of samples.
        method: "all" where every input was read, else "probes".
        digest: Of names, types, shapes and bytes of the inputs; targets are not looked at.
    """

    rows: int
    method: str
    digest: str

    def difference(self, asked: DataFingerprint) -> str | None:
        """Return how other data differ, both sides named, or None."""
        if self.rows != asked.rows:
            return f"data of {self.rows} rows in the store, {asked.rows} rows now"
        if self.digest != asked.digest:
            return f"data {self.digest[:SHOWN]} in the store, {asked.digest[:SHOWN]} now"
        return None


def teacher_fingerprint(module: nn.Module, precision: str = "fp32") -> TeacherFingerprint:
    """Return the fingerprint of a network as it stands, before it is converted to a precision.

    Args:
        module: The network; compiled and plain forms have the same one.
        precision: It is to run in.

    Raises:
        ArgumentError: If it is no module, or has weights on the meta device.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> before = teacher_fingerprint(layer)
        >>> layer.weight.data[0, 0] += 1.0
        >>> before.digest == teacher_fingerprint(layer).digest
        False
    """
    if not isinstance(module, nn.Module):
        raise ArgumentError(
            f"store: expected the teacher as a torch module; got {type(module).__name__}, whose "
            "weights cannot be told apart from others. Give the module itself."
        )
    plain = getattr(module, "_orig_mod", module)  # of a compiled one
    digest = hashlib.blake2b(digest_size=32)
    for name, value in plain.state_dict().items():
        if not isinstance(value, Tensor):  # what get_extra_state gives
            digest.update(repr((name, value)).encode())
            continue
        if value.is_meta:
            raise ArgumentError(
                f"store: expected a teacher with weights; {name} is on the meta device. Load its "
                "weights first."
            )
        digest_tensor(digest, name, value)
    return TeacherFingerprint(
        type(plain).__name__,
        sum(parameter.numel() for parameter in plain.parameters()),
        digest.hexdigest(),
        precision,
    )


def data_fingerprint(data: Data) -> DataFingerprint:
    """Return the fingerprint of a data set's inputs, before augmentation.

    Arrays of up to 1 GiB are read wholly. Of larger ones and of data sets that are read item by
    item it is that of 64 rows, spread evenly over the data at keyed places.

    Args:
        data: The data; its order counts, its targets and weights do not.

    Raises:
        StoreError: If a row changes from one reading to the next.
    """
    source, rows = data.source, len(data)
    digest = hashlib.blake2b(digest_size=32)
    if isinstance(source, Arrays) and _bytes_of(source.inputs) <= WHOLE_BYTES:
        _digest_inputs(digest, source.inputs)
        return DataFingerprint(rows, "all", digest.hexdigest())
    for inputs in _read_twice(source, probe_rows(rows, PROBES), data.name):
        _digest_inputs(digest, inputs)
    return DataFingerprint(rows, "probes", digest.hexdigest())


def probe_rows(rows: int, count: int) -> Tensor:
    """Return rows in rising order: the first, the last, and one at a keyed place of every stretch.

    Example:
        >>> probe_rows(3, 64)
        tensor([0, 1, 2])
    """
    if rows <= count:
        return torch.arange(rows)
    edges = [1 + (rows - 2) * place // (count - 2) for place in range(count - 1)]
    stretches = itertools.pairwise(edges)
    inner = [low + derive_seed("probe", rows, low) % (high - low) for low, high in stretches]
    return torch.tensor([0, *inner, rows - 1])


def digest_tensor(digest: Any, name: str, value: Tensor) -> None:
    """Add a tensor's name, type, shape and bytes to a digest of hashlib."""
    value = value.detach().cpu()
    if value.layout != torch.strided:
        value = value.to_dense()
    digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
    digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())


def _digest_inputs(digest: Any, inputs: Inputs) -> None:
    parts = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    for name in sorted(parts):
        digest_tensor(digest, name, parts[name])


def _bytes_of(inputs: Inputs) -> int:
    parts: Mapping[str, Tensor] = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    return sum(part.nbytes for part in parts.values())


def _read_twice(source: Arrays | Items, rows: Tensor, name: str) -> Iterator[Inputs]:
    """Yield the inputs of rows, each alone, so that none is padded to another's length."""
    if isinstance(source, Items):  # here, not in workers, which take long to start
        source = Items(source.dataset, collate=source.collate, name=name)
    plan = [(row, torch.zeros_like(row)) for row in rows.repeat_interleave(2).split(1)]
    before: Inputs | None = None
    with torch.random.fork_rng(devices=[]):  # a DataLoader takes numbers from the global state
        for (index, _), (inputs, _) in source.read(plan):
            if before is None:
                before = inputs
                continue
            if not _equal(before, inputs):
                raise StoreError(
                    f"store: expected {name} that is the same whenever it is read; row "
                    f"{int(index)} differs between two readings. Take random transforms out of "
                    "the data set and give them as Data(..., augment=f(inputs, index, view)), a "
                    "pure function of sample and view."
                )
            before = None
            yield inputs


def _equal(a: Inputs, b: Inputs) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
