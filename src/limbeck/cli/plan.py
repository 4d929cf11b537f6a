"""``limbeck plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import CONFIDENCE, DRAWS, LABELS, TOP, AsJson


def plan(
    error: Annotated[
        float,
        typer.Option(help="Target: total variation from the teacher, mean over inputs, in (0, 1)."),
    ],
    inputs: Annotated[int | None, typer.Option(help="How many different inputs.")] = None,
    labels: Annotated[int | None, typer.Option(min=1, help=LABELS)] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help=f"{CONFIDENCE} Default: enough in the mean."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRIVILEGE=PRICE",
            help="Of a query: hard_labels=1, sampled_probabilities=2, soft_labels=50. Repeatable.",
        ),
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(
            help="Errors measured at 3 or 4 sizes (.csv: privilege, queries, error), or teacher "
            "records (.jsonl). The only way for language models."
        ),
    ] = None,
    exponent: Annotated[
        str | None,
        typer.Option(help="Of measured errors: theory (the default), free, or a number."),
    ] = None,
    language_model: Annotated[
        bool, typer.Option("--language-model", help="Inputs are texts: only a pilot is believed.")
    ] = False,
    law: Annotated[
        Path | None,
        typer.Option(help="A known law: .npz with input_law [S] and rows [S, A]."),
    ] = None,
    parameters: Annotated[
        int | None, typer.Option(help="Free parameters of a student that can equal its teacher.")
    ] = None,
    floor: Annotated[
        float | None, typer.Option(help="Error of the best student with --parameters.")
    ] = None,
    effective_labels: Annotated[
        float | None, typer.Option(help="Of a pilot, for --parameters.")
    ] = None,
    lipschitz: Annotated[
        float | None,
        typer.Option(help="Change of a row per distance of inputs, in a unit cube."),
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="Of that cube.")] = None,
    draws: Annotated[
        int | None, typer.Option(help=f"{DRAWS} Labels, where you hold the weights.")
    ] = None,
    unique: Annotated[
        float | None, typer.Option(help="Mean number of different ones among them, for the disk.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=0, help=TOP)] = None,
    tail_mass: Annotated[
        float | None, typer.Option(help="Mean probability outside of the --top labels.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Tokens of a response: the error is of whole responses.")
    ] = None,
    value_bytes: Annotated[int, typer.Option(help="Of a stored log-probability.")] = 2,
    record_bytes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRIVILEGE=BYTES", help="Of a stored answer, if not limbeck's. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Plan teacher queries: how many of which kind reach an error, their cost and their disk.

    In the worst case over --inputs and --labels, or by something nearer: --pilot, --law,
    --parameters, or --lipschitz with --dimension. Below each table stands what its numbers rest on.
    """
    from limbeck.cli.planning import Wanted, run_plan

    wanted = Wanted(
        prices=price or [],
        record_bytes=record_bytes or [],
        law=law,
        exponent=exponent,
        options={
            "error": error,
            "inputs": inputs,
            "labels": labels,
            "confidence": confidence,
            "pilot": pilot,
            "language_model": language_model,
            "parameters": parameters,
            "floor": floor,
            "effective_labels": effective_labels,
            "lipschitz": lipschitz,
            "dimension": dimension,
            "draws": draws,
            "unique": unique,
            "top": top,
            "tail_mass": tail_mass,
            "horizon": horizon,
            "value_bytes": value_bytes,
        },
    )
    run_plan(wanted, as_json=as_json)
