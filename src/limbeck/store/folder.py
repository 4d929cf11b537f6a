"""The folder of a store: what is in it, and what of that may be removed."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

from limbeck.checks import StorageError, StoreError
from limbeck.files import write_text
from limbeck.store.manifest import MANIFEST, PLAN, WrittenShard
from limbeck.store.plan import Shard


SHARDS = "shards"
ENDING = ".safetensors"
_SHARD = re.compile(r"v(\d{3,})-r\d{8,}")
_PART = re.compile(r"\.(.+)\.\d+\.part")
_LOCK = re.compile(r"\.writer-(\d+)-of-(\d+)\.lock")


def shard_path(folder: Path, shard: Shard | str) -> Path:
    """Return where a shard stands."""
    return folder / SHARDS / f"{shard if isinstance(shard, str) else shard.name}{ENDING}"


def note_path(folder: Path, shard: Shard) -> Path:
    """Return where the digest of a shard stands until the store is finished."""
    return folder / SHARDS / f"{shard.name}.json"


def lock_path(folder: Path, rank: int, ranks: int) -> Path:
    """Return the lock of one of several writers."""
    return folder / f".writer-{rank}-of-{ranks}.lock"


def locks_in(folder: Path) -> list[tuple[Path, int, int]]:
    """Return all locks in a folder, with rank and number of ranks."""
    found = [(path, _LOCK.fullmatch(path.name)) for path in folder.iterdir()]
    return [(path, int(match[1]), int(match[2])) for path, match in sorted(found) if match]


def write_note(folder: Path, shard: Shard, written: WrittenShard, seconds: float) -> None:
    """Write down what a shard will be."""
    told = {"bytes": written.bytes, "digest": written.digest, "seconds": seconds}
    write_text(note_path(folder, shard), json.dumps(told) + "\n")


def read_note(folder: Path, shard: Shard) -> tuple[WrittenShard, float] | None:
    """Return what is written down of a shard, and the teacher's seconds, if it is finished.

    It is finished when its file is there with the size that was written down: files are renamed
    when they are whole.
    """
    try:
        told = json.loads(note_path(folder, shard).read_text(encoding="utf8"))
        written = WrittenShard(int(told["bytes"]), str(told["digest"]))
        seconds = float(told["seconds"])
        size = shard_path(folder, shard).stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (written, seconds) if size == written.bytes else None


def check_ours(folder: Path) -> None:
    """Raise StoreError if a folder without a store has other things in it."""
    foreign = [path.name for path in folder.iterdir() if not _is_ours(path.name)]
    has_store = (folder / MANIFEST).exists() or (folder / PLAN).exists()
    if not has_store and foreign:
        raise StoreError(
            f"{folder}: expected an empty folder for a store, or one with a store; got "
            f"{', '.join(sorted(foreign)[:3])}{' ...' if len(foreign) > 3 else ''}. Choose another "
            "folder; nothing in this one was changed."
        )


def check_space(folder: Path, needed: int) -> None:
    """Raise StorageError unless the disk has so many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder}: expected {needed / 1e9:.3f} GB of free disk space for what is to be "
            f"written; got {free / 1e9:.3f} GB. Free some or choose another disk; with fp16, top_k "
            "or fewer views a store is smaller. Finished shards stay, so writing can go on."
        )


def remove_parts(folder: Path, shards: list[Shard]) -> None:
    """Remove what killed writers left of these shards, half written."""
    names = {
        path.name
        for shard in shards
        for path in (shard_path(folder, shard), note_path(folder, shard))
    }
    for path in (folder / SHARDS).iterdir():
        part = _PART.fullmatch(path.name)
        if part and part[1] in names:
            path.unlink(missing_ok=True)


def tidy(folder: Path, views: int) -> None:
    """Remove all that a finished store does not need; readers are not disturbed.

    Args:
        folder: A folder whose manifest is whole.
        views: Of the finished store; shards of further views, of a plan that was given up, go.
    """
    for path in (folder / SHARDS).iterdir():
        part = _PART.fullmatch(path.name)
        stem, _, ending = (part[1] if part else path.name).partition(".")
        shard = _SHARD.fullmatch(stem)
        if shard is None or f".{ending}" not in (ENDING, ".json"):
            continue
        if part or ending == "json" or int(shard[1]) >= views:
            path.unlink(missing_ok=True)
    for path in folder.iterdir():
        part = _PART.fullmatch(path.name)
        if part and part[1] in (MANIFEST, PLAN):
            path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / PLAN).unlink()


def _is_ours(name: str) -> bool:
    part = _PART.fullmatch(name)
    whole = part[1] if part else name
    # Not the folder of shards: there is none before there is a plan.
    return whole in (MANIFEST, PLAN) or _LOCK.fullmatch(whole) is not None
