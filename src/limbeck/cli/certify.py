"""``limbeck certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import (
    CONFIDENCE,
    MODEL_SPEC,
    ROWS_OF,
    AsJson,
    DataFolder,
    DataName,
    Device,
    Overrides,
    Part,
    RecipeOfData,
    RowsAtATime,
    Tokenizer,
    Trust,
)


Interval = Literal["betting", "empirical_bernstein", "hoeffding"]
Units = Literal["auto", "record", "input", "sequence"]


def certify(
    student: Annotated[
        str, typer.Argument(metavar="RUN|STUDENT", help=f"A run's folder, or {MODEL_SPEC}.")
    ],
    overrides: Overrides = None,
    records: Annotated[
        str, typer.Option(help="The teacher's answers, one JSON object a line; held out.")
    ] = "",
    recipe: RecipeOfData = None,
    data: DataName = None,
    folder: DataFolder = None,
    part: Annotated[
        Part, typer.Option("--set", help=f"{ROWS_OF} Indices of records point into it.")
    ] = "test",
    against: Annotated[
        str | None,
        typer.Option(help="Another student: say which is nearer. Labels alone are enough."),
    ] = None,
    confidence: Annotated[float, typer.Option(help=CONFIDENCE)] = 0.95,
    interval: Annotated[Interval, typer.Option(help="For total variation.")] = "betting",
    units: Annotated[Units, typer.Option(help="What is independent of each other.")] = "auto",
    longest: Annotated[
        int | None, typer.Option(min=1, help="Most records that a sequence can have.")
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option(help="Records the student was trained on: their inputs are out.")
    ] = None,
    built_from: Annotated[
        Path | None, typer.Option(help="Records it was built from: adds what they do not cover.")
    ] = None,
    deployment: Annotated[
        Path | None,
        typer.Option(help="Inputs it will meet, one JSON value a line: adds a shift check."),
    ] = None,
    tokenizer: Tokenizer = None,
    batch_size: RowsAtATime = 256,
    out: Annotated[Path | None, typer.Option(help="Folder for certificate.json.")] = None,
    trust: Trust = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Certify how far a student is from its teacher, from held-out answers of the teacher.

    Total variation comes with an interval that holds at any number of records, KL with an
    approximate one. The teacher is not needed: its log-probability of each drawn label is enough.
    """
    from limbeck.cli.certifying import Wanted, run_certify

    wanted = Wanted(
        student=student,
        overrides=overrides or [],
        records=records,
        recipe=recipe,
        data=data,
        folder=folder,
        part=part,
        against=against,
        trained_on=trained_on,
        built_from=built_from,
        deployment=deployment,
        tokenizer=None if tokenizer is None else Path(tokenizer),
        trust=trust,
        options={
            "confidence": confidence,
            "interval": interval,
            "units": units,
            "longest": longest,
            "batch_size": batch_size,
            "device": device,
        },
    )
    run_certify(wanted, out, as_json=as_json)
