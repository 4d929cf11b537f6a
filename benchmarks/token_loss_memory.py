"""How much memory do token-level losses over a large vocabulary take?

Claim (a target; what was measured stands in results/token_loss_memory.json): from LazyLogits a loss
over 128,256 classes and its gradients take at most a quarter of the memory that the same loss takes
on logits, and at most 3 times the time on a CPU, because blocks of logits are computed two or three
times. Missed in memory by k3 and control_variate (0.37, 0.34), of whose 765 MB on logits the
gradient of the embedding is 0.17 already; the blocks do not grow with the number of positions.

Each cell is a process of its own: 512 positions, float32, hidden states of width 256 of student and
teacher. Memory is the peak of the resident set during loss and backward pass, less what was there
before (hidden states and embeddings), from /proc: Linux alone has that. The gradient of the
embedding, 131 MB, is in all figures.

    python benchmarks/token_loss_memory.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import summary, write
from torch import Tensor

import limbeck as lb


CLASSES, WIDTH, POSITIONS, TOP = 128_256, 256, 512, 20
LOSSES = ("kd", "k3", "control_variate", "bucket")
ROADS = ("logits", "lazy")
REPEATS = 3


def loss_of(name: str, road: str, positions: int, classes: int) -> tuple[Callable[[], Tensor], Any]:
    """Return a call of a loss on logits as they are or as what they are made of."""
    source = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source).div_(WIDTH**0.25)

    student = drawn(1, positions, WIDTH).requires_grad_(), drawn(classes, WIDTH).requires_grad_()
    teacher = (drawn(1, positions, WIDTH), drawn(classes, WIDTH)) if name == "kd" else None
    labels = torch.randint(classes, (1, positions, TOP), generator=source).sort(dim=2).values
    reported = torch.full(labels.shape, 1.0 / (2 * TOP)).log()

    def made(parts: tuple[Tensor, Tensor]) -> Any:
        return lb.LazyLogits(*parts) if road == "lazy" else parts[0] @ parts[1].T

    def call() -> Tensor:
        mine = made(student)
        if teacher is not None:
            if road == "lazy":
                return lb.token_kd_loss(mine, made(teacher))
            return lb.full_kl_loss(mine[0], made(teacher)[0])
        one, number = labels[:, :, 0], reported[:, :, 0]
        if road == "lazy":
            if name == "bucket":
                return lb.token_top_k_loss(mine, labels, reported)
            weight = {"weight": 0.5} if name == "control_variate" else {}
            return lb.token_sampled_loss(mine, one, number, loss=name, **weight)  # pyright: ignore[reportArgumentType]
        if name == "bucket":
            return lb.top_k_loss(mine[0], labels[0], reported[0])
        if name == "k3":
            return lb.k3_loss(mine[0], one[0], number[0])
        return lb.control_variate_loss(mine[0], one[0], number[0], weight=0.5)

    return call, student


def cell(name: str, road: str, positions: int, classes: int) -> dict[str, float]:
    """Measure one loss in this process."""
    torch.set_num_threads(1)
    call, leaves = loss_of(name, road, positions, classes)
    before = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start = time.perf_counter()
    value = call()
    torch.autograd.grad(value, leaves)
    seconds = time.perf_counter() - start
    peak = megabytes("VmHWM")
    return {"value": value.item(), "seconds": seconds, "megabytes": peak - before}


def megabytes(what: str) -> float:
    """Return the size of this process's memory: VmRSS now, VmHWM at its highest."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"no {what} in /proc/self/status: this benchmark needs Linux")
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small repeat, nothing written")
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        name, road, positions, classes = options.cell
        print(json.dumps(cell(name, road, int(positions), int(classes))))
        return
    positions, classes, repeats = (64, 4096, 1) if options.quick else (POSITIONS, CLASSES, REPEATS)
    rows = []
    for name in LOSSES:
        found: dict[str, list[dict[str, float]]] = {road: [] for road in ROADS}
        for _ in range(repeats):
            for road in ROADS:
                arguments = [name, road, str(positions), str(classes)]
                said = subprocess.run(
                    [sys.executable, __file__, "--cell", *arguments],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
                found[road].append(json.loads(said.splitlines()[-1]))
        row: dict[str, Any] = {"loss": name}
        for road in ROADS:
            for what in ("seconds", "megabytes", "value"):
                row[f"{road}_{what}"] = summary([one[what] for one in found[road]])["median"]
        row["of_memory"] = row["lazy_megabytes"] / max(row["logits_megabytes"], 1e-9)
        row["times_the_time"] = row["lazy_seconds"] / row["logits_seconds"]
        print(
            f"{name}: {row['logits_megabytes']:.0f} MB on logits, {row['lazy_megabytes']:.0f} MB "
            f"in blocks; {row['times_the_time']:.2f} times the time"
        )
        rows.append(row)
    if not options.quick:
        settings = {"positions": positions, "classes": classes, "width": WIDTH, "repeats": repeats}
        write("token_loss_memory", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
