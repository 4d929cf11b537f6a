"""Writing a store: shard by shard, alone or with others, from wherever a killed writer left off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from limbeck.checks import ArgumentError, StorageError, StoreError
from limbeck.files import atomic
from limbeck.store import folder as inside
from limbeck.store.columns import Column
from limbeck.store.lock import FileLock, is_free
from limbeck.store.manifest import (
    MANIFEST,
    PLAN,
    Begun,
    Manifest,
    WrittenShard,
    read_manifest,
    read_plan,
    write_file,
)
from limbeck.store.plan import Plan, Shard


class StoreWriter:
    """Write what is missing of a store.

    Shards are written aside, flushed and renamed, each with its digest; the manifest, without
    which nothing is read, comes last. So a writer may be killed at any moment, and the next one
    goes on with the first shard that is not finished. A finished store can be given more views;
    readers keep the old manifest until the new one is there.

    Args:
        folder: Where the store is to be: new, empty, or a store of the same plan.
        plan: What it is to be. A folder's own size of shards holds.
        rank: Number of this process among those that write the store, from 0.
        ranks: How many write it; each has every ``ranks``-th shard.

    Raises:
        StoreError: If the folder holds something else, or a store of other things, or somebody
            writes it.
        StorageError: If the disk has not enough space for what is missing, or cannot be written.
        ArgumentError: If ``rank`` is not below ``ranks``.

    Attributes:
        plan: The plan that is followed.
        complete: Whether the folder had all of the plan when it was opened.
    """

    def __init__(self, folder: Path | str, plan: Plan, rank: int = 0, ranks: int = 1) -> None:
        if not 0 <= rank < ranks:
            raise ArgumentError(
                f"store: expected `rank` from 0 to `ranks` - 1; got {rank} of {ranks}."
            )
        self.folder, self.rank, self.ranks = Path(folder), rank, ranks
        self._make_folder()
        self._lock = FileLock(inside.lock_path(self.folder, rank, ranks))
        self._take_lock()
        self._extended_by_others = False
        try:
            self._old = read_manifest(self.folder)
            self._begun = self._agreed(plan)
            self.plan = self._begun.plan
            self.complete = self._old is not None and self._old.plan.views >= plan.views
            if not self.complete:
                self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write the folder; what is finished stays."""
        self._lock.release()

    def missing(self) -> list[Shard]:
        """Return the shards that this rank has still to write, in order."""
        if self.complete:
            return []
        own = list(self.plan.shards())[self.rank :: self.ranks]
        return [shard for shard in own if not self._is_finished(shard)]

    def write(self, shard: Shard, columns: Mapping[str, Tensor], *, seconds: float = 0.0) -> None:
        """Write one shard, whole or not at all.

        Args:
            shard: One of ``missing()``.
            columns: Its rows, in order, as ``encode`` gives them.
            seconds: The teacher took for it.

        Raises:
            ArgumentError: If the shard is not of this plan, or is written already.
            StoreError: If the columns are not those of the plan, or the writer is closed.
            StorageError: If the disk is full; what was finished stays.
        """
        self._check_may_write(shard)
        self._check_columns(shard, columns)
        inside.check_space(self.folder, self.plan.bytes_of(shard))
        contents = save({name: columns[name].contiguous() for name in sorted(columns)})
        digest = hashlib.blake2b(contents, digest_size=32).hexdigest()
        with atomic(inside.shard_path(self.folder, shard)) as aside:
            aside.write_bytes(contents)
            # Before the shard has its name: a shard with its name has its digest beside it.
            inside.write_note(self.folder, shard, WrittenShard(len(contents), digest), seconds)

    def finish(self) -> Manifest:
        """Write the manifest of the whole store, tidy its folder and let it go.

        Where several processes write, rank 0 calls it when all are done; the others ``close()``.

        Raises:
            StoreError: If shards are missing.
            ArgumentError: If this is not rank 0.
        """
        if self.rank != 0:
            raise ArgumentError(
                f"store: expected rank 0 to finish the store; got rank {self.rank}. Call close() "
                "here, and finish() on rank 0 behind a barrier."
            )
        manifest = self._old if self.complete and self._old is not None else self._merged()
        if not self.complete:
            write_file(self.folder / MANIFEST, manifest)
            self._old, self.complete = manifest, True
        if not self._extended_by_others:
            inside.tidy(self.folder, manifest.plan.views)
        for path, _, _ in inside.locks_in(self.folder):
            if path != self._lock.path:
                is_free(path)  # and removed, if its process is dead
        self.close()
        return manifest

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            inside.check_ours(self.folder)
        except OSError as problem:
            raise StorageError(
                f"{self.folder}: expected a folder that can be written; got "
                f"{problem.strerror or problem}. Choose another folder."
            ) from None

    def _take_lock(self) -> None:
        try:
            taken = self._lock.acquire()
        except OSError as problem:
            raise StorageError(
                f"{self.folder}: expected a folder that can be written; got "
                f"{problem.strerror or problem}. Choose another folder, or change its permissions."
            ) from None
        busy = None if taken else self._lock
        for path, _, ranks in inside.locks_in(self.folder) if taken else ():
            if ranks != self.ranks and not is_free(path):
                busy = FileLock(path)
        if busy is not None:
            self.close()
            raise StoreError(
                f"{self.folder}: expected a store that nobody else writes; process "
                f"{busy.holder()} is writing it. Wait for it, or choose another folder."
            )

    def _agreed(self, asked: Plan) -> Begun:
        """Return the plan to follow: the folder's own, if it is the one asked for."""
        begun = read_plan(self.folder)
        old = self._old
        known = begun.plan if begun is not None else old.plan if old is not None else asked
        differences = known.differences(asked)
        if differences:
            raise StoreError(
                f"{self.folder}: expected what the store was begun with; {'; '.join(differences)}. "
                "Repeat the same settings, or choose another folder."
            )
        plan = replace(known, views=asked.views)
        if begun is not None and old is not None:  # finished with fewer views than somebody began
            self._extended_by_others = begun.plan.views > old.plan.views >= asked.views
        if begun is not None:
            return replace(begun, plan=plan)
        return Begun.now(plan) if old is None else Begun(plan, old.versions, old.created)

    def _begin(self) -> None:
        missing = [shard for shard in self.plan.shards() if not self._is_finished(shard)]
        inside.check_space(self.folder, sum(map(self.plan.bytes_of, missing)))
        if read_plan(self.folder) != self._begun:
            write_file(self.folder / PLAN, self._begun)
        (self.folder / inside.SHARDS).mkdir(exist_ok=True)
        inside.remove_parts(self.folder, self.missing())

    def _is_finished(self, shard: Shard) -> bool:
        if self._old is not None and shard.view < self._old.plan.views:
            return True
        return inside.read_note(self.folder, shard) is not None

    def _merged(self) -> Manifest:
        old = self._old.shards if self._old is not None else {}
        seconds = list(self._old.seconds) if self._old is not None else []
        seconds += [0.0] * (self.plan.views - len(seconds))
        shards: dict[str, WrittenShard] = {}
        missing: list[str] = []
        for shard in self.plan.shards():
            note = None if shard.name in old else inside.read_note(self.folder, shard)
            if shard.name in old:
                shards[shard.name] = old[shard.name]
            elif note is None:
                missing.append(shard.name)
            else:
                shards[shard.name] = note[0]
                seconds[shard.view] += note[1]
        if missing:
            raise StoreError(
                f"{self.folder}: expected all {len(list(self.plan.shards()))} shards to be "
                f"written; {len(missing)} are missing, first {missing[0]}. Write them, or wait for "
                "the processes that do."
            )
        return Manifest(
            self.plan, shards, tuple(seconds), self._begun.versions, self._begun.created
        )

    def _check_may_write(self, shard: Shard) -> None:
        if not self._lock.is_held:
            raise StoreError(
                f"{self.folder}: expected an open writer; this one is closed. Make another."
            )
        if shard not in set(self.plan.shards()):
            raise ArgumentError(f"store: expected a shard of the plan; got {shard.name}.")
        if self._is_finished(shard):
            raise ArgumentError(
                f"store: expected a shard that is missing; {shard.name} is written. Write those of "
                "missing() only."
            )

    def _check_columns(self, shard: Shard, columns: Mapping[str, Tensor]) -> None:
        planned = {name: (column, len(shard)) for name, column in self.plan.columns.items()}
        given = {name: (Column.of(values), len(values)) for name, values in columns.items()}
        if planned != given:
            names = sorted(set(planned) | set(given))
            wrong = [name for name in names if planned.get(name) != given.get(name)]
            told = [
                f"{name}: {_told(planned.get(name))} planned, {_told(given.get(name))} given"
                for name in wrong
            ]
            raise StoreError(
                f"store: expected the columns of the plan for shard {shard.name}; "
                f"{'; '.join(told)}. The teacher's outputs must have one shape and type for all "
                "batches."
            )


def _told(column: tuple[Column, int] | None) -> str:
    return "none" if column is None else f"{column[1]} rows of {column[0]}"
