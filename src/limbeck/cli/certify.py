"""``limbeck certify``."""

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
    Trust,
)


Part = Literal["test", "validation", "train"]
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
    recipe: Annotated[
        str | None,
        typer.Option(help="Where the data stand that indices point into. Default: the run's own."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A data set's name, folder or file instead.")] = (
        None
    ),
    folder: DataFolder = None,
    part: Annotated[Part, typer.Option("--set", help="The rows that indices point into.")] = "test",
    against: Annotated[
        str | None,
        typer.Option(help="Another student: say which is nearer. Labels alone are enough."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of each interval alone.")] = 0.95,
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
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of a tokenizer, for records with strings.")
    ] = None,
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
        tokenizer=tokenizer,
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
