"""What does it cost to measure the distillation weight? (target: under 5 % of training time)

Student resnet20, teacher resnet56, images of 32 x 32 in memory, KD, batch 128.

1. ``limbeck.gradient_moments`` with n = 512, by every way, as a share of an epoch of 50,000
   images: that is what measuring once an epoch would add. The curvature is left out: its solver
   takes minutes on this network.
2. ``weight="auto"``, which measures every 20 steps and looks at the curvature every 200: steps of
   one run are told apart by their number and timed from inside, from one batch to the next. The
   share is ((measured - plain) + (with curvature - measured) / 10) / (20 plain), of medians, with a
   95 % bootstrap interval.

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
from limbeck.training import weighing
from limbeck.zoo.networks import Network, network


BATCH, ROWS, EPOCH, EVERY, CURVED = 128, 512, 50_000, 20, 10
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
    often, curved = 4, 3
    stamps: list[float] = []

    def stamp(inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:  # noqa: ARG001
        stamps.append(time.perf_counter())
        return inputs

    student, teacher = models()
    before = weighing.CURVATURE_EVERY
    weighing.CURVATURE_EVERY = curved
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
        weighing.CURVATURE_EVERY = before
    found: dict[str, list[float]] = {"plain": [], "measured": [], "with curvature": []}
    # The preflight reads batches too; the last stamps are the steps'.
    times = np.diff(stamps[-count:])
    for step, seconds in enumerate(times):
        if step % often:
            kind = "plain"
        else:
            kind = "with curvature" if step // often % curved == 0 else "measured"
        if step > 0:  # the first warms the caches
            found[kind].append(float(seconds))
    return found


def added(found: dict[str, list[float]]) -> dict[str, Any]:
    """Return what measuring adds, as a share of training time."""

    def share(plain: float, measured: float, curved: float) -> float:
        return ((measured - plain) + (curved - measured) / CURVED) / (EVERY * plain)

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
