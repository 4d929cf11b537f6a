"""From the arguments of ``limbeck forecast`` to a forecast, printed and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.checks import DataError, RecipeError
from limbeck.cli import show
from limbeck.cli.arguments import process_index
from limbeck.cli.held_out import is_known, name_of
from limbeck.cli.material import material_of
from limbeck.cli.parts import model_of, teacher_of
from limbeck.cli.recipe import ModelRecipe, Recipe, read_mapping, recipe_of
from limbeck.cli.specs import labels_of, model_spec
from limbeck.cli.yaml_text import overridden
from limbeck.forecasting.forecast import forecast
from limbeck.forecasting.result import FILE_NAME


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    recipe: str
    overrides: list[str]
    teachers: list[str]
    pilot: bool
    seed: int | None
    device: str | None
    trust: bool = False


def run_forecast(wanted: Wanted, out: Path | None, *, as_json: bool) -> None:
    """Forecast, print and save.

    Raises:
        LimbeckError: If something asked for is wrong.
    """
    where, recipe, teachers = _resolved(wanted)
    loss, remarks = _loss_of(recipe, where)
    material = material_of(recipe.data)
    if material.validation is None:
        raise DataError(
            f"{material.name}: expected validation rows to compare teacher and student on; got "
            "none. Hold some out, such as data.validation=0.1, or return them from data.module."
        )
    remarks += _remarks(recipe, teachers)
    if not as_json:
        for remark in remarks:
            show.say(f"note: {remark}.", stderr=True)
    labels = labels_of([name_of(one) for one in teachers])
    options: dict[str, Any] = recipe.training.model_dump(exclude={"track"})
    options["progress"] = recipe.training.progress and not as_json
    if wanted.device is not None:
        options["device"] = wanted.device
    found = forecast(
        {
            label: teacher_of(one, material, recipe.seed)
            for label, one in zip(labels, teachers, strict=True)
        },
        model_of(recipe.student, "student", material, recipe.seed),
        material.train,
        validation=material.validation,
        loss=loss,
        pilot=wanted.pilot,
        seed=recipe.seed,
        **options,
    )
    if out is not None:
        found.save(out)
    if as_json:
        show.say_json({"remarks": remarks, "out": out and str(out), **found.to_dict()})
        return
    show.say(f"{material.name}, {found.data['validation']:,} validation rows")
    show.say(str(found))
    if out is not None and process_index() == 0:
        show.say(f"{out}: {FILE_NAME}")


def _resolved(wanted: Wanted) -> tuple[str, Recipe, list[ModelRecipe]]:
    """Return the recipe and every teacher."""
    where = "standard input" if wanted.recipe == "-" else wanted.recipe
    mapping = overridden(read_mapping(wanted.recipe), wanted.overrides)
    if wanted.seed is not None:
        mapping["seed"] = wanted.seed
    given: list[Any] = [model_spec(text, "--teacher") for text in wanted.teachers]
    if not given and mapping.get("teacher") is not None:
        given.append(mapping["teacher"])
    if not given:
        raise RecipeError(
            f"{where}: expected `teacher` to name a model; it is null. Name one, such as "
            "--teacher runs/teacher."
        )
    recipes = [recipe_of(mapping | {"teacher": one}, where) for one in given]
    recipes = [one.trusting() for one in recipes] if wanted.trust else recipes
    return where, recipes[0], [one.teacher for one in recipes if one.teacher is not None]


def _loss_of(recipe: Recipe, where: str) -> tuple[str, list[str]]:
    """Return the loss by name, and what of the recipe a forecast does not look at.

    Raises:
        RecipeError: If the task is another than plain classification, or there are several losses.
    """
    if recipe.task != {"name": "classification"}:
        raise RecipeError(
            f"{where}: expected `task` classification without options for a forecast; got "
            f"{recipe.task}. The distillations that it is made from were of that task."
        )
    options = dict(recipe.loss)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(
            f"{where}: expected one `loss` by name for a forecast; got {', '.join(recipe.loss)}. "
            "Choose one of them, such as loss=kd."
        )
    remarks = []
    if options:
        remarks.append(f"the forecast is of {name} as published, without loss.{', '.join(options)}")
    if recipe.weight is not None:
        remarks.append(f"the forecast is of {name}'s published weights, not of `weight`")
    if recipe.layers is not None:
        remarks.append(f"the forecast is of {name} on its default layers, not on `layers`")
    return name, remarks


def _remarks(recipe: Recipe, teachers: Sequence[ModelRecipe]) -> list[str]:
    unknown = [
        name_of(one) for one in (*teachers, recipe.student) if not is_known(one, recipe.data)
    ]
    if not unknown:
        return []
    named = ", ".join(dict.fromkeys(unknown))
    said = f"{named} may have been trained on the validation rows"
    return [f"{said}: what it memorised would look like knowledge"]
