"""What does it cost to measure the distillation weight? (target: under 5 % of training time)

Student resnet20, teacher resnet56, images of 32 x 32 in memory, KD, batch 128.

1. ``limbeck.gradient_moments`` with n = 512, by every way, as a share of an epoch of 50,000
   images: that is what measuring once an epoch would add. The curvature is left out: its solver
   takes minutes on this network.
2. ``weight="auto"``, which at this batch size measures every 16 steps, and in a run of 60 epochs
   looks at the curvature 34 times: at the first doublings of its 1,464 measurements, and every
   128,000 rows. Steps of one run are told apart and timed from inside, from one batch to the next.
   The share is ((measured - plain) / 16 + 34 (with curvature - measured) / 23,437) / plain, of
   medians, with a 95 % bootstrap interval.

    python benchmarks/weighting_cost.py [--quick]

The result is results/weighting_cost.json.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from common import summary, write
from torch import Tensor

import limbeck
from limbeck.data import Data
from limbeck.types import Batch
from limbeck.weighting.controlling.running_curvature import (
    ROWS as RUNNING_ROWS,
    SPARE,
    RunningCurvature,
)
from limbeck.zoo.networks import Network, network


BATCH, ROWS, EPOCH, EPOCHS, EVERY = 128, 512, 50_000, 60, 16
STEPS = EPOCHS * EPOCH // BATCH
LOOKS = int(np.log2(STEPS / EVERY)) + 1 + STEPS * BATCH // (SPARE * RUNNING_ROWS)
TARGET = 0.05
METHODS = ("gram", "per_sample", "groups", "probes", "last_layer")


def models() -> tuple[Network, Network]:
    torch.manual_seed(0)
    return network("resnet20", num_classes=10), network("resnet56", num_classes=10).eval()


def images(count: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=source)
    return pixels, torch.randint(0, 10, (count,), generator=source)


def steps(count: int) -> dict[str, list[float]]:
    """Time the steps of one run by kind; every fourth is measured, to see many."""
    often, often_curved = 4, 6 * BATCH
    stamps: list[float] = []
    looks: list[bool] = []
    real = RunningCurvature.collect

    def stamp(inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:  # noqa: ARG001
        stamps.append(time.perf_counter())
        return inputs

    def collect(self: RunningCurvature, step: int, batch: Batch, rows: int) -> bool:
        self._passed += SPARE * self.rows // often_curved * rows
        looks.append(real(self, step, batch, 0))
        return looks[-1]

    student, teacher = models()
    RunningCurvature.collect = collect
    try:
        limbeck.distill(
            student,
            teacher,
            Data(images(count * BATCH), augment=stamp),
            loss="kd",
            weight={"every": often, "warmup": 0},
            epochs=1,
            batch_size=BATCH,
            learning_rate=0.01,
            device="cpu",
            progress=False,
            force=True,  # labels without meaning
        )
    finally:
        RunningCurvature.collect = real
    found: dict[str, list[float]] = {"plain": [], "measured": [], "with curvature": []}
    # The preflight reads batches too; the last stamps are the steps'.
    times = np.diff(stamps[-count:])
    for step, seconds in enumerate(times):
        kind = "plain" if step % often else "with curvature" if looks[step // often] else "measured"
        if step > 0:  # the first warms the caches
            found[kind].append(float(seconds))
    return found


def added(found: dict[str, list[float]]) -> dict[str, Any]:
    """Return what measuring adds, as a share of training time."""

    def share(plain: float, measured: float, curved: float) -> float:
        return ((measured - plain) / EVERY + LOOKS * (curved - measured) / STEPS) / plain

    kinds = [np.array(found[kind]) for kind in ("plain", "measured", "with curvature")]
    source = np.random.default_rng(0)
    drawn = [
        share(*(float(np.median(source.choice(one, len(one)))) for one in kinds))
        for _ in range(2000)
    ]
    return {
        "value": share(*(float(np.median(one)) for one in kinds)),
        "interval": np.quantile(drawn, [0.025, 0.975]).tolist(),
    }


def moments(repeats: int, step: float) -> dict[str, Any]:
    """Time gradient_moments by every way, as seconds and as a share of an epoch."""
    student, teacher = models()
    data, epoch = images(2 * ROWS), step * EPOCH / BATCH
    found: dict[str, Any] = {}
    for method in METHODS:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            limbeck.gradient_moments(student, teacher, data, n=ROWS, method=method, curvature=False)
            times.append(time.perf_counter() - start)
        told = summary(times[1:])  # the first warms the caches
        found[method] = {"seconds": told, "share_of_an_epoch": told["median"] / epoch}
        print(f"{method:12} {told['median']:7.2f} s  {told['median'] / epoch:.3f} of an epoch")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    quick = parser.parse_args().quick
    found = steps(13 if quick else 121)
    told = {kind: summary(times) for kind, times in found.items()}
    share = added(found)
    print(
        ", ".join(f"{kind} {1e3 * one['median']:.0f} ms" for kind, one in told.items())
        + f"; adds {share['value']:.3f} {share['interval']} (target {TARGET})",
        flush=True,
    )
    ways = moments(1, told["plain"]["median"])
    if not quick:
        result = {"steps": told, "controller_share": share, "moments": ways, "target": TARGET}
        write("weighting_cost", result)


if __name__ == "__main__":
    main()
