"""distill(): any student, any teacher, any data, one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data import Data
from limbeck.record import RunRecord
from limbeck.students.card import SHARES, UNITS
from limbeck.tasks import task_of
from limbeck.training.accelerating import accelerator_for
from limbeck.training.assembling import assembled
from limbeck.training.confirming import forget_race, race, wants_race
from limbeck.training.finishing import already_finished, check_free, finish, note_status
from limbeck.training.interrupts import Interrupted
from limbeck.training.loop import Loop
from limbeck.training.memory import memory_advice
from limbeck.training.options import options_of
from limbeck.training.preflight import Finding
from limbeck.training.terms import Layers
from limbeck.training.tracking import Tracking, check_track
from limbeck.training.weighing import Weight
from limbeck.types import Task


@dataclass(frozen=True, repr=False)
class Result:
    """What a run gives; printed, its metrics in a few lines.

    Attributes:
        student: The student after the last epoch, or its average where one was asked for, in eval
            mode, on the device that it was trained on.
        record: What was done and what came of it.
        folder: Where record and students were saved, or None.
    """

    student: nn.Module
    record: RunRecord
    folder: Path | None

    def __repr__(self) -> str:
        """Say how the run ended, its metrics by moment and set with units, and its folder."""
        record = self.record
        place = "" if self.folder is None else f", {self.folder}"
        lines = [f"{record.kind}, seed {record.seed}: {record.status}{place}"]
        for moment, parts in record.results.items():
            for part, metrics in parts.items():
                told = ", ".join(_metric(name, value) for name, value in metrics.items())
                lines.append(f"{moment.replace('_', ' ')}, {part}: {told}")
        return "\n".join(lines)


def _metric(name: str, value: float) -> str:
    if name in SHARES:
        return f"{name} {100 * value:.2f} %"
    number = f"{value:.0f}" if name == "epoch" else f"{value:.4f}"
    return f"{name} {number} {UNITS.get(name, '')}".rstrip()


def distill(
    student: nn.Module,
    teacher: Any,
    data: Any,
    *,
    task: str | Task = "classification",
    loss: Any = "itrd",
    weight: Weight = None,
    layers: Layers | None = None,
    validation: Any = None,
    test: Any = None,
    seed: int = 0,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_ready: Callable[[Loop, list[Finding]], bool] | None = None,
    **options: Any,
) -> Result:
    r"""Train a student on a task, with help of a teacher.

    .. math:: w_{task} L_{task} + w_{dist} L_{dist}

    With ``weight=None`` the weights are the method's published additive combination (KD 0.1 and
    0.9, ITRD 1 and 1); with a number w they are 1 - w and w. Labels may be missing for some rows or
    all: the task term is the mean over labelled rows, the distillation term over all.

    Args:
        student: Trained in place.
        teacher: A module, a Teacher, several of them (the mean of their terms counts), or None for
            plain training: that is how teachers and controls are trained.
        data: Training rows: whatever :class:`limbeck.Data` takes.
        task: "classification", "multilabel", "regression", "embedding", or the user's own.
        loss: A name in ``limbeck.losses.LOSSES``, a mapping of ``name`` and options, a module, or a
            function ``(student, teacher, batch) -> scalar``. Not used without a teacher.
        weight: Share of the distillation term in [0, 1]; None for the published combination;
            "auto" for one that is measured while the student trains, from the published share on
            (losses that are means over samples); a mapping of ``mode`` ("hbar" or "losspair") and
            options of :class:`limbeck.AdaptiveWeight`, or such an object. With ``confirm`` in the
            mapping it first races 0, the published share and the measured weight over a tenth of
            the epochs (``pilot``) on ``validation``; one of the others must be better for sure.
        layers: Layer names ``{"student": ..., "teacher": ...}`` for a loss on features given by
            name; ``penultimate`` by default.
        validation: Rows on which the best epoch is chosen; without them there is no "best".
        test: Rows looked at once, at the end.
        seed: All randomness of the run derives from it.
        out: Folder for record, checkpoints and students; None keeps nothing on disk.
        resume: Go on from the checkpoint in ``out``, if there is one.
        overwrite: Start anew although ``out`` holds a run.
        on_ready: Called with the loop and the preflight's findings before the first step; nothing
            is trained if it returns False.
        options: Fields of :class:`limbeck.training.options.Options`: epochs, batch_size, ...

    Returns:
        The student, in eval mode, with its record and folder.

    Raises:
        LimbeckError: One of its kinds, with what was expected, what came and what to do.

    Note:
        Under several processes (``torchrun``) they share every batch, and the student is that of
        one process, up to rounding, losses that compare samples included. BatchNorm is the
        exception: while training each process normalises with the statistics of its own rows. A
        user's own loss is averaged over processes as it is, which is exact for means over equally
        many rows.

    Source:
        Hinton, Vinyals and Dean (2015), arXiv:1503.02531; each loss names its own.
    """
    chosen = options_of("distill", **options)
    folder = None if out is None else Path(out)
    check_track(chosen.track, folder)
    raced = None
    if teacher is not None and on_ready is None and wants_race(weight):
        if folder is not None and not resume:
            check_free(folder, overwrite=overwrite)
            forget_race(folder)
        raced = race(
            distill, student, teacher, data, weight=weight, out=folder, task=task, loss=loss,
            layers=layers, validation=validation, seed=seed, **chosen.model_dump(exclude={"track"}),
        )  # fmt: skip
        weight = raced.weight
    accelerator = accelerator_for(chosen.device)
    device = accelerator.device
    generators = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=generators),
        memory_advice(chosen, device),
        assembled(
            student,
            teacher,
            Data.of(data, "data"),
            task=task_of(task),
            loss=loss,
            weight=weight,
            layers=layers,
            validation=None if validation is None else Data.of(validation, "validation"),
            test=None if test is None else Data.of(test, "test"),
            seed=seed,
            folder=folder,
            options=chosen,
            accelerator=accelerator,
        ) as (loop, findings),
    ):
        if raced is not None:
            loop.record.settings["weight_race"] = raced.told
        if on_ready is not None and not on_ready(loop, findings):
            return Result(student.eval(), loop.record, None)
        if not already_finished(loop, resume=resume, overwrite=overwrite):
            try:
                if accelerator.is_main_process:
                    loop.tracking = Tracking(chosen.track, folder, loop.record)
                loop.run()
                finish(loop)
                loop.tracking.finish()
            except Interrupted:
                note_status(loop, "interrupted")
                raise
            except Exception:
                note_status(loop, "failed")
                raise
            finally:
                loop.tracking.close()
        return Result(loop.student.eval(), loop.record, folder)
