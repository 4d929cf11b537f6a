"""From a caller's arguments to a loop that is ready to run, every mistake found before."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from limbeck.capture import Capture
from limbeck.checks import ArgumentError, ModelError
from limbeck.data import Data, Items, bound
from limbeck.record import RunRecord, this_command
from limbeck.store import TeacherStore
from limbeck.tasks import Classification
from limbeck.training import preflight
from limbeck.training.describing import (
    described_data,
    described_teachers,
    identity_of,
    settings_of,
)
from limbeck.training.freezing import parts_of, put_to_rest
from limbeck.training.loop import Loop
from limbeck.training.options import Options
from limbeck.training.order import takes_channels_last
from limbeck.training.overlap import check_overlap
from limbeck.training.step import Step
from limbeck.training.teachers import LiveTeacher, teachers_of
from limbeck.training.terms import Layers, copies, layers_of, loss_of, weights_of
from limbeck.training.token_preflight import check_language_models, check_reads
from limbeck.training.weighing import (
    Weight,
    adaptive_of,
    check_weighable,
    is_measured,
)
from limbeck.types import Batch, Outputs, Task, Teacher


@contextlib.contextmanager
def assembled(
    student: nn.Module,
    teacher: Any,
    data: Data,
    *,
    task: Task,
    loss: Any,
    weight: Weight,
    layers: Layers | None,
    validation: Data | None,
    test: Data | None,
    seed: int,
    folder: Path | None,
    options: Options,
    accelerator: Accelerator,
) -> Generator[tuple[Loop, list[preflight.Finding]]]:
    """Give a loop and what the preflight found; hooks are removed at the end.

    Arguments are those of :func:`limbeck.distill`.
    """
    _check_student(student, teacher)
    device = accelerator.device
    term = None if teacher is None else loss_of(loss, layers, task, seed)
    needed = {who: () if term is None else layers_of(term, who) for who in ("student", "teacher")}
    shared = check_overlap(data, validation=validation, test=test)  # before rows move to a device
    data = data.to(device)
    student.to(device)
    example = preflight.first_batch(data, device)
    check_reads(task, example, {"student": student, "teacher": teacher})
    borrowed = options.channels_last is None  # the format is ours for the run, not the caller's
    options = _resolved(options, data, example)
    compiled_rows = _micro_batch(options, accelerator.num_processes) if options.compile else None
    trained = None if options.train_only is None else parts_of(student, options.train_only)
    resting: list[nn.Parameter] = []
    capture = Capture(student, needed["student"], example=example.inputs, name="student")
    teachers: list[Teacher] = []
    formatted = [student]
    try:
        resting += [] if trained is None else put_to_rest(student, trained)
        said = preflight.run_student(capture, example)
        teachers += teachers_of(
            teacher,
            needed["teacher"],
            example=example.inputs,
            device=torch.device(options.teacher_device or device),
            precision=options.teacher_precision,
            compiled_rows=compiled_rows,
            channels_last=bool(options.channels_last),
        )
        teachers = [_bound(guide, data, needed["teacher"]) for guide in teachers]
        options = _with_views(options, teachers)
        terms = copies(term, len(teachers))
        _prepare(student, terms, teachers, said, example)
        weights = weights_of(term, None if is_measured(weight) else weight)
        step = Step(capture, task, terms, weights, compiled_rows=compiled_rows, trained=trained)
        step.to(device)
        if options.channels_last:
            student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        record = RunRecord(
            kind="train" if term is None else "distill",
            seed=seed,
            command=this_command(),
            settings=settings_of(step, options, term, task, weight, teachers),
            data=described_data(data, validation=validation, test=test),
            teacher=described_teachers(teachers),
        )
        record.hardware |= {"device": str(device), "processes": accelerator.num_processes}
        findings = _looked_at(step, teachers, [data, validation, test], example, said, record)
        findings += [*shared, *preflight.check_disk(folder, [student])]
        record.warnings = preflight.settle(findings, force=options.force)
        loop = Loop(
            step,
            teachers,
            data,
            validation,
            test,
            options=options,
            accelerator=accelerator,
            record=record,
            out=folder,
            identity=identity_of(record),
        )
        if term is not None and is_measured(weight):
            adaptive = adaptive_of(weight, weights, loop.steps, loop.batch_size)
            check_weighable(adaptive, terms, options.loss_warmup_epochs, forced=options.force)
            loop.weigh(adaptive)
        formatted.append(loop.student)
        yield loop, findings
    finally:
        capture.close()
        for parameter in resting:
            parameter.requires_grad_(True)
        for guide in teachers:
            if isinstance(guide, LiveTeacher):
                guide.close()
                formatted.append(guide.module)
        for rows in (data, validation, test):
            if rows is not None and isinstance(rows.source, Items):
                rows.source.classes = None  # they are the caller's, who may use them otherwise
        if borrowed and options.channels_last:
            for module in formatted:
                module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _check_student(student: Any, teacher: Any) -> None:
    if not isinstance(student, nn.Module):
        raise ModelError(
            f"student: expected a torch module; got {type(student).__name__}. Build it first, or "
            "use the command line for models by name."
        )
    if student is teacher:
        raise ArgumentError(
            "distill: expected two modules; student and teacher are one object. Copy it first."
        )


def _resolved(options: Options, data: Data, example: Batch) -> Options:
    """Decide what was left open by rules, never by a clock: a resumed run must decide alike."""
    wanted = options.channels_last
    return options.model_copy(
        update={
            "batch_size": options.batch_size or data.batch_size or 64,
            "channels_last": takes_channels_last(example, options.precision, wanted),
        }
    )


def _bound(teacher: Teacher, data: Data, layers: tuple[str, ...]) -> Teacher:
    """Return the teacher of these rows; of a store no more is read than is needed."""
    found = bound(teacher, data)
    return found.only(layers=layers) if isinstance(found, TeacherStore) else found


def _with_views(options: Options, teachers: list[Teacher]) -> Options:
    """Serve the views that stored teachers hold, where these differ."""
    stores = [guide for guide in teachers if isinstance(guide, TeacherStore)]
    stored = [store.views for store in stores if store.manifest.plan.distinct_views]
    if not stored:
        return options
    if options.views is not None and options.views > min(stored):
        raise ArgumentError(
            f"distill: expected `views` up to those of the stored teacher, {min(stored)}; got "
            f"{options.views}. Leave `views` out, or store more of them (limbeck cache --views)."
        )
    return options.model_copy(update={"views": options.views or min(stored)})


def _micro_batch(options: Options, processes: int) -> int:
    """Return the rows of all but the last batch of an epoch on the first process."""
    of_process = math.ceil((options.batch_size or 64) / processes)
    return math.ceil(of_process / options.accumulate)


def _prepare(
    student: nn.Module,
    terms: list[nn.Module],
    teachers: list[Teacher],
    said: Outputs,
    example: Batch,
) -> None:
    for term, guide in zip(terms, teachers, strict=True):
        for attach in (getattr(part, "attach", None) for part in term.modules()):
            if attach is not None:  # a loss that reads the classifiers' own weights
                attach(student, getattr(guide, "module", None))
        answer = preflight.run_teacher(guide, example)
        prepare = getattr(term, "prepare", None)
        if prepare is not None:
            prepare(said, answer, example)


def _looked_at(
    step: Step,
    teachers: list[Teacher],
    sets: list[Data | None],
    example: Batch,
    said: Outputs,
    record: RunRecord,
) -> list[preflight.Finding]:
    logits = said.logits
    classes = logits.shape[1] if logits is not None and logits.ndim == 2 else 0
    findings = []
    for rows in sets:
        if rows is not None:
            findings += preflight.check_labels(rows, classes, step.task)
    assert sets[0] is not None  # the training rows are always there
    findings += preflight.check_keys(sets[0], example, step.task)
    findings += preflight.check_mixing(sets[0], example, step.weights[0])
    models = {"student": step.student}
    held_out = sets[1] or sets[0]
    for position, guide in enumerate(teachers):
        # A store answers for the rows that it was written for, and those are the training rows.
        looked_at = sets[0] if isinstance(guide, TeacherStore) else held_out
        if isinstance(guide, LiveTeacher):
            models[f"teacher {position}" if position else "teacher"] = guide.module
        if isinstance(step.task, Classification):
            found, seen = preflight.check_teacher(
                guide,
                looked_at,
                classes,
                needs_logits=bool(getattr(step.losses[position], "needs_logits", False)),
                device=example.index.device,
            )
            findings += found
            record.teacher[f"slice {position}" if position else "slice"] = seen
    findings += preflight.check_inputs(example, models)
    found, seen = check_language_models(step, teachers, example, said, held_out)
    findings += found
    record.teacher |= seen
    if not any(finding.level == "error" for finding in findings):
        unlabelled = preflight.has_no_label(sets[0], example)
        findings += preflight.check_gradient(step, example, teachers, unlabelled=unlabelled)
    return findings
