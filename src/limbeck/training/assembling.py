"""From a caller's arguments to a loop that is ready to run, every mistake found before."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limbeck.capture import Capture
from limbeck.checks import ArgumentError, ModelError
from limbeck.data import Data, Items
from limbeck.record import RunRecord, this_command
from limbeck.tasks import Classification
from limbeck.training import preflight
from limbeck.training.freezing import parts_of, put_to_rest
from limbeck.training.loop import Loop
from limbeck.training.options import NEUTRAL, Options
from limbeck.training.step import Step
from limbeck.training.teachers import LiveTeacher, teachers_of
from limbeck.training.terms import Layers, copies, layers_of, loss_of, weights_of
from limbeck.training.weighing import (
    Weight,
    adaptive_of,
    check_weighable,
    described,
    is_measured,
)
from limbeck.types import Batch, Outputs, Task, Teacher


_DATA_OF_IDENTITY = ("rows", "augment", "labelled", "validation", "test")


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
    data = data.to(device)
    student.to(device)
    example = preflight.first_batch(data, device)
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
            settings=_settings(step, options, term, task, weight),
            data=_described(data, validation=validation, test=test),
            teacher=_teacher_described(teachers),
        )
        record.hardware |= {"device": str(device), "processes": accelerator.num_processes}
        findings = _looked_at(step, teachers, [data, validation, test], example, said, record)
        findings += preflight.check_disk(folder, [student])
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
            identity=_identity(record),
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
    images = isinstance(example.inputs, Tensor) and example.inputs.ndim == 4
    faster = example.index.device.type == "cpu" or options.precision == "bf16"
    wanted = options.channels_last
    return options.model_copy(
        update={
            "batch_size": options.batch_size or data.batch_size or 64,
            "channels_last": images and (faster if wanted is None else wanted),
        }
    )


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
    models = {"student": step.student}
    held_out = sets[1] or sets[0]
    assert held_out is not None  # the training rows are always there
    for position, guide in enumerate(teachers):
        if isinstance(guide, LiveTeacher):
            models[f"teacher {position}" if position else "teacher"] = guide.module
        if isinstance(step.task, Classification):
            found, seen = preflight.check_teacher(
                guide,
                held_out,
                classes,
                needs_logits=bool(getattr(step.losses[position], "needs_logits", False)),
                device=example.index.device,
            )
            findings += found
            record.teacher[f"slice {position}" if position else "slice"] = seen
    findings += preflight.check_inputs(example, models)
    if not any(finding.level == "error" for finding in findings):
        findings += preflight.check_gradient(step, example, teachers)
    return findings


def _settings(
    step: Step, options: Options, term: nn.Module | None, task: Task, weight: Weight
) -> dict[str, Any]:
    return {
        **options.model_dump(mode="json"),
        "task": getattr(task, "name", type(task).__name__),
        "task_settings": _plain_attributes(task),
        "loss": None if term is None else type(term).__name__,
        "loss_settings": {} if term is None else _plain_attributes(term),
        "weight": described(weight),
        "weights": list(step.weights),
        "student": type(step.student).__name__,
        "student_parameters": sum(p.numel() for p in step.student.parameters()),
        "student_source": getattr(step.student, "limbeck_source", None),
    }


def _plain_attributes(thing: object) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(thing).items()
        if not name.startswith("_") and name != "training" and isinstance(value, plain)
    }


def _described(data: Data, **held_out: Data | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rows": len(data),
        "augment": None if data.augment is None else _stable_name(data.augment),
    }
    if data.targets is not None and not data.targets.is_floating_point():
        found["labelled"] = int((data.targets >= 0).sum())
    if data.class_names is not None:
        found["class_names"] = data.class_names
    return found | {name: len(rows) for name, rows in held_out.items() if rows is not None}


def _stable_name(thing: Any) -> str:
    """Return a name that is the same in every process: repr, but never an address in memory."""
    if inspect.isroutine(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    kind = type(thing)
    plain = kind.__repr__ is object.__repr__
    return f"{kind.__module__}.{kind.__qualname__}" if plain else repr(thing)


def _teacher_described(teachers: list[Teacher]) -> dict[str, Any]:
    live = [guide.module for guide in teachers if isinstance(guide, LiveTeacher)]
    if not live:
        return {}
    return {
        "class": ", ".join(type(module).__name__ for module in live),
        "parameters": sum(p.numel() for module in live for p in module.parameters()),
    }


def _identity(record: RunRecord) -> dict[str, Any]:
    """What a run must have in common with the one whose checkpoint it goes on from."""
    neutral = NEUTRAL | {"device", "teacher_device"}
    settings = {name: value for name, value in record.settings.items() if name not in neutral}
    data = {name: record.data.get(name) for name in _DATA_OF_IDENTITY}
    return {"seed": record.seed, **settings, **data}
