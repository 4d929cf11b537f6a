"""A small store whose contents are a formula, so that any row can be said without it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from limbeck.store import (
    DataFingerprint,
    Fingerprints,
    Keep,
    Plan,
    Shard,
    StoreWriter,
    TeacherFingerprint,
    TransformFingerprint,
    encode,
)
from limbeck.types import Batch, Outputs


ROWS, CLASSES = 50, 7
LAYERS = {"body.pool": (3,), "map": (2, 2)}
BOTH = Keep.of("logits+features")


def said(index: Tensor, view: Tensor | int) -> Outputs:
    """Return the outputs of the teacher: a formula of sample and view."""
    phase = index.double()[:, None] + 1000.0 * torch.as_tensor(view).double().reshape(-1, 1)
    logits = 4 * torch.sin(phase * (1.7 + torch.arange(CLASSES)))
    features = {
        name: torch.cos(phase * torch.arange(1, 1 + torch.Size(shape).numel())).reshape(-1, *shape)
        for name, shape in LAYERS.items()
    }
    return Outputs(logits.float(), {name: values.float() for name, values in features.items()})


def fingerprints(*, augmented: bool = True, rows: int = ROWS, teacher: str = "a") -> Fingerprints:
    augmentation = TransformFingerprint("Shift", "c" * 64, (1.0,), (0.5,) * 8)
    return Fingerprints(
        TeacherFingerprint("Net", 10, teacher * 64),
        DataFingerprint(rows, "all", "b" * 64),
        augmentation if augmented else None,
    )


def plan_of(
    keep: Keep = BOTH, *, views: int = 2, shard_rows: int = 20, made_of: Fingerprints | None = None
) -> Plan:
    example = encode(said(torch.arange(2), 0), torch.arange(2), 0, keep)
    bytes_a_row = sum(values[0].nbytes for values in example.values())
    return Plan.of(
        keep,
        example,
        made_of or fingerprints(augmented=views > 1),
        views=views,
        shard_bytes=shard_rows * bytes_a_row + 4096,
        settings={"batch_size": 16},
    )


def columns_of(shard: Shard, keep: Keep = BOTH) -> dict[str, Tensor]:
    index = torch.arange(shard.start, shard.stop)
    return encode(said(index, shard.view), index, shard.view, keep)


def write_missing(writer: StoreWriter) -> list[str]:
    """Write what is missing and return the names of these shards."""
    missing = writer.missing()
    for shard in missing:
        writer.write(shard, columns_of(shard, writer.plan.keep), seconds=0.5)
    return [shard.name for shard in missing]


def write_store(folder: Path, plan: Plan | None = None) -> Path:
    with StoreWriter(folder, plan or plan_of()) as writer:
        write_missing(writer)
        writer.finish()
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def batch_of(index: Tensor, view: Tensor | None = None) -> Batch:
    views = torch.zeros_like(index) if view is None else view
    return Batch(torch.zeros(len(index), 1), None, index, views)
