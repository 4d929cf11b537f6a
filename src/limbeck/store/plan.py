"""Plan: everything that two writers of one store must have in common, and its shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from torch import Tensor

from limbeck.checks import ArgumentError, check_positive
from limbeck.store.columns import Column, Columns, row_bytes
from limbeck.store.fingerprint import DataFingerprint, TeacherFingerprint
from limbeck.store.kinds import Keep
from limbeck.store.transform import TransformFingerprint


SHARD_BYTES = 64 << 20
HEADER_BYTES = 4096  # more than a shard's header takes, for estimates
Setting = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive samples of one view.

    Attributes:
        view: Number of the view.
        start: First sample.
        stop: One behind the last sample.
    """

    view: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its file, without the ending."""
        return f"v{self.view:03d}-r{self.start:08d}"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What a store was made of.

    Attributes:
        teacher: The network whose outputs these are.
        data: The rows it answered for.
        transform: The augmentation of the views; None where the data has none.
    """

    teacher: TeacherFingerprint
    data: DataFingerprint
    transform: TransformFingerprint | None = None

    def differences(self, asked: Fingerprints) -> list[str]:
        """Return each part in which others differ, both sides named."""
        found = [self.teacher.difference(asked.teacher), self.data.difference(asked.data)]
        found.append(transform_difference(self.transform, asked.transform))
        return [difference for difference in found if difference]


@dataclass(frozen=True, slots=True)
class Plan:
    """A store that is to be written.

    Attributes:
        keep: What is kept of every row.
        rows: Samples of the data.
        views: Views of each.
        columns: What a row is made of.
        shard_rows: Samples a shard; the last one of a view may have fewer.
        fingerprints: What the store is made of.
        settings: What else must be the same to go on, such as the teacher's batch size.
    """

    keep: Keep
    rows: int
    views: int
    columns: Columns
    shard_rows: int
    fingerprints: Fingerprints
    settings: dict[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_positive("store", rows=self.rows, views=self.views, shard_rows=self.shard_rows)
        empty = [name for name, column in self.columns.items() if column.row_bytes == 0]
        if empty or not self.columns:
            raise ArgumentError(
                f"store: expected columns with numbers in them; got {empty or 'none'}. Look at the "
                "shapes of the teacher's outputs."
            )
        if self.views > 1 and not self.distinct_views:
            raise ArgumentError(
                f"store: expected `views` = 1 for data without augmentation, whose views are all "
                f"alike; got {self.views}. Leave `views` out, or give Data(..., augment=...)."
            )

    @classmethod
    def of(
        cls,
        keep: Keep,
        example: Mapping[str, Tensor],
        fingerprints: Fingerprints,
        *,
        views: int = 1,
        shard_bytes: int = SHARD_BYTES,
        batch_rows: int = 1,
        settings: Mapping[str, Setting] | None = None,
    ) -> Plan:
        """Return the plan of a store whose rows look like an example.

        Args:
            keep: What is kept.
            example: Columns of one batch or more, as ``encode`` gives them.
            fingerprints: What the store is made of; its data says how many rows there are.
            views: Views of each sample, at least 1; more than one need an augmentation.
            shard_bytes: Largest size of a shard.
            batch_rows: Shards are whole numbers of so many rows, where that fits, so that the
                teacher sees the same batches whatever the shards.
            settings: What else must be the same to go on writing.

        Raises:
            ArgumentError: If a number is out of its range, or there are views without augmentation.
        """
        check_positive("store", views=views, shard_bytes=shard_bytes, batch_rows=batch_rows)
        columns = {name: Column.of(values) for name, values in sorted(example.items())}
        fit = max(1, (shard_bytes - HEADER_BYTES) // max(1, row_bytes(columns)))
        whole = fit - fit % batch_rows or fit
        rows = fingerprints.data.rows
        return cls(keep, rows, views, columns, min(rows, whole), fingerprints, dict(settings or {}))

    @property
    def distinct_views(self) -> bool:
        """Whether the views of a sample differ: they are augmented, or labels are drawn anew."""
        return self.fingerprints.transform is not None or self.keep.drawn

    @property
    def bytes(self) -> int:
        """Bytes of the whole store, about."""
        return sum(self.bytes_of(shard) for shard in self.shards())

    def bytes_of(self, shard: Shard) -> int:
        """Return the bytes of a shard, a few too many."""
        return len(shard) * row_bytes(self.columns) + HEADER_BYTES

    def shards(self) -> Iterator[Shard]:
        """Yield all shards, view by view."""
        for view in range(self.views):
            for start in range(0, self.rows, self.shard_rows):
                yield Shard(view, start, min(start + self.shard_rows, self.rows))

    def differences(self, asked: Plan) -> list[str]:
        """Return in what another plan differs, but for the views and the size of shards."""
        found = self.keep.differences(asked.keep)
        found += self.fingerprints.differences(asked.fingerprints)
        mine, other = self.settings, asked.settings
        found += [
            f"{name} {mine.get(name)} in the store, {other.get(name)} asked for"
            for name in sorted(mine.keys() | other.keys())
            if mine.get(name) != other.get(name)
        ]
        if self.columns != asked.columns:
            found.append(f"columns {_told(self.columns)} in the store, {_told(asked.columns)} now")
        return found

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self)


def transform_difference(
    mine: TransformFingerprint | None, asked: TransformFingerprint | None
) -> str | None:
    """Return how two augmentations, or their absence, differ, or None."""
    if mine is not None and asked is not None:
        return mine.difference(asked)
    if mine is None and asked is None:
        return None
    told = [part.name if part else "no augmentation" for part in (mine, asked)]
    return f"data with {told[0]} in the store, with {told[1]} now"


def _told(columns: Columns) -> str:
    return ", ".join(f"{name} {column}" for name, column in sorted(columns.items()))
