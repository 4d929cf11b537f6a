"""``limbeck weigh``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import ROWS, AsJson, Device, Overrides, Seed, Trust


Gradients = Literal["auto", "per_sample", "gram", "groups", "probes", "last_layer"]
HeldOut = Literal["validation", "none"]


def weigh(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", help="A recipe, or the folder of a run made by one."),
    ],
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option(min=8, help=f"{ROWS} As many held-out ones beside.")] = 512,
    gradients: Annotated[
        Gradients, typer.Option(help="How gradients of single rows are taken.")
    ] = "auto",
    no_curvature: Annotated[
        bool,
        typer.Option("--no-curvature", help="Leave out the plateau of the loss: sooner done."),
    ] = False,
    held_out: Annotated[
        HeldOut, typer.Option(help="Rows for the teacher's bias on unseen data.")
    ] = "validation",
    out: Annotated[Path | None, typer.Option(help="Folder for weights.json and figures.")] = None,
    seed: Seed = None,
    device: Device = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure how much distillation a student can use: noise removed against bias added.

    A recipe's student is as training begins with it, far from the plateau that the advice is about;
    the student of a run's folder is the trained one. Nothing is trained.
    """
    from limbeck.cli.weighing import Wanted, run_weigh

    wanted = Wanted(
        recipe=recipe,
        overrides=overrides or [],
        rows=rows,
        method=gradients,
        curvature=not no_curvature,
        held_out=held_out == "validation",
        seed=seed,
        device=device,
        trust=trust,
    )
    run_weigh(wanted, out, as_json=as_json)
