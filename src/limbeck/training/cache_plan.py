"""What a store would take: bytes, time, and how far what is kept is from what the teacher said."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checks import StoreError
from limbeck.store import Column, Keep, Plan, decode, encode
from limbeck.store.columns import row_bytes
from limbeck.store.kinds import KINDS, PRIVILEGES
from limbeck.training.caching import Asking, ready_to_ask
from limbeck.types import Answers, Batch


SLICE = 512  # rows that the teacher is asked about
IN_THE_MEAN = {
    "logits": "exact, rounded",
    "top_k": "tail unknown",
    "sampled_counts": "unbiased",
    "sampled_probability": "unbiased",
    "hard_labels": "unbiased",
}


@dataclass(frozen=True)
class KindCost:
    """What one kind of answers takes and says.

    Attributes:
        keep: The kind, such as "top_k", with its number of labels.
        dtype: Of its numbers.
        privilege: What the planner calls it.
        bytes_per_row: Of one view of a sample, features not counted.
        bytes: Of the whole store.
        distance: Mean total variation between a row as it is stored and the teacher's distribution,
            in [0, 1], on the rows that were looked at.
        in_the_mean: What is left of that distance when many rows or draws are averaged.
    """

    keep: str
    dtype: str
    privilege: str
    bytes_per_row: int
    bytes: int
    distance: float
    in_the_mean: str


@dataclass(frozen=True)
class CachePlan:
    """What writing a store would take.

    Attributes:
        rows: Samples.
        views: Views of each.
        columns: What a row is made of, name by name.
        bytes_per_row: Of one view of a sample.
        bytes: Of the whole store.
        shards: Number of files.
        free: Bytes free where the folder is to be.
        seconds: Estimated seconds of the teacher, on this machine.
        looked_at: Rows that the teacher was asked about for this.
        kinds: What the kinds of answers take and say, the chosen one first.
    """

    rows: int
    views: int
    columns: dict[str, str]
    bytes_per_row: int
    bytes: int
    shards: int
    free: int
    seconds: float
    looked_at: int
    kinds: tuple[KindCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def plan_cache(
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
    **settings: Any,
) -> CachePlan:
    """Say what :func:`limbeck.cache` would take, from a few batches; nothing is written.

    Arguments and errors are those of :func:`limbeck.cache`.

    Source:
        Derived.
    """
    with ready_to_ask(
        teacher, data, keep, layers, maps=maps, batch_size=batch_size, precision=precision,
        device=device, **settings,
    ) as asking:  # fmt: skip
        plan = asking.plan(views)
        rows = min(SLICE, len(asking.rows))
        # In float32 the last of many rows would be one behind them.
        index = torch.linspace(0, len(asking.rows) - 1, rows, dtype=torch.float64).long()
        batches = list(asking.rows.batches([(index, torch.zeros_like(index))], asking.device))
        return CachePlan(
            rows=plan.rows,
            views=plan.views,
            columns={name: str(column) for name, column in plan.columns.items()},
            bytes_per_row=row_bytes(plan.columns),
            bytes=plan.bytes,
            shards=sum(1 for _ in plan.shards()),
            free=shutil.disk_usage(_nearest(Path(folder))).free,
            seconds=_seconds_per_row(asking) * plan.rows * plan.views,
            looked_at=rows,
            kinds=_kinds(asking, plan, batches[0]),
        )


def _seconds_per_row(asking: Asking) -> float:
    index = torch.arange(min(asking.batch_size, len(asking.rows)))
    asking.columns(index, 0)  # the first call allocates
    started, done = time.perf_counter(), 0
    while done == 0 or (time.perf_counter() - started < 0.5 and done < 8 * len(index)):
        asking.columns(index, 0)
        done += len(index)
    return (time.perf_counter() - started) / done


def _kinds(asking: Asking, plan: Plan, batch: Batch) -> tuple[KindCost, ...]:
    chosen = asking.keep
    said = asking.said(batch)
    if chosen.what is None or said.logits is None or said.logits.ndim != 2:
        return ()
    logits = said.logits.double()
    classes = logits.shape[1]
    asked = [replace(chosen, features=False)]
    others = [Keep("logits", dtype=dtype) for dtype in ("fp32", "fp16", "bf16")]
    others += [Keep(kind) for kind in KINDS if kind not in ("logits", "top_k")]
    others += [Keep("top_k", k=min(20, classes))]
    asked += [other for other in others if other != asked[0]]
    answers = replace(said, features={})
    found = []
    for keep in asked:
        try:
            columns = encode(answers, batch.index, batch.view, keep)
        except StoreError:
            if keep is asked[0]:
                raise
            continue  # a kind that cannot hold these numbers is no choice
        took = row_bytes({name: Column.of(value) for name, value in columns.items()})
        number = keep.k or (keep.draws if keep.what == "sampled_counts" else None)
        found.append(
            KindCost(
                keep=keep.kind if number is None else f"{keep.kind} ({number})",
                dtype=keep.dtype if keep.what != "hard_labels" else "",
                privilege=PRIVILEGES[str(keep.what)],
                bytes_per_row=took,
                bytes=took * plan.rows * plan.views,
                distance=_distance(logits / keep.temperature, decode(columns, keep)),
                in_the_mean=("biased" if keep.greedy else IN_THE_MEAN[str(keep.what)]),
            )
        )
    return tuple(found)


def _distance(logits: Tensor, stored: Any) -> float:
    """Return the mean total variation between rows and what is stored of them."""
    law = torch.softmax(logits.cpu(), dim=1)
    if stored.logits is not None:
        kept = torch.softmax(stored.logits.double().cpu(), dim=1)
    else:
        kept = _shares(stored.answers, law)
    return float((law - kept).abs().sum(dim=1).mean() / 2)


def _shares(answers: Answers, law: Tensor) -> Tensor:
    """Return the distribution that a row of answers says alone, its tail left out."""
    labels = answers.labels.cpu()
    if answers.counts is not None:
        shares = answers.counts.double() / answers.counts.sum(dim=1, keepdim=True)
    elif answers.log_probabilities is None:
        shares = (labels >= 0).double()
    else:
        shares = answers.log_probabilities.double().exp()
    shares = shares.cpu().masked_fill(labels < 0, 0.0)
    return torch.zeros_like(law).scatter_add(1, labels.clamp_min(0), shares)


def _nearest(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
