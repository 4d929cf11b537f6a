"""What a stored teacher saves: a student's epoch with it, with a live one, and without any.

Seconds of an epoch without a teacher / stored / live (medians of 3 turns, 2 threads of an AMD EPYC,
torch 2.13.0), stored over none with its 95 % interval (target at most 1.05), live over stored and
its bound: resnet56 to resnet20 3.7 / 3.8 / 7.1, 1.01 [1.01, 1.03], 1.9 of 2.0; resnet32x4 to
resnet8x4 14.0 / 14.7 / 36, 1.05 [1.00, 1.06], 2.5 of 3.0 (while other programs ran); resnet50
to mobilenetv2 2.4 / 2.5 / 45, 1.04 [0.84, 1.04], 18 of 67 (depthwise convolutions take more than
their arithmetic). Reader, microseconds a batch of 64 and 512 rows: fp32 in one file 25 and 42, in
20 files 75 and 156 (``.npy`` 11, 63), fp16 24 and 40 (20, 129), a file a row 12,899 and 98,921.
results/store_speedup.json.

    python benchmarks/store_speedup.py [--data DIR] [--quick | --reader]

DIR holds cifar100 (any form that limbeck reads); without it images are random, which changes no
time. Each side is ``limbeck.distill`` over one epoch of 2,000 augmented images in batches of 64;
its time is that of the record: from the first batch to the end of the epoch, without set-up and
evaluation. Sides take turns, and the first turn of each is not counted. The bound is by
arithmetic: a step of the student is three forward passes, so that a live teacher makes it
1 + F_teacher / (3 F_student) times as long (FLOPs of torch's counter, one image).

The reader is timed on random batches of 50,000 rows of 100 logits, beside an ``.npy`` file that is
memory-mapped, indexed by numpy and turned into the same float32 tensor, and beside a file of torch
for each row. All files are in memory (the page cache): what is compared is the code.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, ratio, summary, write
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import limbeck
from limbeck.store import (
    DataFingerprint,
    Fingerprints,
    Keep,
    Plan,
    StoreWriter,
    TeacherFingerprint,
    TeacherStore,
)
from limbeck.types import Batch
from limbeck.zoo.data import load_dataset
from limbeck.zoo.data.augment import CropFlip
from limbeck.zoo.networks import network


PAIRS = {
    "resnet56 to resnet20": ("resnet56", "resnet20"),
    "resnet32x4 to resnet8x4": ("resnet32x4", "resnet8x4"),
    "resnet50 to mobilenetv2": ("resnet50_32px", "mobilenetv2_half"),
}
ROWS, BATCH_SIZE, TURNS, VIEWS = 2000, 64, 3, 1
TARGET, EXTRA_MICROSECONDS, LEAST_SPEED = 1.05, 100.0, 0.5


def images(folder: Path | None, rows: int) -> limbeck.Data:
    if folder is not None:
        found = load_dataset("cifar100", folder=folder, limit=rows, augment="none").train
    else:
        source = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8, generator=source)
        found = limbeck.Data((pixels, torch.arange(rows) % 100))
    return found.viewed(CropFlip())


def model(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return network(name, num_classes=100, channels=3)


def flops(module: nn.Module) -> int:
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.rand(1, 3, 32, 32))
    return counter.get_total_flops()


def epoch(student: str, teacher: Any, data: limbeck.Data) -> float:
    """Return the seconds of one epoch."""
    result = limbeck.distill(
        model(student, 1), teacher, data, loss="kd", epochs=1, batch_size=BATCH_SIZE, views=VIEWS,
        device="cpu", progress=False, force=True,
    )  # fmt: skip
    return result.record.time["seconds"]


def pair(names: tuple[str, str], data: limbeck.Data, turns: int) -> dict[str, Any]:
    teacher, student = model(names[0], 0), names[1]
    bound = 1 + flops(teacher) / (3 * flops(model(student, 1)))
    with tempfile.TemporaryDirectory() as folder:
        store = limbeck.cache(
            teacher, data, folder, views=VIEWS, batch_size=BATCH_SIZE, device="cpu"
        )
        sides: dict[str, Any] = {"none": None, "stored": store, "live": teacher}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(turns + 1):
            for side, guide in sides.items():
                took = epoch(student, guide, data)
                if turn:
                    seconds[side].append(took)
                print(f"  {names[0]} to {student}, {side}: {took:.2f} s", flush=True)
        return {
            "seconds": {side: summary(times) for side, times in seconds.items()},
            "stored_over_none": ratio(seconds["stored"], seconds["none"]),
            "live_over_stored": ratio(seconds["live"], seconds["stored"]),
            "bound": bound,
            "store_seconds": sum(store.manifest.seconds),
            "store_bytes": store.manifest.bytes,
        }


def written(logits: Tensor, folder: Path, dtype: str, shard_bytes: int) -> TeacherStore:
    """Write logits as a store, without a teacher."""
    keep = Keep.of("logits", dtype=dtype)
    kind = {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    columns = {"logits": logits.to(kind)}
    made_of = Fingerprints(
        TeacherFingerprint("none", 0, "0"), DataFingerprint(len(logits), "all", "0")
    )
    plan = Plan.of(keep, columns, made_of, shard_bytes=shard_bytes)
    with StoreWriter(folder, plan) as writer:
        for shard in writer.missing():
            writer.write(shard, {"logits": columns["logits"][shard.start : shard.stop]})
        writer.finish()
    return TeacherStore.open(folder)


def timed(serve: Callable[[Tensor], Tensor], batches: list[Tensor]) -> list[float]:
    """Return microseconds of each batch."""
    found = []
    for index in batches:
        started = time.perf_counter()
        serve(index)
        found.append(1e6 * (time.perf_counter() - started))
    return found


def reader(rows: int, batches: int) -> dict[str, Any]:
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 100, generator=source)
    found: dict[str, Any] = {"rows": rows, "classes": 100, "batches": batches}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "logits.npy", logits.numpy())
        mapped = np.load(folder / "logits.npy", mmap_mode="r")
        half = logits.half().numpy()
        np.save(folder / "half.npy", half)
        mapped_half = np.load(folder / "half.npy", mmap_mode="r")
        few = 2000  # files of one row each
        (folder / "files").mkdir()
        for row in range(few):
            torch.save(logits[row].clone(), folder / "files" / f"{row}.pt")

        def of_files(index: Tensor) -> Tensor:
            paths = (folder / "files" / f"{row % few}.pt" for row in index.tolist())
            return torch.stack([torch.load(path, weights_only=True) for path in paths])

        def of_store(store: TeacherStore) -> Callable[[Tensor], Tensor]:
            return lambda index: store(Batch({}, None, index, torch.zeros_like(index))).logits  # pyright: ignore[reportReturnType]

        sides: dict[str, Callable[[Tensor], Tensor]] = {
            "npy fp32": lambda index: torch.from_numpy(mapped[index.numpy()]),
            "store fp32": of_store(written(logits, folder / "one", "fp32", 64 << 20)),
            "store fp32, 20 files": of_store(written(logits, folder / "many", "fp32", 1 << 20)),
            "npy fp16": lambda index: torch.from_numpy(
                mapped_half[index.numpy()].astype(np.float32)
            ),
            "store fp16": of_store(written(logits, folder / "half", "fp16", 64 << 20)),
            "a file a row": of_files,
        }
        check = torch.randint(0, few, (64,), generator=source)
        for side, serve in sides.items():
            error = (serve(check) - logits[check]).abs().max().item()
            assert error <= (2e-3 if "fp16" in side else 0.0), side
        for size in (64, 512):
            plan = [torch.randint(0, rows, (size,), generator=source) for _ in range(batches)]
            times = {
                side: timed(serve, plan if side != "a file a row" else plan[: batches // 20])
                for side, serve in sides.items()
            }
            found[f"batch {size}"] = {side: summary(each) for side, each in times.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of cifar100")
    parser.add_argument("--quick", action="store_true", help="a look at the script itself")
    parser.add_argument("--reader", action="store_true", help="the reader anew, the pairs stay")
    o = parser.parse_args()
    turns, rows = (1, 128) if o.quick else (TURNS, ROWS)
    pairs = dict(list(PAIRS.items())[: 1 if o.quick else None])
    read = reader(2000 if o.quick else 50_000, 40 if o.quick else 2000)
    if o.reader:
        before = json.loads((RESULTS / "store_speedup.json").read_text("utf8"))
        settings, found = before["settings"], before["pairs"]
    else:
        data = images(o.data, rows)
        found = {name: pair(names, data, turns) for name, names in pairs.items()}
        settings = {
            "rows": rows, "batch_size": BATCH_SIZE, "turns": turns, "views": VIEWS,
            "images": "cifar100" if o.data else "random", "threads": torch.get_num_threads(),
            "targets": {
                "stored_over_none": TARGET,
                "extra_microseconds_at_64": EXTRA_MICROSECONDS,
                "least_speed_at_512": LEAST_SPEED,
            },
        }  # fmt: skip
    for name, one in found.items():
        print(
            f"{name}: stored / none {one['stored_over_none']['value']:.3f} (target {TARGET}), "
            f"live / stored {one['live_over_stored']['value']:.2f} (bound {one['bound']:.1f})"
        )
    for size in (64, 512):
        middle = {side: one["median"] for side, one in read[f"batch {size}"].items()}
        print(f"batch {size}: " + ", ".join(f"{side} {t:.0f} us" for side, t in middle.items()))
    if not o.quick:
        write("store_speedup", {"settings": settings, "pairs": found, "reader": read})


if __name__ == "__main__":
    main()
