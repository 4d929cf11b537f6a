"""Reading a whole store to see that no bit has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limbeck.checks import StoreError
from limbeck.store.folder import shard_path
from limbeck.store.manifest import Manifest, read_manifest
from limbeck.store.shards import check_size


@dataclass(frozen=True, slots=True)
class Fault:
    """A shard that is not what was written.

    Attributes:
        shard: Its name.
        text: What is wrong.
    """

    shard: str
    text: str

    def __str__(self) -> str:
        return f"{self.shard}: {self.text}"


def verify(folder: Path | str, progress: Callable[[int], object] | None = None) -> list[Fault]:
    """Read every shard of a store and compare it with its digest.

    Args:
        folder: The folder of one store.
        progress: Called with the bytes of each shard when it was read.

    Returns:
        The faults, in the order of the shards; empty if every bit is as it was written.

    Raises:
        StoreError: If there is no finished store, or its manifest was edited.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    if manifest is None:
        raise StoreError(f"{place}: expected a finished store; there is no manifest in it.")
    return faults_of(place, manifest, progress)


def faults_of(
    folder: Path, manifest: Manifest, progress: Callable[[int], object] | None = None
) -> list[Fault]:
    """Return the faults of the shards that a manifest tells of."""
    found: list[Fault] = []
    for name, written in manifest.shards.items():
        path = shard_path(folder, name)
        try:
            check_size(path, written.bytes)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
        except (StoreError, OSError) as problem:
            found.append(Fault(name, str(problem)))
            continue
        finally:
            if progress is not None:
                progress(written.bytes)
        if digest.hexdigest() != written.digest:
            found.append(
                Fault(
                    name,
                    f"expected digest {written.digest[:12]}; got {digest.hexdigest()[:12]}. Its "
                    "bytes have changed: restore a copy, or delete the folder and write the store "
                    "again.",
                )
            )
    return found
