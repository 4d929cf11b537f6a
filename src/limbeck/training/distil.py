"""distill(): any student, any teacher, any data, one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.capture import Capture
from limbeck.checks import ArgumentError, CheckpointError, ModelError
from limbeck.data import Data
from limbeck.files import check_writable
from limbeck.record import FILE_NAME as RECORD, RunRecord, this_command
from limbeck.tasks import Classification, task_of
from limbeck.training import preflight
from limbeck.training.accelerating import accelerator_for
from limbeck.training.checkpoint import open_checkpoint, remove_checkpoint
from limbeck.training.evaluate import evaluate
from limbeck.training.interrupts import Interrupted
from limbeck.training.loop import Loop
from limbeck.training.memory import memory_advice
from limbeck.training.options import NEUTRAL, Options, options_of
from limbeck.training.saving import load_weights, save_model
from limbeck.training.step import Step
from limbeck.training.teachers import LiveTeacher, teachers_of
from limbeck.training.terms import Layers, copies, layers_of, loss_of, weights_of
from limbeck.types import Task, Teacher


@dataclass(frozen=True)
class Result:
    """What a run gives: the trained student, in eval mode, and its record.

    Attributes:
        student: The student after the last epoch (its average where one was asked for), on the
            CPU or the device that it was trained on.
        record: What was done and what came of it.
        folder: Where record and students were saved, or None.
    """

    student: nn.Module
    record: RunRecord
    folder: Path | None


def distill(
    student: nn.Module,
    teacher: Any,
    data: Any,
    *,
    task: str | Task = "classification",
    loss: Any = "itrd",
    weight: float | None = None,
    layers: Layers | None = None,
    validation: Any = None,
    test: Any = None,
    seed: int = 0,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_ready: Callable[[Loop, list[preflight.Finding]], bool] | None = None,
    **options: Any,
) -> Result:
    """Train a student on a task, with help of a teacher.

    .. math:: w_{task} L_{task} + w_{dist} L_{dist}

    With ``weight=None`` the weights are the method's published additive combination (KD 0.1 and
    0.9, ITRD 1 and 1); with a number w they are 1 - w and w. Labels may be missing for some rows or
    all: the task term is the mean over labelled rows, the distillation term over all.

    Args:
        student: Trained in place.
        teacher: A module, a Teacher, several of them (the terms' mean counts), or None for plain
            training: that is how teachers and controls are trained.
        data: Training rows: whatever :class:`limbeck.Data` takes.
        task: "classification", "multilabel", "regression", "embedding", or the user's own.
        loss: A name in ``limbeck.losses.LOSSES``, a mapping with name and options, a module, or a
            function ``(student, teacher, batch) -> scalar``.
        weight: Share of the distillation term in [0, 1], or None.
        layers: Layer names ``{"student": ..., "teacher": ...}`` for a loss on features given by
            name; the default is ``penultimate``.
        validation: Rows on which the best epoch is chosen; without them there is no "best".
        test: Rows looked at once, at the end.
        seed: All randomness of the run derives from it.
        out: Folder for record, checkpoints and students; None keeps nothing on disk.
        resume: Go on from the checkpoint in ``out``, if there is one.
        overwrite: Start anew although ``out`` holds a run.
        on_ready: Called with the loop and the preflight's findings before the first step; if it
            returns False nothing is trained.
        options: See :class:`limbeck.training.options.Options`.

    Returns:
        The student, in eval mode, the record and the folder.

    Raises:
        LimbeckError: One of its kinds, with what was expected, what came and what to do.

    Source:
        Hinton, Vinyals and Dean (2015), arXiv:1503.02531; the losses name their own.
    """
    chosen = options_of("distill", **options)
    folder = None if out is None else Path(out)
    task = task_of(task)
    rows = Data.of(data, "data")
    held_out = {
        name: None if given is None else Data.of(given, name)
        for name, given in (("validation", validation), ("test", test))
    }
    _check_student(student, teacher)
    accelerator = accelerator_for(chosen.device)
    device = accelerator.device
    term = None if teacher is None else loss_of(loss, layers, task)
    record = RunRecord(kind="train" if term is None else "distill", seed=seed, command=this_command())
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        student.to(device)
        rows = rows.to(device)
        example = preflight.first_batch(rows, device)
        capture = Capture(
            student,
            () if term is None else layers_of(term, "student"),
            example=example.inputs,
            name="student",
        )
        teachers: list[Teacher] = []
        try:
            with memory_advice(chosen, device):
                said = preflight.run_student(capture, example)
                teachers = teachers_of(
                    teacher,
                    () if term is None else layers_of(term, "teacher"),
                    example=example.inputs,
                    device=torch.device(chosen.teacher_device or device),
                    precision=chosen.teacher_precision,
                )
                terms = copies(term, len(teachers))
                for one, guide in zip(terms, teachers, strict=True):
                    answer = preflight.run_teacher(guide, example)
                    if hasattr(one, "prepare"):
                        one.prepare(said, answer, example)  # type: ignore[operator]
                step = Step(
                    capture, task, terms, weights_of(term, weight), compile=chosen.compile
                ).to(device)
                if chosen.channels_last:
                    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                findings = _findings(step, teachers, rows, held_out, example, said.logits, term, record)
                findings += preflight.check_disk(folder, [student])
                record.warnings = preflight.settle(findings, force=chosen.force)
                record.settings = _settings(step, chosen, term, task, weight)
                record.data = _described(rows, held_out)
                identity = _identity(record, student, chosen)
                loop = Loop(
                    step,
                    teachers,
                    rows,
                    held_out["validation"],
                    options=chosen,
                    accelerator=accelerator,
                    record=record,
                    seed=seed,
                    out=folder,
                    identity=identity,
                )
                if on_ready is not None and not on_ready(loop, findings):
                    return Result(student.eval(), record, None)
                if _at_hand(loop, folder, resume=resume, overwrite=overwrite):
                    return _finished(loop, folder)
                return _train(loop, folder, held_out["test"])
        finally:
            capture.close()
            for guide in teachers:
                if isinstance(guide, LiveTeacher):
                    guide.close()


def _train(loop: Loop, folder: Path | None, test: Data | None) -> Result:
    record = loop.record
    try:
        loop.run(test)
    except Interrupted:
        _note_status(loop, folder, "interrupted")
        raise
    except Exception:
        _note_status(loop, folder, "failed")
        raise
    record.results = _results(loop, test)
    if test is not None and loop.teachers and isinstance(loop.inner.task, Classification):
        _note_teacher_on_test(loop, test)
    record.time["seconds"] = loop.seconds
    record.status = "finished"
    if folder is not None and loop.accelerator.is_main_process:
        names = loop.data.class_names
        if loop.best.epoch >= 0:
            save_model(loop.student, folder / "best", weights=loop.best.weights, class_names=names)
        save_model(loop.student, folder / "student", class_names=names)
        record.save(folder)
        remove_checkpoint(folder)
    loop.accelerator.wait_for_everyone()
    return Result(loop.student.eval(), record, folder)


def _results(loop: Loop, test: Data | None) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = {"last": {}}
    if loop.validation is not None and loop.last_ten:
        results["last"]["validation"] = loop.last_ten[-1]
    if test is not None:
        results["last"]["test"] = loop.evaluated(test)
    if loop.last_ten:
        names = loop.last_ten[-1]
        mean = {
            name: sum(found[name] for found in loop.last_ten) / len(loop.last_ten) for name in names
        }
        where = "validation" if loop.validation is not None else "test"
        results["mean_of_last_ten"] = {where: mean}
    if loop.best.epoch >= 0:
        results["best"] = {"validation": {"epoch": float(loop.best.epoch), **loop.best.found}}
        if test is not None:
            results["best"]["test"] = loop.evaluated_with(loop.best.weights, test)
    return results


def _note_teacher_on_test(loop: Loop, test: Data) -> None:
    for position, guide in enumerate(loop.teachers):
        if isinstance(guide, LiveTeacher):
            found = evaluate(guide.module, test, loop.inner.task, device=guide.device)
            name = "test" if len(loop.teachers) == 1 else f"test {position}"
            loop.record.teacher[name] = found


def _findings(
    step: Step,
    teachers: list[Teacher],
    rows: Data,
    held_out: dict[str, Data | None],
    example: Any,
    logits: Any,
    term: nn.Module | None,
    record: RunRecord,
) -> list[preflight.Finding]:
    device = example.index.device
    classes = logits.shape[1] if logits is not None and logits.ndim == 2 else 0
    findings = []
    for one in (rows, *held_out.values()):
        if one is not None:
            findings += preflight.check_labels(one, classes, step.task)
    models = {"student": step.student}
    for position, guide in enumerate(teachers):
        if isinstance(guide, LiveTeacher):
            models[f"teacher {position}" if position else "teacher"] = guide.module
        if isinstance(step.task, Classification):
            found, seen = preflight.check_teacher(
                guide,
                held_out["validation"] or rows,
                classes,
                needs_logits=bool(getattr(term, "needs_logits", False)),
                device=device,
            )
            findings += found
            record.teacher[f"slice {position}" if position else "slice"] = seen
        if isinstance(guide, LiveTeacher):
            record.teacher["parameters"] = sum(p.numel() for p in guide.module.parameters())
            record.teacher["class"] = type(guide.module).__name__
    findings += preflight.check_inputs(example, models)
    if not any(finding.level == "error" for finding in findings):
        findings += preflight.check_gradient(step, example, teachers)
    return findings


def _check_student(student: Any, teacher: Any) -> None:
    if not isinstance(student, nn.Module):
        raise ModelError(
            f"student: expected a torch module; got {type(student).__name__}. Build it first, or use "
            "the command line for models by name."
        )
    if student is teacher:
        raise ArgumentError(
            "distill: expected two modules; student and teacher are one object. Copy it first."
        )


def _settings(
    step: Step, options: Options, term: nn.Module | None, task: Task, weight: float | None
) -> dict[str, Any]:
    return {
        **options.model_dump(mode="json"),
        "task": getattr(task, "name", type(task).__name__),
        "loss": None if term is None else type(term).__name__,
        "loss_settings": {} if term is None else _plain_attributes(term),
        "weight": weight,
        "weights": list(step.weights),
        "student": type(step.student).__name__,
        "student_parameters": sum(p.numel() for p in step.student.parameters()),
        "student_source": getattr(step.student, "limbeck_source", None),
    }


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and isinstance(value, plain)
    }


def _described(rows: Data, held_out: dict[str, Data | None]) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(rows), "augment": repr(rows.augment) if rows.augment else None}
    if rows.targets is not None and not rows.targets.is_floating_point():
        found["labelled"] = int((rows.targets >= 0).sum())
    if rows.class_names is not None:
        found["class_names"] = rows.class_names
    return found | {name: len(one) for name, one in held_out.items() if one is not None}


def _identity(record: RunRecord, student: nn.Module, options: Options) -> dict[str, Any]:
    settings = {name: value for name, value in record.settings.items() if name not in NEUTRAL}
    settings.pop("device")
    return {"seed": record.seed, **settings, "rows": record.data["rows"], "augment": record.data["augment"]}


def _at_hand(loop: Loop, folder: Path | None, *, resume: bool, overwrite: bool) -> bool:
    """Restore what the folder holds; say whether the run in it had finished."""
    if folder is None:
        if resume:
            raise ArgumentError("distill: expected `out` beside resume=True: the folder of the run.")
        return False
    check_writable(folder)
    before = RunRecord.open(folder) if (folder / RECORD).is_file() else None
    if not resume:
        if before is not None and not overwrite:
            raise CheckpointError(
                f"{folder}: expected an empty folder; it holds a run ({before.status}). Use resume=True "
                "(--resume) to go on, overwrite=True (--overwrite) to start anew, or another folder."
            )
        remove_checkpoint(folder)
        return False
    if before is not None and before.status == "finished":
        changed = {
            name
            for name, value in loop.identity.items()
            if name in before.settings and before.settings[name] != value
        }
        if changed or before.seed != loop.record.seed:
            raise CheckpointError(
                f"{folder}: holds a finished run with other settings ({', '.join(sorted(changed)) or 'seed'})"
                ". Choose another `out`, or overwrite=True."
            )
        loop.record = before
        return True
    state = open_checkpoint(folder, loop.identity)
    if state is not None:
        loop.restore(state)
    return False


def _finished(loop: Loop, folder: Path | None) -> Result:
    assert folder is not None  # a finished run was found in it
    load_weights(loop.student, folder / "student" / "model.safetensors")
    return Result(loop.student.eval(), loop.record, folder)


def _note_status(loop: Loop, folder: Path | None, status: Any) -> None:
    loop.record.status = status
    if folder is not None and loop.accelerator.is_main_process:
        loop.record.save(folder)


