"""TeacherStore: a teacher that answers from disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.checks import LayerError, StoreError, nearest
from limbeck.data import Data
from limbeck.store.as_records import records_of
from limbeck.store.columns import FEATURES, Columns, layers_of
from limbeck.store.decoding import decode
from limbeck.store.fingerprint import data_fingerprint, teacher_fingerprint
from limbeck.store.folder import SHARDS
from limbeck.store.manifest import MANIFEST, PLAN, Manifest, read_plan
from limbeck.store.plan import transform_difference
from limbeck.store.shards import Shards
from limbeck.store.transform import transform_fingerprint
from limbeck.store.verifying import Fault, faults_of
from limbeck.teacher_record import TeacherRecord
from limbeck.types import Batch, Outputs


if TYPE_CHECKING:
    from limbeck.store.group import StoreGroup


class TeacherStore:
    """Stored outputs of a teacher, read where they lie; a Teacher like a live one.

    It may be used in several processes at once, and goes to the workers of a data loader whichever
    way they are started.

    Attributes:
        folder: Where it lies.
        manifest: What it says of itself.
        rows: Samples.
        views: Views of each.
        columns: What is served of a row, by name.
        kind: "logits", "top_k", "sampled_counts", "sampled_probability", "hard_labels" or
            "features".
        privilege: What the planner calls a query of this kind: soft_labels, sampled_probabilities
            or hard_labels; top_k counts as its own, and features alone as None.
        layers: Names of the layers whose features are served.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        plan = manifest.plan
        self.folder, self.manifest = folder, manifest
        self.rows, self.views, self.keep = plan.rows, plan.views, plan.keep
        self.columns: Columns = dict(plan.columns)
        # Of data without augmentation all views are the first.
        self._ignores_view = not plan.distinct_views
        self._shards = Shards(folder, manifest)
        self.group: StoreGroup | None = None  # in which it was found
        self._shards.check_sizes()

    @classmethod
    def open(cls, folder: Path | str) -> Any:
        """Open a store, or a folder of stores such as train, validation and test.

        Args:
            folder: A folder that a StoreWriter finished, or one with such folders in it.

        Returns:
            A :class:`TeacherStore`, or a :class:`~limbeck.store.group.StoreGroup` whose
            ``on(data)`` picks the store that was written for some data.

        Raises:
            StoreError: If there is no store, it is not finished, was edited, or a shard is missing
                or has another size.
        """
        from limbeck.store.group import open_store

        return open_store(folder)

    @property
    def kind(self) -> str:
        """What is kept of the answers, or "features"."""
        return self.keep.kind

    @property
    def privilege(self) -> str | None:
        """What the planner calls a query of this kind."""
        return self.keep.privilege

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose features are served."""
        return layers_of(self.columns)

    def __call__(self, batch: Batch) -> Outputs:
        """Return what the teacher said of the rows of a batch, on the batch's device.

        Raises:
            StoreError: If a row or a view is not in the store.
        """
        device = batch.index.device
        columns = self.read(batch.index, batch.view)
        if device.type != "cpu":
            columns = {
                name: values.to(device, non_blocking=True) for name, values in columns.items()
            }
        return decode(columns, self.keep)

    def read(
        self,
        index: Tensor,
        view: Tensor | int | None = None,
        columns: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Return columns of rows as they are stored, on the CPU.

        Args:
            index: Samples, int64 [batch].
            view: View of each, or one for all; None is the first. Not looked at where the data has
                no augmentation.
            columns: Names; None for all that are served. No other is touched.

        Raises:
            StoreError: If a row, a view or a column is not in the store.
        """
        names = self._known(columns) if columns is not None else tuple(self.columns)
        index = index.to("cpu", torch.int64)
        self._check_within("sample", index, self.rows)
        views = None
        if view is not None and not self._ignores_view:
            views = view if isinstance(view, Tensor) else torch.full_like(index, view)
            views = views.to("cpu", torch.int64)
            self._check_within("view", views, self.views)
        return self._shards.rows(index, views, names)

    def only(self, *, layers: Sequence[str] | None = None, answers: bool = True) -> TeacherStore:
        """Return the same store serving less: what is not served is not read.

        Args:
            layers: Of which features are served; None for all.
            answers: Whether logits, or labels with their numbers, are served.

        Raises:
            LayerError: If a layer is not in the store.
        """
        known = self.layers
        for layer in layers or ():
            if layer not in known:
                raise LayerError(
                    f"{self.folder}: expected a layer of the store; got {layer!r}. It holds "
                    f"{', '.join(known) or 'no features'}.{nearest(layer, known)} Write a store "
                    "with this layer, or choose another."
                )
        wanted = {FEATURES + layer for layer in (known if layers is None else layers)}
        less = copy.copy(self)
        less.columns = {
            name: column
            for name, column in self.columns.items()
            if (name in wanted if name.startswith(FEATURES) else answers)
        }
        return less

    def on(self, data: Any) -> TeacherStore:
        """Return this store after checking that it was written for these data and augmentation.

        Of a group of stores it is the one that was written for them.

        Args:
            data: What a Data may be made of.

        Raises:
            StoreError: If it was not; both sides are named.
        """
        if self.group is not None:
            return self.group.on(data)
        differences = self.differences(Data.of(data))
        if differences:
            raise StoreError(
                f"{self.folder}: expected what the store was written for; "
                f"{'; '.join(differences)}. Give the same data and augmentation, or write a store "
                "for these."
            )
        return self

    def differences(self, data: Data) -> list[str]:
        """Return in what data differ from those that the store was written for."""
        mine = self.manifest.plan.fingerprints
        difference = mine.data.difference(data_fingerprint(data))
        if difference:
            return [difference]
        difference = transform_difference(mine.transform, transform_fingerprint(data))
        return [difference] if difference else []

    def check_teacher(self, module: nn.Module, precision: str | None = None) -> None:
        """Raise StoreError unless a network is the one whose outputs these are.

        Args:
            module: The network, before it is converted to a precision.
            precision: It is to run in; None if that does not matter.
        """
        mine = self.manifest.plan.fingerprints.teacher
        asked = teacher_fingerprint(module, mine.precision if precision is None else precision)
        difference = mine.difference(asked)
        if difference:
            raise StoreError(
                f"{self.folder}: expected the teacher that the store was written with; "
                f"{difference}. Give that teacher, or write a store with this one."
            )

    def records(self, seed: int = 0) -> Iterator[TeacherRecord]:
        """Yield the rows as teacher records; see :func:`limbeck.store.as_records.records_of`."""
        return records_of(self, seed)

    def verify(self, progress: Callable[[int], object] | None = None) -> list[Fault]:
        """Read everything and return the shards that have changed; see ``verify(folder)``."""
        return faults_of(self.folder, self.manifest, progress)

    def __repr__(self) -> str:
        names = ", ".join(f"{name} {column}" for name, column in self.columns.items())
        return (
            f"TeacherStore({self.rows} rows, {self.views} views, {self.kind}: {names}; "
            f"{self.manifest.bytes / 1e6:.1f} MB)"
        )

    def _known(self, columns: Sequence[str]) -> tuple[str, ...]:
        for name in columns:
            if name not in self.columns:
                raise StoreError(
                    f"{self.folder}: expected a column of the store; got {name!r}. It serves "
                    f"{', '.join(self.columns)}.{nearest(name, self.columns)}"
                )
        return tuple(columns)

    def _check_within(self, what: str, numbers: Tensor, size: int) -> None:
        given = numbers.numpy()
        # Read without their sign, negative numbers are larger than any size: one pass for both.
        if not len(given) or given.view(np.uint64).max() < size:
            return
        wrong = int(given.min()) if given.min() < 0 else int(given.max())
        advice = (
            f"Train with `views={size}`, or extend the store to {wrong + 1} views."
            if what == "view"
            else "Give the data that it was written for."
        )
        raise StoreError(
            f"{self.folder}: expected {what}s from 0 to {size - 1}, which the store has; got "
            f"{wrong}. {advice}"
        )


def unfinished(folder: Path) -> str | None:
    """Return what to say of a store that is not finished; None where none was begun."""
    begun = read_plan(folder)
    if begun is None:
        return None
    done = len(list((folder / SHARDS).glob("*.json"))) if (folder / SHARDS).is_dir() else 0
    shards = len(list(begun.plan.shards()))
    return (
        f"{folder}: expected a finished store; {done} of {shards} shards are written ({PLAN} is "
        f"there, {MANIFEST} is not). Write it with the same settings again: that goes on from here."
    )
