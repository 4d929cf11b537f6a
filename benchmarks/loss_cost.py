"""What does a distillation loss cost, beside torchdistill's own and beside a training step?

Claim (the project's targets; what was measured stands in results/loss_cost.json): forward and
backward of no loss take more than 1.05 times what torchdistill's implementation takes on the same
tensors; ITRD takes less than 0.2 % of a resnet8x4 step at batch 64; its mutual-information term
holds no batch x batch matrix at batch 8192; CRD with as many negatives as the paper's memory bank
(16,384 of 50,000 rows) takes less than a tenth of what a gather of batch x negatives rows takes.

Tensors are those of resnet32x4 to resnet8x4 on CIFAR-100 at batch 64: logits of 100 classes, maps
of 64, 128 and 256 channels, 256 features. For the growth with the batch, up to a second, maps have
16 channels at 8 x 8. limbeck and peer take turns in one process. Memory is what the operators of
one forward and backward pass hold at once beside the tensors given.

    make .venv-vision/ready
    .venv-vision/bin/python benchmarks/loss_cost.py [--quick]
"""

from __future__ import annotations

import argparse
import time
import weakref
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from common import ratio, summary, write
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.losses import LOSSES, mutual_information_loss
from limbeck.training.torchvision_cpu import define_missing_operators
from limbeck.types import Batch, Outputs
from limbeck.zoo.networks import network


CLASSES = 100
STAGES = {"layer1": (64, 32), "layer2": (128, 16), "layer3": (256, 8)}
SMALL = {"layer1": (16, 8), "layer2": (16, 8), "layer3": (16, 8)}
WIDTH = 256
BATCHES = (64, 256, 1024, 4096)
BANK, NEGATIVES = 50_000, 16_384  # rows of CIFAR-100, and the paper's number
CUBIC = {"rkd": 256, "nst": 1024, "skd": 1024}  # largest batch of losses whose cost is a cube

Call = Callable[[], Tensor]


def drawn(batch: int, stages: dict[str, tuple[int, int]], seed: int) -> Outputs:
    source = torch.Generator().manual_seed(seed)
    features = {
        name: torch.randn(batch, channels, size, size, generator=source)
        for name, (channels, size) in stages.items()
    }
    features["penultimate"] = torch.randn(batch, WIDTH, generator=source)
    features["projector"] = torch.randn(features["layer3"].shape, generator=source)  # of simkd
    features = {name: rows.relu_().requires_grad_(seed == 0) for name, rows in features.items()}
    logits = torch.randn(batch, CLASSES, generator=source).requires_grad_(seed == 0)
    return Outputs(logits, features)


def given(batch: int, stages: dict[str, tuple[int, int]]) -> tuple[Outputs, Outputs, Batch]:
    rows = torch.arange(batch)
    return (
        drawn(batch, stages, 0),
        drawn(batch, stages, 1),
        Batch(rows, rows % CLASSES, rows, torch.zeros_like(rows)),
    )


def ours(name: str, batch: int, stages: dict[str, tuple[int, int]]) -> Call:
    """Return a call of limbeck's loss; main phase where it alternates."""
    loss: Any = LOSSES[name]()
    arguments = given(batch, stages)
    if hasattr(loss, "prepare"):
        # CAT-KD fits classifiers, for want of networks: with more rows than channels.
        loss.prepare(*(given(300, stages) if name == "catkd" else arguments))
    return lambda: loss(*arguments)


def peers(batch: int) -> dict[str, Call]:
    """Return torchdistill's losses, by limbeck's names, on the same tensors."""
    from torchdistill.losses import mid_level as theirs  # pyright: ignore[reportMissingImports]

    student, teacher, rows = given(batch, STAGES)
    said = [
        {path: {"output": values} for path, values in side.features.items()}
        | {"logits": {"output": side.logits}}
        for side in (student, teacher)
    ]
    both = {"student": {"io": "output"}, "teacher": {"io": "output"}}

    def pair(path: str) -> dict[str, Any]:
        return {side: {**io, "path": path} for side, io in both.items()}

    on_logits = ("logits", "output", "logits", "output")
    made: dict[str, nn.Module] = {
        "kd": theirs.KDLoss(*on_logits, temperature=4.0, alpha=0.0),
        "dist": theirs.DISTLoss(*on_logits),
        "lskd": theirs.LogitStdKDLoss(*on_logits, temperature=2.0, alpha=0.0),
        "at": theirs.ATLoss({name: pair(name) for name in STAGES}, mode="code"),
        "sp": theirs.SPKDLoss("layer3", "layer3", reduction="batchmean"),
        "pkt": theirs.PKTLoss("penultimate", "output", "penultimate", "output"),
        "rkd": theirs.RKDLoss("penultimate", "penultimate", 25.0, 50.0, reduction="mean"),
    }

    def call(loss: nn.Module) -> Call:
        return lambda: loss(*said, rows.targets)

    return {name: call(loss) for name, loss in made.items() if name in LOSSES}


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call().backward()
    return time.perf_counter() - start


def repeated(call: Call, budget: float, least: int = 5) -> list[float]:
    """Time a call until the budget [s] is spent, after one that does not count."""
    seconds(call)
    found: list[float] = []
    while len(found) < least or (sum(found) < budget and len(found) < 200):
        found.append(seconds(call))
    return found


