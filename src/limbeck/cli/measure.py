"""``limbeck measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import (
    MODEL_SPEC,
    AsJson,
    DataFolder,
    Device,
    Overrides,
    RowsAtATime,
    Seed,
    Trust,
)


Split = Literal["validation", "test", "train"]
Method = Literal["hull", "cells", "kmeans", "gaussian"]


def measure(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|RUN]", help="A recipe, or the folder of a run made by one."
        ),
    ] = None,
    overrides: Overrides = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help=f"{MODEL_SPEC}; again for several, which are ranked.")
    ] = None,
    student: Annotated[
        list[str] | None, typer.Option(help="The same; several make a trajectory.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A data set's name, a table of texts, a folder, .npz.")
    ] = None,
    folder: DataFolder = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer for texts. Default: the model's.")
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="The rows. Default: validation, or test where weights may know those."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="NAME or teacher=NAME,student=NAME; again for a map of layers."),
    ] = None,
    method: Annotated[Method, typer.Option(help="How the bits are estimated.")] = "hull",
    symbols: Annotated[
        int | None, typer.Option(min=2, help="Number of symbols, for cells and kmeans.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Use so many rows at most.")] = None,
    batch_size: RowsAtATime = 256,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for measurement.json and figures.")
    ] = None,
    trust: Trust = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a teacher knows about the targets that a student lacks, in bits.

    From a recipe (its student is then untrained, unless it names a folder), a run's folder, or
    --teacher, --student and --data alone.
    """
    from limbeck.cli.measuring import Wanted, run_measure

    wanted = Wanted(
        recipe=recipe,
        overrides=overrides or [],
        teachers=teacher or [],
        students=student or [],
        data=data,
        folder=folder,
        tokenizer=tokenizer,
        split=split,
        layers=layers or [],
        seed=seed,
        trust=trust,
        options={
            "method": method,
            "n_symbols": symbols,
            "max_rows": rows,
            "batch_size": batch_size,
            "device": device,
        },
    )
    run_measure(wanted, out, as_json=as_json)
