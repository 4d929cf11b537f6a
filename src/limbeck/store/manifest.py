"""The two files that say what a store is: its manifest, and its plan while it is written."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from limbeck.checks import StoreError
from limbeck.files import write_text
from limbeck.store.plan import Plan


FORMAT = "limbeck store"
VERSION = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """A finished shard.

    Attributes:
        bytes: Size of its file.
        digest: BLAKE2b, 32 bytes, of the file.
    """

    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A store that is being written.

    Attributes:
        plan: What it is to be.
        versions: Of limbeck and torch.
        created: When its first writer began, ISO 8601, UTC.
    """

    plan: Plan
    versions: dict[str, str]
    created: str

    @classmethod
    def now(cls, plan: Plan) -> Begun:
        """Return a store that begins now, with these versions."""
        return cls(plan, _versions(), datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished store.

    Attributes:
        plan: What it is.
        shards: Size and digest of each shard, by name.
        seconds: The teacher took, a view.
        versions: Of limbeck and torch.
        created: When its first writer began, ISO 8601, UTC.
    """

    plan: Plan
    shards: dict[str, WrittenShard]
    seconds: tuple[float, ...]
    versions: dict[str, str]
    created: str

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.shards.values())


def write_file(path: Path, contents: Begun | Manifest) -> None:
    """Write a plan or a manifest, whole or not at all, with a digest of itself."""
    told: dict[str, Any] = {"format": FORMAT, "version": VERSION} | asdict(contents)
    told["digest"] = _digest(told)
    text = json.dumps(told, indent=1)
    # A list of numbers on one line, for people who read it.
    text = re.sub(r"\[\n[-+.\deE,\s]+\]", lambda found: " ".join(found[0].split()), text)
    write_text(path, text + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest; None where it has none.

    Raises:
        StoreError: If it was edited, or is of another version of the format.
    """
    return _read(folder / MANIFEST, Manifest)


def read_plan(folder: Path) -> Begun | None:
    """Return the plan of a store that is not finished, or is being extended; None without one.

    Raises:
        StoreError: If it was edited, or is of another version of the format.
    """
    return _read(folder / PLAN, Begun)


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        told = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise StoreError(_damaged(path, f"it cannot be read ({problem})")) from None
    if not isinstance(told, Mapping) or told.get("format") != FORMAT:
        raise StoreError(
            f"{path}: expected the file of a limbeck store; it is of something else. Choose "
            "another folder."
        )
    if told.get("version") != VERSION:
        raise StoreError(
            f"{path}: expected version {VERSION} of the store format; got {told.get('version')}. "
            "Read it with the limbeck that wrote it, or write the store again."
        )
    fields = {name: value for name, value in told.items() if name != "digest"}
    found, stated = _digest(fields), str(told.get("digest"))
    if found != stated:
        raise StoreError(
            _damaged(path, f"it says digest {stated[:12]}, and its contents have {found[:12]}")
        )
    del fields["format"], fields["version"]
    try:
        return _adapter(kind).validate_python(fields)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(_damaged(path, f"{place}: {first['msg']}")) from None


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path}: expected the file as limbeck wrote it; {what}. It was edited or damaged: restore "
        "a copy, or delete the folder and write the store again."
    )


def _digest(told: Mapping[str, Any]) -> str:
    plain = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(plain.encode(), digest_size=32).hexdigest()


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    return TypeAdapter(kind)


def _versions() -> dict[str, str]:
    try:
        own = version("limbeck")
    except PackageNotFoundError:  # a source tree on the path, not installed
        own = "0+source"
    return {"limbeck": own, "torch": torch.__version__}
