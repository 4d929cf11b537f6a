"""``limbeck evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from limbeck.cli.arguments import AsJson, Device, Overrides, process_index


Part = Literal["test", "validation", "train"]


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or its student or best.")],
    overrides: Overrides = None,
    recipe: Annotated[
        str | None, typer.Option(help="Where data and task stand. Default: the run's own recipe.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="A data set's name instead.")] = None,
    part: Annotated[Part, typer.Option("--set", help="The rows to evaluate on.")] = "test",
    predictions: Annotated[
        Path | None, typer.Option(help="Write class predictions to this CSV file.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Call a builder outside of limbeck that FOLDER names.")
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a saved model on data.

    A run's folder means its last student; FOLDER/best is the best on validation data.
    """
    from limbeck.checks import ArgumentError, DataError
    from limbeck.cli import show
    from limbeck.cli.material import material_of
    from limbeck.cli.parts import task_of_recipe
    from limbeck.cli.predictions import write_predictions
    from limbeck.cli.recipe import recipe_of
    from limbeck.cli.texts import fit_model, fit_task
    from limbeck.cli.yaml_text import overridden
    from limbeck.training.accelerating import accelerator_for
    from limbeck.training.evaluate import outputs_over
    from limbeck.training.saving import load
    from limbeck.training.summing import SummedTask, summed_metrics

    model = load(folder, trust=trust)
    where, mapping = _mapping(folder, recipe, data)
    chosen = recipe_of(overridden(mapping, overrides or []), where)
    material = material_of(chosen.data)
    rows = getattr(material, part)
    if rows is None:
        raise DataError(f"{material.name}: expected {part} rows; got none. Use another --set.")
    task = fit_task(task_of_recipe(chosen.task), material)
    model = fit_model(model, "student", material)
    where_to_run = accelerator_for(device).device
    if isinstance(task, SummedTask):
        if predictions is not None:
            raise ArgumentError("--predictions: expected a classifier; got a language model.")
        metrics = summed_metrics(model.to(where_to_run), rows, task, device=where_to_run)
    else:
        outputs, batch = outputs_over(model.to(where_to_run), rows, device=where_to_run)
        metrics = {} if batch.targets is None else task.metrics(outputs, batch)
        if predictions is not None and process_index() == 0:
            write_predictions(predictions, outputs.logits, batch, material.class_names)
    if as_json:
        show.say_json(
            {"folder": str(folder), "data": material.name, "set": part, "rows": len(rows)}
            | {"metrics": metrics, "predictions": predictions and str(predictions)}
        )
        return
    if not metrics:
        show.warnings([f"{material.name}: no row of the {part} rows is labelled; no metrics."])
    show.pairs(f"{folder} on {material.name}, {len(rows)} {part} rows", metrics)
    if predictions is not None:
        show.say(str(predictions))


def _mapping(folder: Path, recipe: str | None, data: str | None) -> tuple[str, dict[str, Any]]:
    """Return where data and task are said, and a recipe's fields with this model as student."""
    from limbeck.checks import ArgumentError
    from limbeck.cli.recipe import read_mapping
    from limbeck.cli.running import RECIPE

    student = {"folder": str(folder)}
    if recipe is not None and data is not None:
        raise ArgumentError("evaluate: expected --recipe or --data; got both. Drop one.")
    if data is not None:
        return "--data", {"data": {"name": data}, "student": student}
    if recipe is None:
        own = [place / RECIPE for place in (folder, folder.absolute().parent)]
        found = next((path for path in own if path.is_file()), None)
        if found is None:
            raise ArgumentError(
                f"{folder}: expected {RECIPE} beside the model to say the data; got none. Give "
                "--recipe FILE or --data NAME."
            )
        recipe = str(found)
    return recipe, read_mapping(recipe) | {"student": student, "teacher": None}
