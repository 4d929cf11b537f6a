"""``limbeck measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import (
    LAYERS,
    ROWS,
    ROWS_OF,
    AsJson,
    DataFolder,
    DataName,
    Device,
    Models,
    Overrides,
    Part,
    RowsAtATime,
    Seed,
    Tokenizer,
    Trust,
)


Method = Literal["hull", "cells", "kmeans", "gaussian"]


def measure(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|RUN]", help="A recipe, or the folder of a run made by one."
        ),
    ] = None,
    overrides: Overrides = None,
    teacher: Models = None,
    student: Models = None,
    data: DataName = None,
    folder: DataFolder = None,
    tokenizer: Tokenizer = None,
    part: Annotated[
        Part | None,
        typer.Option(
            "--set",
            help=f"{ROWS_OF} Default: validation, or test where weights may know those.",
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help=f"{LAYERS} teacher=NAME,student=NAME where they differ."),
    ] = None,
    method: Annotated[Method, typer.Option(help="How the bits are estimated.")] = "hull",
    symbols: Annotated[
        int | None, typer.Option(min=2, help="Number of symbols, for cells and kmeans.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help=f"{ROWS} Default: all.")] = None,
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
        tokenizer=None if tokenizer is None else Path(tokenizer),
        split=part,
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
