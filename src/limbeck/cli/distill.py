"""``limbeck distill``."""

from __future__ import annotations

from typing import Annotated

import typer

from limbeck.cli.arguments import (
    MODEL_SPEC,
    AsJson,
    Device,
    DryRun,
    Flags,
    Force,
    Out,
    Overrides,
    Overwrite,
    RecipePath,
    Resume,
    Seed,
    Seeds,
    Trust,
)
from limbeck.cli.completing import complete_model


def distill(
    recipe: RecipePath,
    overrides: Overrides = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help=f"{MODEL_SPEC}; or one that limbeck cache wrote.",
            autocompletion=complete_model,
        ),
    ] = None,
    seed: Seed = None,
    seeds: Seeds = 1,
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = None,
    dry_run: DryRun = False,
    force: Force = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Train a student with the help of a teacher.

    The recipe says which, on what data, with which loss; ``limbeck init`` prints one.
    """
    from limbeck.cli.running import run_recipe

    flags = Flags(
        seed, seeds, out, resume, overwrite, device, dry_run, force, as_json, teacher, trust
    )
    run_recipe("distill", recipe, overrides or [], flags)
