"""cache(): run a teacher once over all rows and views, and keep what it says on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.capture import PENULTIMATE
from limbeck.checks import ArgumentError, ModelError, check_choice, check_positive
from limbeck.data import Data
from limbeck.losses.features import pooled
from limbeck.store import (
    Fingerprints,
    Keep,
    Plan,
    StoreWriter,
    TeacherFingerprint,
    TeacherStore,
    data_fingerprint,
    encode,
    stacked,
    teacher_fingerprint,
    transform_fingerprint,
)
from limbeck.store.plan import SHARD_BYTES
from limbeck.training.accelerating import accelerator_for
from limbeck.training.interrupts import Interrupts
from limbeck.training.order import channels_last_of, takes_channels_last
from limbeck.training.preflight import first_batch, run_teacher
from limbeck.training.progress import Bar
from limbeck.training.teachers import LiveTeacher
from limbeck.types import Batch, Outputs


BATCH_SIZE = 256


def cache(
    teacher: nn.Module,
    data: Any,
    folder: Path | str,
    *,
    views: int = 1,
    keep: str | Keep = "logits",
    layers: str | Sequence[str] | None = None,
    maps: bool = False,
    batch_size: int | None = None,
    precision: str = "fp32",
    device: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool = False,
    **settings: Any,
) -> TeacherStore:
    """Run a teacher once over all rows of the data, in each view, and keep its outputs on disk.

    What is there already is not computed again: a killed call goes on where it stopped, a finished
    store is opened, and one with fewer views is given the others. Under several processes
    (``torchrun``) each writes its share of the shards.

    Args:
        teacher: The network, run in eval mode.
        data: The rows that a student will be taught with: whatever :class:`limbeck.Data` takes.
        folder: Of the store: new, empty, or a store of the same teacher, data and settings.
        views: Augmented views of each row, at least 1; more than one need ``Data(augment=...)``,
            or labels that are drawn anew.
        keep: "logits", "top_k", "sampled_counts", "sampled_probability", "hard_labels" or
            "features", or one of the first five joined with the last: "logits+features".
        layers: Names of the layers whose features are kept; None means ``penultimate``.
        maps: Keep maps and token states whole instead of their mean over positions.
        batch_size: Rows at a time; None takes the DataLoader's, or 256. Outputs are the same bits
            as a live teacher's that sees batches of that size.
        precision: "fp32" leaves the teacher's weights as they are, "bf16" converts them.
        device: "cpu", "cuda", ...; None takes the accelerator if there is one.
        shard_bytes: Largest size of a file.
        progress: Show a progress bar where the output is a terminal.
        settings: The other arguments of :class:`limbeck.store.Keep`: dtype ("fp32", "fp16",
            "bf16"), k, draws, temperature, seed, greedy.

    Returns:
        The open store, which is a Teacher for these rows.

    Raises:
        StoreError: If the folder holds something else, or data or augmentation change from one
            reading to the next, or the teacher's outputs are not finite.
        StorageError: If the disk is too small, or cannot be written; what was finished stays.
        ArgumentError: If an option is out of its range or has nothing to do.
        ModelError: If the teacher is no module, or fails on these rows.

    Example:
        >>> import tempfile
        >>> rows = (torch.eye(4), torch.tensor([0, 1, 0, 1]))
        >>> with tempfile.TemporaryDirectory() as place:
        ...     store = cache(torch.nn.Linear(4, 2), rows, place, device="cpu")
        ...     store.rows, store.kind, store.privilege
        (4, 'logits', 'soft_labels')

    Source:
        Derived. Beyer and others (2022), arXiv:2106.05237, for why teacher and student must see
        the same view.
    """
    with ready_to_ask(
        teacher, data, keep, layers, maps=maps, batch_size=batch_size, precision=precision,
        device=device, **settings,
    ) as asking:  # fmt: skip
        plan = asking.plan(views, shard_bytes)
        accelerator = accelerator_for(device)
        rank, ranks = accelerator.process_index, accelerator.num_processes
        with StoreWriter(folder, plan, rank, ranks) as writer:
            missing = writer.missing()
            batches = sum(-(-len(shard) // asking.batch_size) for shard in missing)
            bar = Bar(batches, shown=progress and accelerator.is_main_process, label="cache")
            with Interrupts("cache", "Run the same command again to go on.") as interrupts, bar:
                for shard in missing:
                    started = time.monotonic()
                    columns = asking.columns(torch.arange(shard.start, shard.stop), shard.view, bar)
                    writer.write(shard, columns, seconds=time.monotonic() - started)
                    interrupts.check()
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                writer.finish()
        accelerator.wait_for_everyone()
    return TeacherStore.open(folder)


class Asking:
    """A teacher that is ready to be asked, and what is kept of its answers.

    Attributes:
        rows: The data.
        keep: What is kept.
        batch_size: Rows that the teacher sees at a time.
        example: Columns of the first rows, as they are stored.
    """

    def __init__(
        self,
        guide: LiveTeacher,
        rows: Data,
        keep: Keep,
        batch_size: int,
        *,
        fingerprint: TeacherFingerprint,
        maps: bool,
        channels_last: bool,
        device: torch.device,
    ) -> None:
        self.guide, self.rows, self.keep = guide, rows, keep
        self.batch_size, self.maps, self.device = batch_size, maps, device
        self._channels_last = channels_last
        self._fingerprint = fingerprint
        first = first_batch(rows, device)
        run_teacher(guide, first)  # says on which inputs it failed
        self.example = self.encoded(first)

    def plan(self, views: int, shard_bytes: int = SHARD_BYTES) -> Plan:
        """Return the plan of the store."""
        fingerprints = Fingerprints(
            self._fingerprint,
            data_fingerprint(self.rows),
            transform_fingerprint(self.rows),
        )
        return Plan.of(
            self.keep,
            self.example,
            fingerprints,
            views=views,
            shard_bytes=shard_bytes,
            batch_rows=self.batch_size,
            settings={"batch_size": self.batch_size, "maps": self.maps},
        )

    def columns(self, index: Tensor, view: int, bar: Bar | None = None) -> dict[str, Tensor]:
        """Ask the teacher about some rows in a view."""
        plan = [(part, torch.full_like(part, view)) for part in index.split(self.batch_size)]
        parts = []
        for batch in self.rows.batches(plan, self.device):
            parts.append(self.encoded(batch))
            if bar is not None:
                bar.advance(len(batch))
        return stacked(parts)

    def encoded(self, batch: Batch) -> dict[str, Tensor]:
        """Ask the teacher about a batch."""
        return encode(self.said(batch), batch.index, batch.view, self.keep)

    def said(self, batch: Batch) -> Outputs:
        """Return what the teacher says, its features pooled unless maps are kept."""
        said = self.guide(channels_last_of(batch) if self._channels_last else batch)
        if self.maps or not self.keep.features:
            return said
        features = {name: pooled(value, batch) for name, value in said.features.items()}
        return Outputs(said.logits, features)


@contextlib.contextmanager
def ready_to_ask(
    teacher: nn.Module,
    data: Any,
    keep: str | Keep,
    layers: str | Sequence[str] | None,
    *,
    maps: bool = False,
    batch_size: int | None = None,
    precision: str = "fp32",
    device: str | None = None,
    **settings: Any,
) -> Generator[Asking]:
    """Give a teacher that is ready to be asked; arguments are those of :func:`cache`."""
    kept = Keep.of(keep, **settings)
    check_choice("cache", "precision", precision, ("fp32", "bf16"))
    if batch_size is not None:
        check_positive("cache", batch_size=batch_size)
    if not isinstance(teacher, nn.Module):
        raise ModelError(
            f"cache: expected the teacher as a torch module; got {type(teacher).__name__}, whose "
            "weights cannot be told from others. Give the module itself."
        )
    if not kept.features and (layers is not None or maps):
        what = "`layers`" if layers is not None else "`maps`"
        raise ArgumentError(
            f"cache: expected no {what} where no features are kept. Leave it out, or ask for "
            f"keep='{kept.kind}+features'."
        )
    names = [layers] if isinstance(layers, str) else list(layers or [PENULTIMATE])
    rows = Data.of(data, "data")
    fingerprint = teacher_fingerprint(teacher, precision)  # before its weights are converted
    where = accelerator_for(device).device
    example = first_batch(rows, where)
    channels_last = takes_channels_last(example, precision)  # as a live teacher would
    guide = LiveTeacher(
        teacher,
        names if kept.features else (),
        example=example.inputs,
        device=where,
        precision=precision,
        channels_last=channels_last,
    )
    try:
        yield Asking(
            guide, rows, kept, batch_size or rows.batch_size or BATCH_SIZE,
            fingerprint=fingerprint, maps=maps, channels_last=channels_last, device=where,
        )  # fmt: skip
    finally:
        guide.close()
        if channels_last:
            teacher.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
