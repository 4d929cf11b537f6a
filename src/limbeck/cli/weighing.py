"""From the arguments of ``limbeck weigh`` to a variance report, printed and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from torch import nn

from limbeck.capture import Capture
from limbeck.checks import ArgumentError, RecipeError
from limbeck.cli import show
from limbeck.cli.arguments import process_index
from limbeck.cli.held_out import recipe_beside
from limbeck.cli.material import Material, material_of
from limbeck.cli.parts import loss_of_recipe, model_of, task_of_recipe, teacher_of
from limbeck.cli.recipe import Recipe, read_mapping, recipe_of
from limbeck.cli.yaml_text import overridden
from limbeck.data import bound
from limbeck.report.weights import FIGURES
from limbeck.training.accelerating import accelerator_for
from limbeck.training.freezing import parts_of, put_to_rest
from limbeck.training.preflight import first_batch, run_student, run_teacher
from limbeck.training.schedule import repeats_rows
from limbeck.training.teachers import LiveTeacher, teachers_of
from limbeck.training.terms import layers_of, weights_of
from limbeck.weighting.measuring.problem import loss_module
from limbeck.weighting.reporting import variance_text
from limbeck.weighting.reporting.variance_report import FILE_NAME, VarianceReport, variance_report


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    recipe: str
    overrides: list[str]
    rows: int
    method: str
    curvature: bool
    held_out: bool
    seed: int | None
    device: str | None
    trust: bool = False


@dataclass(frozen=True)
class Setting:
    """How a recipe's steps look to the law of the weight.

    Attributes:
        learning_rate: Of plain SGD on (1 - weight) task + weight distillation.
        batch_size: Rows of a step.
        momentum: Of SGD.
        weight: The one in use, or None where it changes while training.
        notes: What the law leaves out.
    """

    learning_rate: float
    batch_size: int
    momentum: float
    weight: float | None
    notes: tuple[str, ...]


def run_weigh(wanted: Wanted, out: Path | None, *, as_json: bool) -> None:
    """Measure, print and save.

    Raises:
        LimbeckError: If something asked for is wrong, or the loss is no mean over samples.
    """
    where, recipe = _resolved(wanted)
    if recipe.teacher is None:
        raise RecipeError(
            f"{where}: expected `teacher` to name a model; it is null. Name one, such as "
            "teacher.folder=runs/teacher."
        )
    task = task_of_recipe(recipe.task)
    loss = loss_of_recipe(recipe, task)
    loss_module(loss, force=recipe.training.force)  # refuses before data are read
    material = material_of(recipe.data)
    device = accelerator_for(wanted.device or recipe.training.device).device
    teacher = teacher_of(recipe.teacher, material, recipe.seed)
    if isinstance(teacher, nn.Module):
        teacher.to(device)
    student = model_of(recipe.student, "student", material, recipe.seed).to(device)
    if recipe.training.train_only is not None:
        put_to_rest(student, parts_of(student, recipe.training.train_only))
    _make_ready(loss.to(device), student, teacher, material, device)
    setting = setting_of(recipe, loss, material)
    held_out = material.validation if wanted.held_out else None
    notes = list(setting.notes)
    if recipe.student.folder is None and recipe.student.weights is None:
        notes.append(
            "the student is untrained: the law is about the plateau, from which it is far. Give "
            "the folder of a run to weigh a trained one."
        )
    if wanted.held_out and held_out is None:
        notes.append(f"{material.name} has no validation rows: nothing is said about unseen data.")
    epoch = None
    if repeats_rows(material.train, recipe.training.views):
        epoch = -(-len(material.train) // setting.batch_size)
        notes.append(
            f"an epoch takes each row once, in {epoch:,} steps: the noise at its end counts, which "
            "is less than that of independent batches."
        )
    report = variance_report(
        student,
        teacher,
        material.train,
        learning_rate=setting.learning_rate,
        batch_size=setting.batch_size,
        momentum=setting.momentum,
        steps_per_epoch=epoch,
        held_out=held_out,
        weight=setting.weight,
        n=wanted.rows,
        method=wanted.method,
        loss=loss,
        curvature=wanted.curvature,
        seed=recipe.seed,
        task=task,
        force=recipe.training.force,
    )
    if out is not None:
        report.save(out)
    if as_json:
        said = {"data": material.name, "remarks": notes, "out": out and str(out)}
        show.say_json({**said, **report.to_dict()})
        return
    print_report(report, material.name, notes)
    if out is not None and process_index() == 0:
        show.say(f"{out}: {', '.join((FILE_NAME, *FIGURES))}")


def setting_of(recipe: Recipe, loss: nn.Module, material: Material) -> Setting:
    """Return step, batch and weight as the law of the weight takes them.

    A published combination a task + b distillation is the weight b / (a + b) at a + b times the
    learning rate.

    Args:
        recipe: Its training section counts.
        loss: Says its published combination.
        material: Its loader's batch size counts where the recipe names none.
    """
    training, notes = recipe.training, []
    rate, momentum, weight = training.learning_rate, training.momentum, recipe.weight
    if training.optimizer != "sgd":
        momentum = 0.0
        notes.append(
            f"training is by {training.optimizer}: the numbers are for plain SGD steps with its "
            "learning rate and no momentum."
        )
    if weight is None:
        task, distillation = weights_of(loss, None)
        if task + distillation > 0:
            weight = distillation / (task + distillation)
            rate *= task + distillation
            notes.append(
                f"the published combination, {task:g} task + {distillation:g} distillation, is the "
                f"weight {weight:.3g} at {task + distillation:g} times the learning rate: {rate:g}."
            )
    elif not isinstance(weight, (int, float)):
        weight = None
        notes.append("the recipe measures its weight while training; none is shown as in use.")
    if training.schedule != "constant":
        notes.append(
            "the peak learning rate counts here; it falls while training, and the weight with it "
            "(training.learning_rate=... weighs for another)."
        )
    if training.average is not None:
        notes.append(
            "averaged weights have less noise than those that are trained: their plateau without "
            "distillation is lower than said here, and so is the weight."
        )
    own = sum(value.numel() for value in loss.parameters() if value.requires_grad)
    if own:
        notes.append(f"the loss has {own:,} parameters of its own, which are untrained here.")
    batch = training.batch_size or material.train.batch_size or 64
    return Setting(rate, batch, momentum, weight, tuple(notes))


def print_report(report: VarianceReport, name: str, notes: Sequence[str] = ()) -> None:
    """Print notes, moments, weights, the grid, layers, classes and the verdict.

    Args:
        report: What to print.
        name: Of the data.
        notes: Beside the report's own.
    """
    for text in (*notes, *report.notes):
        show.say(f"note: {text}", stderr=True)
    moments, settings = report.moments, report.advice.settings
    proxy = " (a proxy: one layer)" if moments.settings.get("proxy") else ""
    show.table(
        f"{name}, {moments.n:,} of {report.rows_in_data:,} training rows by "
        f"{moments.settings['method']}{proxy}",
        ("", "training rows", "held-out rows"),
        variance_text.moment_rows(report),
    )
    show.table(
        f"weights for learning rate {settings['learning_rate']:g}, momentum "
        f"{settings['momentum']:g}, batch {settings['batch_size']}; 95 % intervals",
        variance_text.WEIGHTS,
        variance_text.weight_rows(report),
    )
    show.table(
        "what a weight does (* in use): shares of plain SGD's noise, and the loss",
        variance_text.GRID,
        variance_text.grid_rows(report),
    )
    for title, shares in (("layer", report.layers), ("class", report.classes)):
        if shares:
            columns = (title, *variance_text.SHARES)
            rows = [variance_text.share_row(escape(key), one) for key, one in shares.items()]
            show.table(f"which {title} noise and bias come from", columns, rows)
    show.say(f"diagnosis: {report.advice.diagnosis}. {report.advice.action}")
    show.say(report.verdict)


def _resolved(wanted: Wanted) -> tuple[str, Recipe]:
    source = Path(wanted.recipe)
    if source.is_dir():
        own = recipe_beside(source)
        if own is None:
            raise ArgumentError(
                f"{source}: expected a recipe, or a run's folder with recipe.yaml; it has none. "
                f"Give a recipe with student.folder={source}."
            )
        where, mapping = str(own), read_mapping(str(own)) | {"student": {"folder": str(source)}}
    else:
        where, mapping = wanted.recipe, read_mapping(wanted.recipe)
    if wanted.seed is not None:
        mapping["seed"] = wanted.seed
    recipe = recipe_of(overridden(mapping, wanted.overrides), where)
    return where, recipe.trusting() if wanted.trust else recipe


def _make_ready(
    loss: nn.Module,
    student: nn.Module,
    teacher: Any,
    material: Material,
    device: torch.device,
) -> None:
    """Show a loss what it will compare, as training does before its first step."""
    parts: list[Any] = list(loss.modules())
    for part in parts:
        if hasattr(part, "attach"):
            part.attach(student, teacher if isinstance(teacher, nn.Module) else None)
    if not hasattr(loss, "prepare"):
        return
    example = first_batch(material.train, device)
    inputs = example.inputs
    layers = layers_of(loss, "teacher")
    (guide,) = teachers_of(teacher, layers, example=inputs, device=device)
    guide = bound(guide, material.train)
    try:
        with Capture(student, layers_of(loss, "student"), example=inputs, name="student") as run:
            said = run_student(run, example)
        prepared: Any = loss
        prepared.prepare(said, run_teacher(guide, example), example)
    finally:
        if isinstance(guide, LiveTeacher):
            guide.close()