class Held(TorchDispatchMode):
    """Adds up the storages that operators make while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = operator(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return found

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known:
            return
        self.known.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self.known.discard(key)
            self.now -= size

        weakref.finalize(storage, gone)


def held(call: Call) -> float:
    """Return the most megabytes that one forward and backward pass holds."""
    call().backward()  # gradients of the tensors given are there from now on
    with Held() as mode:
        call().backward()
    return mode.peak / 2**20


def gathered(batch: int) -> Call:
    """Return CRD's loss in the plain way: every sample gathers its own negatives, both sides."""
    source = torch.Generator().manual_seed(0)
    banks = [nn.functional.normalize(torch.randn(BANK, 128, generator=source)) for _ in range(2)]
    sides = [nn.functional.normalize(torch.randn(batch, 128, generator=source)) for _ in range(2)]
    queries = [side.requires_grad_() for side in sides]
    noise = NEGATIVES / BANK

    def call() -> Tensor:
        index = torch.randint(BANK, (batch, NEGATIVES + 1))
        total = torch.zeros(())
        for query, bank in zip(queries, banks, strict=True):
            rows = bank.index_select(0, index.flatten()).view(batch, -1, 128)
            scores = (torch.bmm(rows, query[:, :, None])[:, :, 0] / 0.07).exp()
            p = scores / (BANK * scores.detach().mean())
            total = total - (p[:, 0] / (p[:, 0] + noise + 1e-7)).log().sum() / batch
            total = total - (noise / (p[:, 1:] + noise + 1e-7)).log().sum() / batch
        return total

    return call


def bank_costs(budget: float) -> dict[str, Any]:
    """Time CRD at equal negatives: gathered, limbeck's bank, limbeck's queue; batch 64."""
    rows = torch.arange(64)
    student, teacher, batch = given(64, SMALL)
    batch = Batch(batch.inputs, None, rows, batch.view)
    found: dict[str, Any] = {}
    calls = {"gathered": gathered(64)}
    for name, options in (("bank", {"bank": BANK}), ("queue", {"queue": NEGATIVES})):
        loss: Any = LOSSES["crd"](**options)
        loss.prepare(student, teacher, batch)
        calls[name] = partial(loss, student, teacher, batch)
    for name, call in calls.items():
        times = repeated(call, 4 * budget)
        found[name] = {"seconds": summary(times), "held_mb": held(call)}
    plain = found["gathered"]["seconds"]["median"]
    for name in ("bank", "queue"):
        found[name]["times_cheaper"] = plain / found[name]["seconds"]["median"]
        print(f"crd, {name}: {found[name]['times_cheaper']:.1f} times cheaper than gathered")
    return found


def growth(name: str, budget: float, batches: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """Return seconds and memory by batch, up to the first batch that takes more than a second."""
    cells: dict[int, dict[str, float]] = {}
    for batch in batches:
        if batch > CUBIC.get(name, batch) or any(one["seconds"] > 1.0 for one in cells.values()):
            break
        call = ours(name, batch, SMALL)
        times = summary(repeated(call, budget, 3))
        cells[batch] = {"seconds": times["median"], "held_mb": held(call)}
    return cells


def step_seconds(budget: float) -> list[float]:
    """Time forward and backward of resnet8x4 at batch 64."""
    student = network("resnet8x4", num_classes=CLASSES)
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(64) % CLASSES
    return repeated(lambda: nn.functional.cross_entropy(student(images), targets), budget)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    quick = parser.parse_args().quick
    budget = 0.05 if quick else 0.5
    step = step_seconds(4 * budget)
    whole = summary(step)["median"]
    others: dict[str, Call] = {}
    if find_spec("torchdistill"):
        define_missing_operators()
        others = peers(64)
    else:
        print("no torchdistill here: run `make .venv-vision/ready` and use .venv-vision/bin/python")
    losses = {}
    for name in LOSSES:
        call = ours(name, 64, STAGES)
        found = repeated(call, budget)
        cell: dict[str, Any] = {
            "seconds": summary(found),
            "share_of_step": summary(found)["median"] / whole,
            "held_mb": held(call),
        }
        if name in others:
            turns = [(seconds(call), seconds(others[name])) for _ in range(5 if quick else 40)]
            cell["against_torchdistill"] = ratio(*zip(*turns, strict=True))
            cell["torchdistill_held_mb"] = held(others[name])
        cell["growth"] = growth(name, budget / 4, BATCHES[:2] if quick else BATCHES)
        losses[name] = cell
        beside = cell.get("against_torchdistill")
        told = f"{beside['value']:.2f} {beside['interval']} of torchdistill" if beside else ""
        print(
            f"{name:8} {1e3 * cell['seconds']['median']:9.3f} ms  {cell['share_of_step']:.4f} of a "
            f"step  {cell['held_mb']:7.1f} MB  {told}",
            flush=True,
        )
    rows = [torch.randn(8192, WIDTH, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    rows[0].requires_grad_()
    tiled = held(lambda: mutual_information_loss(*rows))
    print(
        f"mutual information at batch 8192: {tiled:.0f} MB; a matrix would be {8192**2 / 2**18} MB"
    )
    banks = bank_costs(budget)
    if not quick:
        result = {
            "step_seconds": summary(step),
            "losses": losses,
            "crd_16384_negatives": banks,
            "mutual_information_8192_held_mb": tiled,
            "batch_by_batch_mb": 8192**2 / 2**18,
        }
        write("loss_cost", result, ("torchdistill",) if others else ())


if __name__ == "__main__":
    main()
