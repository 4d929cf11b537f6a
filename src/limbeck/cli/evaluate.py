"""``limbeck evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import (
    ROWS_OF,
    AsJson,
    DataFolder,
    DataName,
    Device,
    Overrides,
    Part,
    RecipeOfData,
    Tokenizer,
    Trust,
    process_index,
)


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or its student or best.")],
    overrides: Overrides = None,
    recipe: RecipeOfData = None,
    data: DataName = None,
    data_folder: DataFolder = None,
    part: Annotated[Part, typer.Option("--set", help=ROWS_OF)] = "test",
    predictions: Annotated[
        Path | None, typer.Option(help="Write class predictions to this CSV file.")
    ] = None,
    tokenizer: Tokenizer = None,
    trust: Trust = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a saved model on data.

    A run's folder means its last student; FOLDER/best is the best on validation data.
    """
    from limbeck.checks import ArgumentError, DataError
    from limbeck.cli import show
    from limbeck.cli.data_of import data_mapping
    from limbeck.cli.material import material_of
    from limbeck.cli.parts import task_of_recipe
    from limbeck.cli.predictions import write_predictions
    from limbeck.cli.recipe import recipe_of
    from limbeck.cli.specs import TEXT, with_tokenizer
    from limbeck.cli.texts import fit_model, fit_task
    from limbeck.cli.yaml_text import overridden
    from limbeck.training.accelerating import accelerator_for
    from limbeck.training.evaluate import outputs_over
    from limbeck.training.saving import load
    from limbeck.training.summing import SummedTask, summed_metrics

    model = load(folder, trust=trust)
    where, mapping = data_mapping("evaluate", folder, recipe, data, data_folder)
    mapping = overridden(mapping, overrides or [])
    if isinstance(mapping.get("data"), dict):
        mapping["data"] = with_tokenizer(mapping["data"], tokenizer)
    chosen = recipe_of(mapping, where)
    if tokenizer is not None and chosen.data.module != TEXT:
        got = chosen.data.module or chosen.data.name
        raise ArgumentError(
            f"--tokenizer: expected a table of texts as data; got {got}. Drop it, or give --data "
            "TABLE."
        )
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
