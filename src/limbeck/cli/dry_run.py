"""What a run would take: a few real steps that are then undone."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.cli import show
from limbeck.record import FILE_NAME
from limbeck.training.evaluate import evaluate
from limbeck.training.loop import Loop
from limbeck.training.options import Options
from limbeck.training.preflight import Finding
from limbeck.training.teachers import LiveTeacher


_WARM_UP = 2  # steps before the clock runs: the first ones allocate and compile
_STEPS = 10
_ROWS = 512  # rows on which the speed of evaluation is measured
_MEBI = 2**20


@dataclass
class DryRun:
    """Measures a loop that is ready to start; afterwards nothing of it may be used.

    Attributes:
        options: Of the run that is planned.
        runs: How many seeds it is planned with.
        findings: What the preflight saw.
        parameters: Parameters by model.
        seconds: Estimated seconds of all runs, by part.
        memory: Bytes by part.
        steps: Optimiser steps of one run.
    """

    options: Options
    runs: int = 1
    findings: list[Finding] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    steps: int = 0

    @property
    def has_errors(self) -> bool:
        """Whether the preflight would stop the run."""
        return any(finding.level == "error" for finding in self.findings)

    def measure(self, loop: Loop, findings: list[Finding]) -> bool:
        """Measure; pass this to ``distill(on_ready=...)``. Student and loss are as before.

        Returns:
            False: nothing is to be trained.
        """
        self.findings = [*findings, *_of_data(loop), *_of_folder(loop)]
        self.parameters = _parameters(loop)
        self.steps = loop.steps
        rows = _rows_evaluated(loop)
        evaluation = _seconds_per_row(loop) if rows else 0.0
        # From here on the loop is a measuring device: it writes nothing and ends by step count.
        loop.out = loop.validation = loop.test = None
        before = copy.deepcopy(loop.inner.state_dict())
        try:
            _advance(loop, _WARM_UP)
            step = _seconds_per_step(loop)
            self.memory = _memory(loop)
        finally:
            loop.inner.load_state_dict(before)
        self.seconds = {
            "training": self.runs * self.steps * step,
            "evaluation": self.runs * rows * evaluation,
        }
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "findings": [{"level": one.level, "text": one.text} for one in self.findings],
            "parameters": self.parameters,
            "steps": self.steps,
            "runs": self.runs,
            "estimated_seconds": self.seconds,
            "memory_bytes": self.memory,
        }

    def print(self) -> None:
        """Print findings and estimates."""
        for finding in self.findings:
            show.say(f"{finding.level}: {finding.text}")
        show.pairs("parameters", {name: f"{n:,}" for name, n in self.parameters.items()})
        total = sum(self.seconds.values())
        show.say(
            f"time: about {_duration(total)} (an estimate, from {_STEPS} steps) for {self.steps:,} "
            f"steps{f' in each of {self.runs} runs' if self.runs > 1 else ''}: "
            + ", ".join(f"{name} {_duration(part)}" for name, part in self.seconds.items())
        )
        show.pairs(
            f"memory for {self.options.precision}, MiB (an estimate, without torch itself)",
            {name: f"{size / _MEBI:,.1f}" for name, size in self.memory.items()},
        )
        show.say("dry run: nothing was trained or written.")


def _advance(loop: Loop, steps: int) -> None:
    """Make so many more steps, however long the run is meant to be."""
    wanted = loop.total_steps + steps
    loop.options = loop.options.model_copy(
        update={"max_steps": wanted, "epochs": loop.epoch + wanted + 1, "progress": False}
    )
    loop.run()
    if loop.accelerator.device.type == "cuda":
        torch.cuda.synchronize(loop.accelerator.device)


def _seconds_per_step(loop: Loop) -> float:
    start = perf_counter()
    _advance(loop, _STEPS)
    return (perf_counter() - start) / _STEPS


def _rows_evaluated(loop: Loop) -> int:
    options = loop.options
    rows = 0
    if loop.validation is not None:
        rows += len(loop.validation) * -(-options.epochs // options.evaluate_every)
    if loop.test is not None:
        times = 2 if loop.validation is not None else 1 + min(10, options.epochs)
        rows += len(loop.test) * times
    return rows


def _seconds_per_row(loop: Loop) -> float:
    data = loop.validation or loop.test
    assert data is not None  # the caller counted its rows
    slice_ = data.subset(range(min(len(data), _ROWS)))
    start = perf_counter()
    evaluate(loop.student, slice_, loop.inner.task, device=loop.accelerator.device)
    return (perf_counter() - start) / len(slice_)


def _of_data(loop: Loop) -> list[Finding]:
    """Say how training rows are augmented: image data sets are unless told otherwise."""
    augment = loop.record.data.get("augment")
    return [] if augment is None else [Finding("fact", f"augment: {augment}")]


def _of_folder(loop: Loop) -> list[Finding]:
    if loop.out is None or not (loop.out / FILE_NAME).is_file():
        return []
    text = f"{loop.out}: holds a run; it takes --resume, --overwrite or another --out."
    return [Finding("warning", text)]


def _models(loop: Loop) -> dict[str, nn.Module]:
    found = {"student": loop.inner.student}
    for position, teacher in enumerate(loop.teachers):
        if isinstance(teacher, LiveTeacher):
            found[f"teacher {position}" if position else "teacher"] = teacher.module
    return found | {"loss": loop.inner.losses}


def _parameters(loop: Loop) -> dict[str, int]:
    counts = {
        name: sum(part.numel() for part in model.parameters())
        for name, model in _models(loop).items()
    }
    return {name: count for name, count in counts.items() if count or name != "loss"}


def _memory(loop: Loop) -> dict[str, int]:
    """Return bytes of what a step holds at once; activations are those of one more real step."""
    saved: dict[int, int] = {}
    device = loop.accelerator.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _saved_for_backward(saved, _storages(loop)):
        _advance(loop, 1)
    trained = sum(_bytes(part) for part in loop.step.parameters() if part.requires_grad)
    state = loop.optimizer.state.values()
    found = {
        "parameters": sum(_bytes(p) for m in _models(loop).values() for p in m.parameters()),
        "gradients": trained,
        "optimizer": sum(
            _bytes(value) for one in state for value in one.values() if isinstance(value, Tensor)
        ),
        "activations": sum(saved.values()),
    }
    found["together"] = sum(found.values())
    if device.type == "cuda":
        found["peak on the device, measured"] = torch.cuda.max_memory_allocated(device)
    return found


@contextmanager
def _saved_for_backward(saved: dict[int, int], known: set[int]) -> Generator[None]:
    """Note the size of every storage that autograd keeps for one backward pass, once each.

    The first backward pass ends it: what comes after is handed memory that has been given back.
    """
    ended = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not ended and storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: Tensor) -> Tensor:
        ended.append(True)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _storages(loop: Loop) -> set[int]:
    tensors = [*loop.step.parameters(), *loop.step.buffers()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
