"""``train`` and ``distill``: a recipe, run under one seed or several."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import typer

from limbeck.checks import ArgumentError, CheckpointError, RecipeError
from limbeck.cli import show
from limbeck.cli.arguments import Flags, process_index
from limbeck.cli.dry_run import DryRun
from limbeck.cli.material import Material, material_of
from limbeck.cli.parts import loss_of_recipe, model_of, task_of_recipe, teacher_of
from limbeck.cli.recipe import Recipe, read_mapping, recipe_of
from limbeck.cli.seeds import aggregate
from limbeck.cli.specs import model_spec
from limbeck.cli.texts import fit_task
from limbeck.cli.yaml_text import overridden
from limbeck.files import write_text
from limbeck.record import FILE_NAME
from limbeck.training.distil import Result, distill
from limbeck.training.interrupts import Interrupted


Kind = Literal["train", "distill"]

RECIPE = "recipe.yaml"
SUMMARY = "summary.json"


def run_recipe(kind: Kind, source: str, overrides: list[str], flags: Flags) -> None:
    """Run a recipe and print what came of it.

    Raises:
        LimbeckError: If the recipe is wrong, the run cannot start, or it was interrupted.
    """
    recipe = _resolved(source, overrides, flags)
    _check_kind(kind, recipe, source)
    _check_folder(recipe, flags)
    material = material_of(recipe.data)
    teacher = None if recipe.teacher is None else teacher_of(recipe.teacher, material, recipe.seed)
    if flags.dry_run:
        _dry_run(recipe, material, teacher, flags)
    elif flags.seeds == 1:
        result = _run(recipe, material, teacher, flags)
        if flags.as_json:
            show.say_json(_as_json(result))
        else:
            show.run_summary(result.record, result.folder)
    else:
        _run_seeds(recipe, material, teacher, flags)


def _resolved(source: str, overrides: list[str], flags: Flags) -> Recipe:
    mapping = overridden(read_mapping(source), overrides)
    if flags.teacher is not None:
        mapping["teacher"] = model_spec(flags.teacher, "--teacher")
    for name, value in (("seed", flags.seed), ("out", flags.out)):
        if value is not None:
            mapping[name] = value
    if mapping.get("out") is None:
        mapping["out"] = Path("runs") / ("recipe" if source == "-" else Path(source).stem)
    chosen = {"device": flags.device, "force": flags.force or None}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if chosen:
        mapping["training"] = {**(mapping.get("training") or {}), **chosen}
    recipe = recipe_of(mapping, "standard input" if source == "-" else source)
    return recipe.trusting() if flags.trust else recipe


def _check_kind(kind: Kind, recipe: Recipe, source: str) -> None:
    if kind == "train" and recipe.teacher is not None:
        raise RecipeError(
            f"{source}: expected `teacher` to be null for training; it names a model. Use "
            "limbeck distill, or add teacher=null to train the student alone."
        )
    if kind == "distill" and recipe.teacher is None:
        raise RecipeError(
            f"{source}: expected `teacher` to name a model; it is null. Name one, or use "
            "limbeck train."
        )


def _check_folder(recipe: Recipe, flags: Flags) -> None:
    """Refuse one run among those of several seeds, and several seeds inside of one run."""
    assert recipe.out is not None  # it was given a default
    if flags.overwrite or flags.dry_run:
        return
    single = (recipe.out / FILE_NAME).is_file()
    seeds = sorted(path.parent.name for path in recipe.out.glob(f"seed*/{FILE_NAME}"))
    if flags.seeds > 1 and single:
        raise CheckpointError(
            f"{recipe.out}: expected an empty folder for {flags.seeds} seeds; it holds a single "
            "run. Use another --out, or --overwrite to put them beside it."
        )
    if flags.seeds == 1 and seeds and not single:
        raise CheckpointError(
            f"{recipe.out}: expected an empty folder; it holds runs of several seeds "
            f"({', '.join(seeds)}). Use another --out, --seeds {len(seeds)} --resume to go on with "
            "them, or --overwrite to put a single run beside them."
        )


def _run(
    recipe: Recipe,
    material: Material,
    teacher: Any,
    flags: Flags,
    on_ready: Callable[..., bool] | None = None,
) -> Result:
    task = fit_task(task_of_recipe(recipe.task), material)
    assert recipe.out is not None  # it was given a default
    try:
        result = distill(
            model_of(recipe.student, "student", material, recipe.seed),
            teacher,
            material.train,
            task=task,
            loss=None if teacher is None else loss_of_recipe(recipe, task),
            weight=recipe.weight,
            validation=material.validation,
            test=material.test,
            seed=recipe.seed,
            out=recipe.out,
            resume=flags.resume,
            overwrite=flags.overwrite,
            on_ready=on_ready,
            **recipe.training.model_dump(),
        )
    except Interrupted:
        _keep(recipe)
        raise
    if on_ready is None:
        _keep(recipe)
    return result


def _keep(recipe: Recipe) -> None:
    """Write the recipe beside the run: what ``evaluate`` reads, and how to repeat it."""
    if process_index() == 0 and recipe.out is not None:
        write_text(recipe.out / RECIPE, recipe.as_yaml())


def _run_seeds(recipe: Recipe, material: Material, teacher: Any, flags: Flags) -> None:
    assert recipe.out is not None  # it was given a default
    results = []
    for seed in range(recipe.seed, recipe.seed + flags.seeds):
        one = recipe.model_copy(update={"seed": seed, "out": recipe.out / f"seed{seed}"})
        # A copy: a run may move its teacher or change its precision.
        results.append(_run(one, material, copy.deepcopy(teacher), flags))
        if not flags.as_json:
            show.run_summary(results[-1].record, results[-1].folder)
    found = aggregate([result.record for result in results])
    summary = {
        "schema_version": 1,
        "seeds": [result.record.seed for result in results],
        "folders": [str(result.folder) for result in results],
        "results": {name: estimate.to_dict() for name, estimate in found.items()},
    }
    if process_index() == 0:
        write_text(recipe.out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    if flags.as_json:
        show.say_json(summary)
        return
    metric = show.main_metric(results[0].record)
    show.table(
        f"{flags.seeds} seeds: mean and 95 % interval of the mean (Student's t)",
        ("", "mean", "lower", "upper", "n", "unit"),
        [
            (name, *(f"{x:.4f}" for x in (e.value, e.lower, e.upper)), e.n, e.unit)
            for name, e in found.items()
            if name.endswith(f" {metric}")
        ],
    )
    show.say(str(recipe.out / SUMMARY))


def _dry_run(recipe: Recipe, material: Material, teacher: Any, flags: Flags) -> None:
    if flags.resume or flags.overwrite:
        raise ArgumentError("--dry-run: expected no --resume or --overwrite beside it. Drop them.")
    dry = DryRun(recipe.training, runs=flags.seeds)
    # A forced preflight still finds the same; so all findings are shown instead of the first error.
    forced = recipe.training.model_copy(update={"force": True})
    tolerant = recipe.model_copy(update={"training": forced})
    _run(tolerant, material, copy.deepcopy(teacher), flags, on_ready=dry.measure)
    if flags.as_json:
        plan: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), **dry.as_dict()}
        show.say_json(plan)
    else:
        show.say(recipe.as_yaml().rstrip())
        dry.print()
    if dry.has_errors and not recipe.training.force:
        raise typer.Exit(2)


def _as_json(result: Result) -> dict[str, Any]:
    return {"folder": str(result.folder), "record": result.record.model_dump(mode="json")}
