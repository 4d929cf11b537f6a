"""How fast limbeck distils CIFAR-100 beside torchdistill, with a live teacher (target: 1.3 times).

resnet56 -> resnet20, KD, batch 64, 2 threads of an AMD EPYC, torch 2.13.0, 100 steps, n = 3:
limbeck 303 images a second, torchdistill 215, ratio of medians 1.41 (95 % bootstrap interval
[1.23, 1.41]); with compile=True 329 images a second, 1.53 [1.29, 1.53]. Peak memory 748 (compiled
789) and 755 MiB. results/against_torchdistill.json.

    make .venv-vision/ready
    .venv-vision/bin/python benchmarks/against_torchdistill.py [--data FOLDER] [--quick]

Each side runs in a process of its own, in turns (A B A B ...). Both have the same networks of
limbeck.zoo with the same first weights, the same uint8 images from one decoded file, batch size,
threads, SGD and loss, 0.1 CE + 0.9 * 16 KL at temperature 4, whose values are compared on a batch.
Both shift by up to four pixels and mirror, each in its own way:

torchdistill 1.1.5: a DistillationBox from a configuration like those of its samples, its KDLoss,
the loop of its example image_classification.py with its MetricLogger, torchvision's transforms in a
DataLoader with the best of 0, 1 and 2 workers, chosen by a short run. Two things are in its favour:
networks normalise their own inputs here, a batch at a time, so there is no Normalize among the
transforms; and its teacher is put into eval mode, which it does not do itself.

limbeck: ``limbeck.distill`` with its defaults and CropFlip on whole batches; and once more with
compile=True, which takes a minute before the first step that is not counted here.

``ms_of_a_step`` says where the difference comes from. Most of it is arithmetic: on a CPU limbeck
runs image networks in channels_last, for which the convolutions are faster; the rest is data.
Waiting for data includes what worker processes take from the cores
only as far as the loop has to wait for them; the rest shows as slower arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, ratio, summary, write
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import limbeck
from limbeck.training.torchvision_cpu import define_missing_operators
from limbeck.zoo.data.augment import CropFlip
from limbeck.zoo.networks import Network, network


BATCH_SIZE = 64
OPTIMISER = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
TARGET = 1.3


def models() -> tuple[Network, Network]:
    """Return student and teacher, the same on both sides."""
    torch.manual_seed(0)
    return network("resnet20"), network("resnet56").eval()


def run_limbeck(
    rows: tuple[np.ndarray, np.ndarray], steps: int, warm_up: int, *, compiled: bool
) -> dict[str, Any]:
    student, teacher = models()
    watch, shift = Watch(steps, warm_up), CropFlip(padding=4)
    started = []

    def augment(inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:
        if started:
            watch.step()  # batch n comes just before step n
        return shift(inputs, index, view)

    result = limbeck.distill(
        student,
        teacher,
        limbeck.Data(rows, augment=augment),
        loss="kd",
        batch_size=BATCH_SIZE,
        epochs=10_000,
        max_steps=steps + warm_up + 1,
        schedule="constant",
        learning_rate=OPTIMISER["lr"],
        momentum=OPTIMISER["momentum"],
        weight_decay=OPTIMISER["weight_decay"],
        compile=compiled,
        device="cpu",
        progress=False,
        force=True,  # the teacher has random weights
        on_ready=lambda *_: not started.append(True),
    )
    if compiled:
        return watch.result()  # the shares would hold the compilation, which happens in a step
    step = 1000 * watch.seconds / steps
    shares = {
        name.removeprefix("share "): share * step
        for name, share in result.record.time.items()
        if name.startswith("share ")
    }
    return watch.result() | {"ms_of_a_step": shares}


def run_torchdistill(
    rows: tuple[np.ndarray, np.ndarray], steps: int, warm_up: int, workers: int
) -> dict[str, Any]:
    define_missing_operators()
    from torchdistill.core.distillation import get_distillation_box  # pyright: ignore[reportMissingImports]
    from torchdistill.misc.log import MetricLogger, SmoothedValue  # pyright: ignore[reportMissingImports]

    student, teacher = models()
    device = torch.device("cpu")
    box = get_distillation_box(
        teacher, student, {"train": Cifar(*rows)}, configuration(workers), device, None, False, 1
    )
    difference = compare_losses(box, rows)

    watch = Watch(steps, warm_up)
    parts = {"data": 0.0, "forward and loss": 0.0, "backward and optimiser": 0.0, "logging": 0.0}
    log = MetricLogger(delimiter="  ")
    log.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    log.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
    epoch = 0
    while not watch.done:
        box.pre_epoch_process(epoch=epoch)
        lap = time.perf_counter()
        for batch, targets, supplement in log.log_every(box.train_data_loader, 100, "Epoch"):
            watch.step()
            if watch.done:
                break
            now = begun = time.perf_counter()
            times = [now - lap]
            batch, targets = batch.to(device), targets.to(device)
            loss = box.forward_process(batch, targets, supplement)
            now = note(times, now)
            box.post_forward_process(loss=loss)
            now = note(times, now)
            log.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            log.meters["img/s"].update(len(batch) / (time.perf_counter() - begun))
            if torch.isnan(loss) or torch.isinf(loss):
                raise ValueError(f"loss = {loss}")
            lap = note(times, now)
            if watch.timed:
                for name, seconds in zip(parts, times, strict=True):
                    parts[name] += seconds
        box.post_epoch_process()
        epoch += 1
    return watch.result() | {
        "ms_of_a_step": {name: 1000 * seconds / steps for name, seconds in parts.items()},
        "loss_difference": difference,
    }


def note(times: list[float], since: float) -> float:
    """Append the time since ``since`` and return the present."""
    now = time.perf_counter()
    times.append(now - since)
    return now


def configuration(workers: int) -> dict[str, Any]:
    """Return a training configuration like those among torchdistill's samples for CIFAR-100."""
    output = {
        f"{who}_module_{what}": value
        for who in ("student", "teacher")
        for what, value in (("path", "."), ("io", "output"))
    }
    # With alpha = 0 or None its KDLoss loses the factor temperature^2; with 0.1 it is the formula.
    kd = {"key": "KDLoss", "kwargs": {**output, "temperature": 4.0, "alpha": 0.1}}
    return {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": torch.utils.data.RandomSampler},
            "kwargs": {"batch_size": BATCH_SIZE, "num_workers": workers, "drop_last": False},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": dict(OPTIMISER)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}},
        },
    }


