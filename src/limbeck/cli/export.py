"""``limbeck export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from limbeck.cli.arguments import (
    ROWS,
    AsJson,
    DataFolder,
    DataName,
    RecipeOfData,
    Trust,
)


if TYPE_CHECKING:
    from limbeck.data import Data

Format = Literal["onnx", "torch", "safetensors"]


def export(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or its student or best.")],
    format: Annotated[
        Format,
        typer.Option(help="A program that needs no limbeck, or weights that limbeck.load reads."),
    ] = "onnx",
    out: Annotated[Path | None, typer.Option(help="Where it goes. Default: FOLDER/export.")] = None,
    recipe: RecipeOfData = None,
    data: DataName = None,
    data_folder: DataFolder = None,
    rows: Annotated[
        int, typer.Option(min=2, help=f"{ROWS} Program and student are compared on them.")
    ] = 64,
    agreement: Annotated[
        float, typer.Option(help="Least share of rows with the same answer, in [0, 1].")
    ] = 0.9,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Largest difference of logits. Default: 0.001 of the largest logit."),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Write a saved student for use elsewhere, with a model card made of its run's record.

    A program is compared with the student on rows of the run's data; where they do not agree
    nothing is written.
    """
    from limbeck.cli import show
    from limbeck.cli.data_of import data_mapping
    from limbeck.cli.held_out import recipe_beside
    from limbeck.cli.material import material_of
    from limbeck.cli.recipe import recipe_of
    from limbeck.cli.texts import fit_model
    from limbeck.students.export import export as export_program
    from limbeck.students.shipping import card_beside, ship
    from limbeck.training.saving import load

    out = folder / "export" if out is None else out
    chosen = None
    if format != "safetensors" or recipe or data or recipe_beside(folder):
        where, mapping = data_mapping("export", folder, recipe, data, data_folder)
        chosen = recipe_of(mapping, where).data
    name = None if chosen is None else chosen.name or chosen.module
    if chosen is None or format == "safetensors":
        load(folder, trust=trust)  # what cannot be loaded is not given away
        card = ship(folder, out, data_name=name, trust=trust)
        found: dict[str, Any] = {"format": format, "program": None, "card": str(card)}
    else:
        material = material_of(chosen)
        model = fit_model(load(folder, trust=trust), "student", material)
        inputs = _inputs(material.test or material.validation or material.train, rows)
        made = export_program(
            model, inputs, out, format=format, agreement=agreement, tolerance=tolerance
        )
        beside = card_beside(folder, made, data_name=name)
        parity = made.parity
        found = {
            "format": format,
            "program": str(made.program),
            "packed": made.packed and str(made.packed),
            "card": beside and str(beside),
            "rows": parity.rows,
            "largest difference of logits": parity.max_difference,
            "allowed": parity.allowed,
            "same answer": parity.same_answer,
        }
    found = {"folder": str(out)} | found
    if as_json:
        show.say_json(found)
        return
    show.pairs(f"{folder} as {format}", {k: v for k, v in found.items() if v is not None})


def _inputs(data: Data, rows: int) -> Any:
    """Return the first rows, without augmentation."""
    plan = data.viewed(None).in_order(min(rows, len(data)))[:1]
    return next(iter(data.viewed(None).batches(plan))).inputs
