"""The one training loop: every method, every task, one or several processes."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from limbeck.checks import DataError
from limbeck.data import Data
from limbeck.randomness import derive_seed
from limbeck.record import RunRecord
from limbeck.tasks import selection_of
from limbeck.training.alternating import Alternation
from limbeck.training.best import Best
from limbeck.training.checkpoint import save_checkpoint
from limbeck.training.clock import Clock
from limbeck.training.counting import with_ratios
from limbeck.training.evaluate import evaluate
from limbeck.training.interrupts import Interrupts
from limbeck.training.optimiser import optimizer_of, seed_device
from limbeck.training.options import Options
from limbeck.training.order import Order
from limbeck.training.progress import Bar
from limbeck.training.schedule import (
    first_of_rank,
    loss_factor,
    rate_factor,
    repeats_rows,
)
from limbeck.training.step import Step
from limbeck.training.tracking import Tracking
from limbeck.training.weighing import Weighing
from limbeck.types import Batch, Outputs, Teacher
from limbeck.weighting.controlling.adaptive import AdaptiveWeight


_RECORD_SECONDS = 2.0  # between two writes of the record: flushing a file waits for the disk
_READ_EVERY = 50  # steps between two looks at the numbers, which make the device wait


class Loop:
    """Trains a :class:`Step` and keeps what a record and a resumed run need.

    Every random choice is a function of (seed, epoch, step, rank), so a checkpoint holds weights
    and positions, and no generator.
    """

    def __init__(
        self,
        step: Step,
        teachers: list[Teacher],
        data: Data,
        validation: Data | None,
        test: Data | None,
        *,
        options: Options,
        accelerator: Accelerator,
        record: RunRecord,
        out: Path | None,
        identity: dict[str, Any],
    ) -> None:
        self.options, self.accelerator, self.record = options, accelerator, record
        self.seed, self.out, self.identity = record.seed, out, identity
        self.teachers, self.data, self.validation, self.test = teachers, data, validation, test
        self.order = Order(data, options, self.seed, accelerator)
        self.batch_size = self.order.batch_size
        self.inner = step
        self.weighing: Weighing | None = None
        self.average = (
            AveragedModel(
                step.student, multi_avg_fn=get_ema_multi_avg_fn(options.average), use_buffers=True
            )
            if options.average
            else None
        )
        if self.average is not None:
            step.capture.forget_in(self.average)
        self.alternation = Alternation(step, lambda trained: optimizer_of(trained, options))
        self.step = accelerator.prepare(step)
        # Every trained parameter, those of the loss included, has the same decay, as in recipes.
        self.optimizer = optimizer_of((p for p in step.parameters() if p.requires_grad), options)
        self.clock = Clock(accelerator.device)
        self.best = Best()
        self.epoch = self.done = self.total_steps = 0
        self.terms: list[str] = []
        self.sums: Tensor | None = None  # of the terms over the epoch's steps, on the device
        self.last_ten: list[dict[str, float]] = []
        self.stopped = False
        self.tracking = Tracking((), None, record)
        self._batches: list[Tensor] = []
        self._rate = options.learning_rate
        self._seconds_before = 0.0
        self._started = self._saved = time.monotonic()
        self._recorded = -math.inf

    @property
    def student(self) -> nn.Module:
        """The module that is evaluated and saved: the student, or its average."""
        return self.average.module if self.average is not None else self.inner.student

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._seconds_before + time.monotonic() - self._started

    def weigh(self, adaptive: AdaptiveWeight) -> None:
        """Let the distillation weight be chosen while training."""
        same = repeats_rows(self.data, self.options.views)
        plan = (self.steps, self.order.steps_per_epoch if same else None)
        self.weighing = Weighing(self.inner, adaptive, self.options, plan, self._autocast)

    def run(self) -> None:
        """Train from the present position to the end."""
        with Interrupts(saved=self.out is not None) as interrupts, self._bar() as bar:
            while not self.finished:
                self._epoch(bar, interrupts)
                self._end_of_epoch(bar)
                interrupts.check(self._save_now)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        steps = self.order.steps_per_epoch * self.options.epochs
        return min(steps, self.options.max_steps or steps)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the run stopped early at the end of one."""
        out_of_steps = self.total_steps >= (self.options.max_steps or math.inf)
        return self.stopped or self.epoch >= self.options.epochs or (out_of_steps and not self.done)

    @property
    def _in_last_ten(self) -> bool:
        return self.epoch > self.options.epochs - 10

    def _bar(self) -> Bar:
        shown = self.options.progress and self.accelerator.is_main_process
        return Bar(self.steps, shown=shown, done=self.total_steps)

    def _epoch(self, bar: Bar, interrupts: Interrupts) -> None:
        self.step.train()
        self._tell_models(self.epoch)
        self.alternation.begin_epoch(self.epoch, self.options.epochs)
        self._batches = order = self.order.batches_of(self.epoch)
        limit = self.options.max_steps or math.inf
        # How far a killed run had come within this epoch: its first `done` batches are not read.
        batches = self.order.served(order[self.done :], self.epoch)
        while self.done < len(order) and self.total_steps < limit:
            self._one_step(batches, self.epoch + self.done / len(order))
            self.done += 1
            self.total_steps += 1
            bar.advance(len(order[self.done - 1]))
            if self.total_steps % _READ_EVERY == 0:
                bar.say(f"loss {self._read_sums()['total']:.4f}")
            if time.monotonic() - self._saved >= self.options.checkpoint_seconds:
                self._save_now()
            interrupts.check(self._save_now)

    def _tell_models(self, epoch: int) -> None:
        """Call ``begin_epoch`` of every part of the student, or of its average, that has one."""
        for part in [*self.inner.student.modules(), *(self.average or nn.Module()).modules()]:
            # Looked up in the class: a compiled module passes on what it is asked for.
            if hasattr(type(part), "begin_epoch"):
                part.begin_epoch(epoch, self.options.epochs)  # pyright: ignore[reportCallIssue]

    def _one_step(self, batches: Iterator[Batch], position: float) -> None:
        aside, optimizer = self.alternation.active, self.optimizer
        if aside:
            assert self.alternation.optimizer is not None
            optimizer = self.alternation.optimizer
        self._rate = self.options.learning_rate * rate_factor(self.options, position)
        for group in optimizer.param_groups:
            group["lr"] = self._rate
        rank = self.accelerator.process_index
        seed_device(derive_seed(self.seed, "step", self.total_steps, rank))
        self._gradients(batches, position)
        if aside:
            self.alternation.average_gradients()
        if self.options.clip:
            nn.utils.clip_grad_norm_(self.step.parameters(), self.options.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self.average is not None and not aside:
            self.average.update_parameters(self.inner.student)
        self.clock.lap("optimiser")

    def _gradients(self, batches: Iterator[Batch], position: float) -> None:
        rows, pieces = self._rows_of_step(), self.options.accumulate
        batches, ratios = with_ratios(self.inner, batches, rows, pieces, self.accelerator)
        served = self._served(batches, rows)
        if self.weighing is not None and not self.alternation.active:  # else the student rests
            self.weighing.begin(self.total_steps, self._rate)
            of_all = len(self._batches[self.done])
            ranks = self.accelerator.num_processes
            if self.weighing.due(self.total_steps, of_all, ranks, self.options.accumulate):
                rank = self.accelerator.process_index
                terms = self.weighing.measure(
                    served,
                    number=self.total_steps,
                    start=first_of_rank(of_all, rank, ranks),
                    rows=of_all,
                    rate=self._rate,
                    clock=self.clock,
                    optimizer=self.optimizer,
                )
                self._add(terms, 1.0)
                return
        factor, rows_left = loss_factor(self.options, position), rows
        for (batch, said), ratio in zip(served, ratios, strict=False):
            rows_left -= len(batch)
            alone = self.accelerator.no_sync(self.step) if rows_left else contextlib.nullcontext()
            with alone:
                with self._autocast():
                    if self.alternation.active:
                        total, terms = self.alternation.forward(batch, said, self.clock)
                    else:
                        of_term = factor * ratio.distillation
                        total, terms = self.step(batch, said, of_term, self.clock, ratio.task)
                share = len(batch) / rows
                (total if share == 1 else total * share).backward()
            self.clock.lap("backward")
            self._add(ratio.on(terms), share)

    def _served(self, batches: Iterator[Batch], rows: int) -> Iterator[tuple[Batch, list[Outputs]]]:
        """Serve this process's micro-batches of a step, with what the teachers say."""
        while rows:
            self.clock.start()
            batch = next(batches)
            rows -= len(batch)
            self.clock.lap("data")
            said = [teacher(batch) for teacher in self.teachers]
            self.clock.lap("teacher")
            yield batch, said

    def _add(self, terms: dict[str, Tensor], share: float) -> None:
        values = torch.stack(list(terms.values()))
        if self.sums is None:
            self.terms, self.sums = list(terms), torch.zeros_like(values, dtype=torch.float64)
        self.sums.add_(values, alpha=share)

    def _rows_of_step(self) -> int:
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        rows = len(self._batches[self.done])
        return rows // ranks + (rank < rows % ranks)  # as tensor_split has it

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.options.precision == "bf16":
            return torch.autocast(self.accelerator.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _read_sums(self) -> dict[str, float]:
        read = [] if self.sums is None else (self.sums / max(self.done, 1)).tolist()
        values = dict(zip(self.terms, read, strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise DataError(
                    f"distill: expected finite losses; the term `{name}` became {value} in epoch "
                    f"{self.epoch + 1} by step {self.total_steps}. Lower `learning_rate`, set "
                    "`clip` or `warmup_epochs`, or look for rows with extreme inputs."
                )
        return values

    def _end_of_epoch(self, bar: Bar) -> None:
        if self.sums is not None:
            self.sums = cast(Tensor, self.accelerator.reduce(self.sums, "mean"))
        values = {f"loss {name}": value for name, value in self._read_sums().items()}
        values["learning rate"] = self._rate
        if self.weighing is not None:
            values["distillation weight"] = float(self.weighing.adaptive.weight)
            self.record.weighing = self.weighing.adaptive.history()
        self.epoch += 1
        self.done, self.sums = 0, None
        final = self.finished
        if self.validation is not None and (final or self.epoch % self.options.evaluate_every == 0):
            found = self.evaluated(self.validation)
            values |= {f"validation {name}": value for name, value in found.items()}
            self._note_best(found)
            self._note_last_ten(found)
            bar.say(", ".join(f"{name} {value:.4f}" for name, value in list(found.items())[:1]))
        elif self.validation is None and self.test is not None and self._in_last_ten:
            # Measured, never chosen by: without validation data there is no "best".
            self._note_last_ten(self.evaluated(self.test))
        self.record.add_to_curves(values)
        self.tracking.epoch(self.epoch, values)
        self.record.time = {
            "seconds": self.seconds,
            **{f"share {k}": v for k, v in self.clock.shares().items()},
        }
        self._save_record()

    def _save_record(self) -> None:
        """Write the record for whoever looks on; the end of the run always writes it."""
        if self.out is None or not self.accelerator.is_main_process:
            return
        if time.monotonic() - self._recorded >= _RECORD_SECONDS:
            self.record.save(self.out)
            self._recorded = time.monotonic()

    def evaluated(self, data: Data) -> dict[str, float]:
        """Return the metrics of the student, or its average, on other rows."""
        return evaluate(
            self.student,
            data,
            self.inner.task,
            teacher=self.teachers[0] if self.teachers else None,
            batch_size=max(256, self.batch_size),
            device=self.accelerator.device,
            autocast=self.options.precision == "bf16",
        )

    def evaluated_with(self, weights: dict[str, Tensor], data: Data) -> dict[str, float]:
        """Return the metrics under other weights, such as the best epoch's; its own come back."""
        own = {key: part.detach().clone() for key, part in self.student.state_dict().items()}
        self.student.load_state_dict(weights)
        try:
            return self.evaluated(data)
        finally:
            self.student.load_state_dict(own)

    def _note_best(self, found: dict[str, float]) -> None:
        name, direction = selection_of(self.inner.task)
        value = found.get(name) if name else next(iter(found.values()), None)
        if value is None:
            return
        if self.best.is_beaten_by(value, direction):
            self.best = Best.of(self.student, value, self.epoch, found)
        elif self.options.patience and self.epoch - self.best.epoch >= self.options.patience:
            self.stopped = True

    def _note_last_ten(self, found: dict[str, float]) -> None:
        self.last_ten = [*self.last_ten, found][-10:]

    def _save_now(self) -> None:
        if self.out is None or not self.accelerator.is_main_process:
            return
        save_checkpoint(self.out, self.state(), self.identity)
        self._saved = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return everything a run needs to go on from here."""
        other = self.alternation.optimizer
        return {
            "step": self.inner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weighing": None if self.weighing is None else self.weighing.state(),
            "auxiliary optimizer": other.state_dict() if other is not None else None,
            "average": None if self.average is None else self.average.state_dict(),
            "best": [self.best.value, self.best.epoch, self.best.found, self.best.weights],
            "position": [self.epoch, self.done, self.total_steps],
            "rate": self._rate,
            "stopped": self.stopped,
            "terms": self.terms,
            "sums": self.sums,
            "last_ten": self.last_ten,
            "seconds": self.seconds,
            "record": json.dumps(self.record.model_dump(include={"curves", "warnings", "started"})),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where :meth:`state` was taken."""
        self.inner.load_state_dict(state["step"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.alternation.optimizer is not None:
            self.alternation.optimizer.load_state_dict(state["auxiliary optimizer"])
        if self.weighing is not None:
            self.weighing.restore(state["weighing"], self.order.last_of_step)
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best = Best(*state["best"])
        self.epoch, self.done, self.total_steps = state["position"]
        self._rate, self.stopped = state["rate"], state["stopped"]
        self.terms, sums = state["terms"], state["sums"]
        self.sums = None if sums is None else sums.to(self.accelerator.device)
        self.last_ten = state["last_ten"]
        self._tell_models(max(self.epoch - (not self.done), 0))  # the epoch trained last
        self._seconds_before = state["seconds"]
        for name, part in json.loads(state["record"]).items():
            setattr(self.record, name, part)