class Cifar(torch.utils.data.Dataset[Any]):
    """As torchvision.datasets.CIFAR100 serves it: an array in memory, a PIL image for each row."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        from torchvision import transforms  # pyright: ignore[reportMissingImports]

        self.images, self.labels = images, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), self.labels[row]


def compare_losses(box: Any, rows: tuple[np.ndarray, np.ndarray]) -> float:
    """Return how far the two losses are apart on one batch; more than rounding is an error."""
    images = torch.from_numpy(rows[0][:BATCH_SIZE]).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(rows[1][:BATCH_SIZE])
    box.student_model.eval()  # batch norm keeps its statistics
    with torch.no_grad():
        theirs = box.forward_process(images, labels, None)
        logits, teacher = box.student_model(images), box.teacher_model(images)
        ours = 0.1 * F.cross_entropy(logits, labels) + 0.9 * limbeck.kd_loss(logits, teacher)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    return abs(theirs.item() - ours.item())


class Watch:
    """Times ``steps`` steps after ``warm_up`` others; told of each batch just before its step."""

    def __init__(self, steps: int, warm_up: int) -> None:
        self.steps, self.warm_up = steps, warm_up
        self.seen = 0
        self.began = self.seconds = 0.0

    @property
    def timed(self) -> bool:
        """Whether the present step counts."""
        return self.warm_up < self.seen <= self.warm_up + self.steps

    @property
    def done(self) -> bool:
        return self.seen > self.warm_up + self.steps

    def step(self) -> None:
        self.seen += 1
        if self.seen == self.warm_up + 1:
            self.began = time.perf_counter()
        elif self.seen == self.warm_up + self.steps + 1:
            self.seconds = time.perf_counter() - self.began

    def result(self) -> dict[str, Any]:
        return {
            "images_per_second": self.steps * BATCH_SIZE / self.seconds,
            "peak_MiB": peak_memory(),
        }


def peak_memory() -> float:
    """Return this process's peak memory; getrusage would inherit that of the parent on Linux."""
    for line in Path("/proc/self/status").read_text(encoding="utf8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this benchmark reads its memory from /proc, which is Linux's")


