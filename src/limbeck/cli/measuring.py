"""From the arguments of ``limbeck measure`` to a measurement, printed and saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.checks import ArgumentError
from limbeck.cli import show
from limbeck.cli.arguments import process_index
from limbeck.cli.atoms import print_measurement
from limbeck.cli.held_out import HeldOut, held_out, name_of, recipe_beside
from limbeck.cli.material import Material, material_of
from limbeck.cli.parts import model_of, task_of_recipe
from limbeck.cli.recipe import ModelRecipe, Recipe, read_mapping, recipe_of
from limbeck.cli.specs import TEXT, data_spec, labels_of, layer_spec, model_spec
from limbeck.cli.yaml_text import overridden
from limbeck.report.atoms import FIGURES
from limbeck.training.measure import measure
from limbeck.training.measurement import FILE_NAME, Measurement
from limbeck.training.saving import DESCRIPTION, describe


Side = Literal["teacher", "student"]
_TOKENS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    recipe: str | None
    overrides: list[str]
    teachers: list[str]
    students: list[str]
    data: str | None
    folder: Path | None
    tokenizer: Path | None
    split: str | None
    layers: list[str]
    seed: int | None
    trust: bool
    options: dict[str, Any]


def run_measure(wanted: Wanted, out: Path | None, *, as_json: bool) -> None:
    """Measure, print and save.

    Raises:
        LimbeckError: If something asked for is wrong.
    """
    recipe, teachers, students = _resolved(wanted)
    material = material_of(recipe.data)
    found = held_out(material, recipe.data, [*teachers, *students], wanted.split)
    if not as_json:
        for remark in found.remarks:
            show.say(f"note: {remark}.", stderr=True)
    measurement = measure(
        _models(teachers, "teacher", material, recipe.seed),
        _models(students, "student", material, recipe.seed),
        found.rows,
        layers=layer_spec(wanted.layers) or recipe.layers,
        task=task_of_recipe(recipe.task),
        seed=recipe.seed,
        seen_in_training=found.seen,
        trust=wanted.trust,
        progress=not as_json,
        **wanted.options,
    )
    _finish(measurement, material, found, out, as_json=as_json)


def _finish(
    measurement: Measurement,
    material: Material,
    found: HeldOut,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    if out is not None:
        measurement.save(out)
    if as_json:
        said = {"set": found.part, "remarks": list(found.remarks), "out": out and str(out)}
        show.say_json({**said, **measurement.to_dict()})
        return
    print_measurement(measurement, f"{material.name}, {found.part} rows")
    if out is not None and process_index() == 0:
        files = [name for name in (FILE_NAME, *FIGURES) if (out / name).is_file()]
        show.say(f"{out}: {', '.join(files)}")


def _resolved(
    wanted: Wanted,
) -> tuple[Recipe, list[ModelRecipe], list[ModelRecipe]]:
    """Return a recipe for data, task and seed, and every teacher and student."""
    where, mapping = _mapping(wanted)
    specs: dict[Side, list[Any]] = {
        "teacher": [model_spec(text, "--teacher") for text in wanted.teachers],
        "student": [model_spec(text, "--student") for text in wanted.students],
    }
    for side, given in specs.items():
        if not given and mapping.get(side) is not None:
            given.append(mapping[side])
        if not given:
            raise ArgumentError(
                f"measure: expected a {side}; got none. Give --{side}, or a recipe that names one."
            )
    if mapping.get("data") is None:
        raise ArgumentError(
            "measure: expected data; got none. Give --data, a recipe, or the folder of a run that "
            "a recipe made."
        )
    first = {side: given[0] for side, given in specs.items()}
    recipe = recipe_of(mapping | first, where)
    found = {
        side: [recipe_of(mapping | first | {side: one}, where) for one in given]
        for side, given in specs.items()
    }
    teachers = [one.teacher for one in found["teacher"] if one.teacher is not None]
    students = [one.student for one in found["student"]]
    return _with_tokenizer(recipe, wanted, [*teachers, *students]), teachers, students


def _mapping(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    overrides, source = list(wanted.overrides), wanted.recipe
    if source is not None and "=" in source and not Path(source).exists():
        overrides, source = [source, *overrides], None
    where, mapping = "measure", {}
    if source is not None and Path(source).is_dir():
        own = recipe_beside(Path(source))
        if own is None:
            raise ArgumentError(
                f"{source}: expected a recipe, or a run's folder with recipe.yaml; it has none. "
                f"Give --student {source} with --teacher and --data."
            )
        where, mapping = str(own), read_mapping(str(own)) | {"student": {"folder": source}}
    elif source is not None:
        where, mapping = source, read_mapping(source)
    if wanted.data is not None:
        mapping["data"] = data_spec(wanted.data, wanted.folder)
    elif wanted.folder is not None:
        overrides.append(f"data.folder={json.dumps(str(wanted.folder))}")
    if wanted.seed is not None:
        mapping["seed"] = wanted.seed
    return where, overridden(mapping, overrides)


def _models(
    recipes: Sequence[ModelRecipe], side: Side, material: Material, seed: int
) -> dict[str, Any]:
    """Return models by label; folders are opened one after the other, when it is their turn."""
    labels = labels_of([name_of(recipe) for recipe in recipes])
    return {
        label: recipe.folder
        if recipe.folder is not None and not recipe.trust
        else model_of(recipe, side, material, seed)
        for label, recipe in zip(labels, recipes, strict=True)
    }


def _with_tokenizer(recipe: Recipe, wanted: Wanted, models: Sequence[ModelRecipe]) -> Recipe:
    """Return the recipe with a tokenizer for texts, where it has none.

    Raises:
        ArgumentError: If there is none, or teacher and student have different ones.
    """
    if recipe.data.module != TEXT or "tokenizer" in recipe.data.options:
        return recipe
    folder = wanted.tokenizer
    if folder is None:
        folders = [place for place in map(_text_folder, models) if place is not None]
        found = {_fingerprint(place): place for place in reversed(folders)}
        found.pop(None, None)
        if len(found) != 1:
            got = ", ".join(str(place) for place in found.values()) or "none"
            raise ArgumentError(
                "measure: expected one tokenizer for teacher and student, in the folder of an "
                f"hf:FOLDER model; got {got}. Give --tokenizer FOLDER; networks that read "
                "different tokens cannot share rows."
            )
        folder = next(iter(found.values()))
    options = {**recipe.data.options, "tokenizer": str(folder)}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"options": options})})


def _text_folder(model: ModelRecipe) -> Path | None:
    """Return the folder of the transformers model that a model is, or was built by."""
    name = str(model.model)
    if model.folder is not None:
        inside = (model.folder, model.folder / "student")
        saved = next((place for place in inside if (place / DESCRIPTION).is_file()), None)
        name = "" if saved is None else str((describe(saved)["source"] or {}).get("builder"))
    return Path(name.removeprefix("hf:")) if name.startswith("hf:") else None


def _fingerprint(folder: Path) -> bytes | None:
    found = next((folder / name for name in _TOKENS if (folder / name).is_file()), None)
    return None if found is None else found.read_bytes()
