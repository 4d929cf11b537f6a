"""A folder of stores, such as train, validation and test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from limbeck.checks import StoreError
from limbeck.data import Data
from limbeck.store.manifest import MANIFEST, PLAN, read_manifest
from limbeck.store.reader import TeacherStore, unfinished
from limbeck.store.verifying import Fault
from limbeck.types import Batch


class StoreGroup:
    """Several stores of one teacher; ``on(data)`` gives the one that was written for some data.

    Attributes:
        folder: Where they lie.
        stores: Each by the name of its folder.
        waiting: What is to be said of those that are not finished.
    """

    def __init__(
        self, folder: Path, stores: dict[str, TeacherStore], waiting: tuple[str, ...] = ()
    ) -> None:
        self.folder, self.waiting = folder, waiting
        self.stores = {name: copy.copy(store) for name, store in stores.items()}
        for store in self.stores.values():
            store.group = self

    @property
    def kind(self) -> str:
        """What is kept of the answers, or "features"."""
        return self._common("kind")

    @property
    def privilege(self) -> str | None:
        """What the planner calls a query of this kind."""
        return self._common("privilege")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose features all of them serve."""
        first, *others = self.stores.values()
        return tuple(
            layer for layer in first.layers if all(layer in other.layers for other in others)
        )

    def __call__(self, batch: Batch) -> NoReturn:
        """Refuse to answer: which of the stores is meant depends on the data.

        Raises:
            StoreError: Always.
        """
        raise StoreError(
            f"{self.folder}: expected to be told which of {', '.join(self.stores)} is meant. Call "
            "on(data), which gives the store that was written for these data."
        )

    def on(self, data: Any) -> TeacherStore:
        """Return the store that was written for these data and their augmentation.

        Args:
            data: What a Data may be made of.

        Raises:
            StoreError: If there is none; how each differs is told.
        """
        rows = Data.of(data)
        told: list[str] = []
        for name, store in self.stores.items():
            differences = store.differences(rows)
            if not differences:
                return store
            told.append(f"{name}: {'; '.join(differences)}")
        told += self.waiting
        raise StoreError(
            f"{self.folder}: expected data that one of the stores was written for; "
            f"{'. '.join(told)}. Give the same data and augmentation, or write a store for these."
        )

    def only(self, **chosen: Any) -> StoreGroup:
        """Return the same stores serving less; see :meth:`TeacherStore.only`."""
        return StoreGroup(
            self.folder,
            {name: store.only(**chosen) for name, store in self.stores.items()},
            self.waiting,
        )

    def check_teacher(self, module: nn.Module, precision: str | None = None) -> None:
        """Raise StoreError unless a network is the one whose outputs these are."""
        for store in self.stores.values():
            store.check_teacher(module, precision)

    def verify(self, progress: Callable[[int], object] | None = None) -> list[Fault]:
        """Read everything and return the shards that have changed."""
        return [
            Fault(f"{name}/{fault.shard}", fault.text)
            for name, store in self.stores.items()
            for fault in store.verify(progress)
        ]

    def __repr__(self) -> str:
        return f"StoreGroup({', '.join(f'{name}: {store}' for name, store in self.stores.items())})"

    def _common(self, name: str) -> Any:
        found = {key: getattr(store, name) for key, store in self.stores.items()}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{key} {value}" for key, value in found.items())
            raise StoreError(
                f"{self.folder}: expected stores of one kind; got {told}. Open them one by one."
            )
        return next(iter(found.values()))


def open_store(folder: Path | str) -> TeacherStore | StoreGroup:
    """Open a store, or the finished stores in a folder.

    Args:
        folder: A folder that a StoreWriter finished, or one with such folders in it.

    Raises:
        StoreError: If there is no store, it is not finished, was edited, or a shard is missing or
            has another size.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is not None:
        return TeacherStore(folder, manifest)
    waiting = unfinished(folder)
    if waiting is not None:
        raise StoreError(waiting)
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    stores = {path.name: TeacherStore.open(path) for path in inner if (path / MANIFEST).is_file()}
    others = [unfinished(path) for path in inner if path.name not in stores]
    told = tuple(text for text in others if text is not None)
    if stores:
        return StoreGroup(folder, stores, told)
    if told:
        raise StoreError(told[0])
    raise StoreError(
        f"{folder}: expected a store, which has a {MANIFEST}; there is "
        f"{'none' if folder.is_dir() else 'no such folder'}. Give the folder of limbeck.cache, or "
        "write one with it."
    )


def is_store(folder: Path | str) -> bool:
    """Say whether a folder is a store, finished or not, or holds one in a folder of its own."""
    place = Path(folder)
    if not place.is_dir():
        return False
    inner = [place, *(path for path in place.iterdir() if path.is_dir())]
    return any((path / name).is_file() for path in inner for name in (MANIFEST, PLAN))