def decode(folder: Path, out: Path) -> None:
    """Write the training images, contact sheets as in shared/data/README.md, once a layout."""
    sheets = []
    for path in sorted(folder.glob("train_??.webp")):
        with Image.open(path) as sheet:
            tiles = np.asarray(sheet.convert("RGB")).reshape(50, 32, 50, 32, 3)
        sheets.append(tiles.swapaxes(1, 2).reshape(-1, 32, 32, 3))
    images = np.concatenate(sheets)
    np.save(out / "torchdistill.npy", images)
    np.save(out / "limbeck.npy", np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    np.save(out / "labels.npy", np.load(folder / "train_labels.npy").astype(np.int64))


def child(side: str, rows: Path, steps: int, warm_up: int, threads: int) -> dict[str, Any]:
    """Run one side in a process of its own."""
    numbers = [str(number) for number in (steps, warm_up, threads)]
    done = subprocess.run(
        [sys.executable, __file__, "--side", side, str(rows), *numbers],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def side(name: str, folder: str, *numbers: str) -> None:
    steps, warm_up, threads = map(int, numbers)
    torch.set_num_threads(threads)
    kind, _, option = name.partition(":")
    rows = np.load(f"{folder}/{kind}.npy"), np.load(f"{folder}/labels.npy")
    if kind == "limbeck":
        print(json.dumps(run_limbeck(rows, steps, warm_up, compiled=option == "compiled")))
    else:
        print(json.dumps(run_torchdistill(rows, steps, warm_up, int(option))))


def compare(chosen: argparse.Namespace, rows: Path) -> dict[str, Any]:
    run = partial(child, rows=rows, threads=chosen.threads)
    speeds = {
        workers: run(f"torchdistill:{workers}", steps=max(chosen.steps // 4, 5), warm_up=5)
        for workers in (0, 1, 2)
    }
    best = max(speeds, key=lambda workers: speeds[workers]["images_per_second"])
    names = ["limbeck", "limbeck:compiled", f"torchdistill:{best}"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(chosen.repeats):
        for name in names:
            runs[name].append(run(name, steps=chosen.steps, warm_up=chosen.warm_up))
            print(f"{name}: {runs[name][-1]['images_per_second']:.1f} images/s", flush=True)
    ours, compiled, theirs = ([one["images_per_second"] for one in runs[name]] for name in names)
    return {
        "pair": "resnet56 -> resnet20",
        "batch_size": BATCH_SIZE,
        "steps": chosen.steps,
        "warm_up": chosen.warm_up,
        "threads": chosen.threads,
        "target": TARGET,
        "torchdistill_images_per_second_by_workers": {
            str(workers): one["images_per_second"] for workers, one in speeds.items()
        },
        "torchdistill_workers": best,
        "ratio": ratio(ours, theirs),
        "ratio_compiled": ratio(compiled, theirs),
        "sides": {name: dict(summaries(runs[name])) for name in names},
    }


def summaries(runs: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for key, first in runs[0].items():
        if isinstance(first, dict):
            yield key, dict(summaries([one[key] for one in runs]))
        else:
            yield key, summary([one[key] for one in runs])


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        side(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shared = os.environ.get("LIMBECK_SHARED_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(shared), help="holds a folder cifar100")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing written")
    chosen = parser.parse_args()
    if find_spec("torchdistill") is None:
        print("skipped: torchdistill is not installed here. Run `make .venv-vision/ready` and use")
        print("         .venv-vision/bin/python.")
        return
    folder = chosen.data / "cifar100"
    if not (folder / "train_labels.npy").is_file():
        print("skipped: CIFAR-100 as contact sheets is not at hand. Name the folder that holds")
        print("         `cifar100` with --data, or in LIMBECK_SHARED_DATA.")
        return
    if chosen.quick:
        chosen.steps, chosen.warm_up, chosen.repeats = 5, 2, 2
    with tempfile.TemporaryDirectory() as temporary:
        decode(folder, Path(temporary))
        result = compare(chosen, Path(temporary))
    report(result)
    if not chosen.quick:
        write("against_torchdistill", result, ["torchdistill", "torchvision"])


def report(result: dict[str, Any]) -> None:
    for name, numbers in result["sides"].items():
        parts = ", ".join(
            f"{part} {value['median']:.1f}"
            for part, value in numbers.get("ms_of_a_step", {}).items()
        )
        print(
            f"{name:16} {numbers['images_per_second']['median']:7.1f} images/s, "
            f"{numbers['peak_MiB']['median']:.0f} MiB; ms of a step: {parts}"
        )
    for key in ("ratio", "ratio_compiled"):
        low, high = result[key]["interval"]
        print(f"{key} {result[key]['value']:.3f} [{low:.3f}, {high:.3f}], target {TARGET}")


if __name__ == "__main__":
    main()
