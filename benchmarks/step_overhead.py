"""A step of limbeck beside a step of the plainest PyTorch loop (target: at most 1.05 times).

Ratios of the medians with 95 % intervals, batch 64, 2 threads of an AMD EPYC, torch 2.13.0:
small_cnn on 8x8 (a step of 5 to 13 ms, n = 120 turns): no distillation 0.961 [0.919, 1.004], KD
1.054 [1.030, 1.070], ITRD 1.037 [1.017, 1.051]; resnet20 on 32x32 (190 to 310 ms, n = 40): 1.027
[0.999, 1.098], 1.022 [0.982, 1.047], 0.980 [0.929, 1.047]. The bookkeeping is a fraction of a
millisecond a step, which the smallest network shows; the rest is the machine's own noise.
results/step_overhead.json.

    python benchmarks/step_overhead.py [--quick]

Both sides run in one process, in turns of a few steps (A B A B ...), each on a copy of one student,
on the same batches of the same uint8 images in memory, without augmentation, with the teacher's
forward pass included. limbeck's side is ``limbeck.distill`` in full. The plain
loop stands below: torch.optim.SGD with its defaults, zero_grad, backward, step.

The steady state is timed from inside: an augmentation sees every batch of limbeck just before its
step, so the time between one batch and the batch k later is that of k whole steps, bookkeeping and
ends of epochs included, and set-up and preflight left out. There the augmentation lets the plain
loop do the same k batches before limbeck goes on. The first turn is a single step, not counted,
after which the two students must have the same weights up to rounding: both do the same work.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from common import ratio, summary, write
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck.losses import ITRD
from limbeck.zoo.networks import Network, network


BATCH_SIZE = 64
RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
TARGET = 1.05


@dataclass(frozen=True)
class Pair:
    """A student, a teacher, images of a size, and how many steps make one turn."""

    name: str
    student: tuple[str, dict[str, Any]]
    teacher: tuple[str, dict[str, Any]]
    channels: int
    size: int
    classes: int
    steps: int
    turns: int

    def models(self) -> tuple[Network, Network]:
        torch.manual_seed(0)
        common: dict[str, Any] = {"num_classes": self.classes, "channels": self.channels}
        student, teacher = (
            network(name, **common, **kw) for name, kw in (self.student, self.teacher)
        )
        return student, teacher.eval()

    def rows(self) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(0)
        shape = (100 * BATCH_SIZE, self.channels, self.size, self.size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=source)
        return images, torch.randint(0, self.classes, shape[:1], generator=source)


PAIRS = [
    Pair("small_cnn", ("small_cnn", {}), ("small_cnn", {"width": 64}), 1, 8, 10, 10, 120),
    Pair("resnet20", ("resnet20", {}), ("resnet56", {}), 3, 32, 100, 3, 40),
]


class Plain:
    """The loop that one writes by hand."""

    def __init__(
        self, loss: str | None, student: Network, teacher: Network, rows: tuple[Tensor, Tensor]
    ) -> None:
        self.loss, self.student, self.teacher, self.rows = loss, student.train(), teacher, rows
        self.backbone, self.teacher_backbone = student[:-1], teacher[:-1]
        trained = list(student.parameters())
        if loss == "itrd":
            width, out = student.classifier.in_features, teacher.classifier.in_features
            start = ITRD(student_width=width, teacher_width=out).embedding
            assert start is not None  # both widths were given
            self.embedding: nn.Module = start
            trained += self.embedding.parameters()
        self.optimizer = torch.optim.SGD(trained, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def run(self, batches: list[Tensor]) -> None:
        images, labels = self.rows
        for index in batches:
            inputs, targets = images[index].float() / 255, labels[index]
            self.optimizer.zero_grad()
            self.total(inputs, targets).backward()
            self.optimizer.step()

    def total(self, inputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss is None:
            return F.cross_entropy(self.student(inputs), targets)
        if self.loss == "kd":
            with torch.no_grad():
                teacher = F.log_softmax(self.teacher(inputs) / 4, dim=1)
            logits = self.student(inputs)
            student = F.log_softmax(logits / 4, dim=1)
            kd = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * 16
            return 0.1 * F.cross_entropy(logits, targets) + 0.9 * kd
        with torch.no_grad():
            teacher = self.teacher_backbone(inputs)
        features = self.backbone(inputs)
        itrd = limbeck.itrd_loss(features, teacher, embedded=self.embedding(features))
        return F.cross_entropy(self.student.classifier(features), targets) + itrd


@dataclass(eq=False)
class Turns:
    """An augmentation that changes nothing, and lets the plain loop run between limbeck's turns."""

    plain: Plain
    student: nn.Module  # limbeck's
    steps: int
    on: bool = False
    began: float = 0.0
    batches: list[Tensor] = field(default_factory=list)
    limbeck_seconds: list[float] = field(default_factory=list)
    plain_seconds: list[float] = field(default_factory=list)

    def __call__(self, inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:
        now = time.perf_counter()
        if not self.on:
            return inputs
        if len(self.batches) == (self.steps if self.plain_seconds else 1):
            self.limbeck_seconds.append(now - self.began)
            now = time.perf_counter()
            self.plain.run(self.batches)
            self.plain_seconds.append(time.perf_counter() - now)
            if len(self.plain_seconds) == 1:
                self.check_weights()
            self.batches = []
            now = time.perf_counter()
        if not self.batches:
            self.began = now
        self.batches.append(index)
        return inputs

    def start(self, *_: object) -> bool:
        self.on = True
        return True

    def check_weights(self) -> None:
        pairs = zip(self.student.parameters(), self.plain.student.parameters(), strict=True)
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def measure(pair: Pair, loss: str | None, turns: int) -> dict[str, Any]:
    student, teacher = pair.models()
    rows = pair.rows()
    plain = Plain(loss, copy.deepcopy(student), copy.deepcopy(teacher), rows)
    between = Turns(plain, student, pair.steps)
    limbeck.distill(
        student,
        None if loss is None else teacher,
        limbeck.Data(rows, augment=between),
        loss=loss or "kd",
        batch_size=BATCH_SIZE,
        epochs=10_000,
        max_steps=turns * pair.steps + 2,
        schedule="constant",
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        device="cpu",
        progress=False,
        channels_last=False,  # as the plain loop has it; the default would be faster
        force=True,  # a teacher with random weights is at chance level
        on_ready=between.start,
    )
    ours, theirs = (
        [1000 * seconds / pair.steps for seconds in side[1:]]
        for side in (between.limbeck_seconds, between.plain_seconds)
    )
    return {
        "pair": pair.name,
        "loss": loss or "none",
        "steps_of_a_turn": pair.steps,
        "limbeck_ms": summary(ours),
        "plain_ms": summary(theirs),
        "ratio": ratio(ours, theirs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five turns, nothing written")
    parser.add_argument("--threads", type=int, help="of torch")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    found = []
    for pair in PAIRS:
        for loss in (None, "kd", "itrd"):
            case = measure(pair, loss, 5 if chosen.quick else pair.turns)
            found.append(case)
            value, (low, high) = case["ratio"]["value"], case["ratio"]["interval"]
            ours, theirs = case["limbeck_ms"]["median"], case["plain_ms"]["median"]
            print(
                f"{pair.name:10} {case['loss']:5} limbeck {ours:7.2f} ms  plain {theirs:7.2f} ms  "
                f"ratio {value:.3f} [{low:.3f}, {high:.3f}]"
                f"{'' if value <= TARGET else '  above the target'}",
                flush=True,
            )
    if not chosen.quick:
        write("step_overhead", {"batch_size": BATCH_SIZE, "target": TARGET, "cases": found})


if __name__ == "__main__":
    main()
