"""``limbeck cache``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import (
    DRAWS,
    LAYERS,
    TEMPERATURE,
    AsJson,
    Device,
    DryRun,
    Overrides,
    Trust,
)


Dtype = Literal["fp32", "fp16", "bf16"]


def cache(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A YAML file, or - for standard input; or `verify`."),
    ],
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The store's folder. Default: runs/NAME-OF-RECIPE-teacher."),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            min=1, help="Augmented views of each row. Default: training.views of the recipe, or 8."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="logits, top_k, sampled_counts, sampled_probability or hard_labels, alone or with "
            "+features; or features. Default: what the recipe's loss takes, and logits."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help=f"{LAYERS} Their features are kept."),
    ] = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Keep maps whole, not their mean over positions.")
    ] = False,
    dtype: Annotated[Dtype, typer.Option(help="Of numbers on disk.")] = "fp32",
    k: Annotated[int | None, typer.Option(min=1, help="Labels that top_k keeps: 50.")] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help=f"{DRAWS} Of sampled_counts: 50.")
    ] = None,
    temperature: Annotated[float, typer.Option(help=TEMPERATURE)] = 1.0,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Of hard_labels: the likeliest, not a drawn one.")
    ] = False,
    parts: Annotated[
        str,
        typer.Option(help="train, or several of train,validation,test, each in a folder in `out`."),
    ] = "train",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows at a time. Default: 256.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None, typer.Option(help="Of the teacher's weights.")
    ] = None,
    device: Device = None,
    trust: Trust = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run the recipe's teacher once over its rows and keep what it says on disk.

    The same command goes on where it was stopped, and does nothing where all is there. Then
    `limbeck distill RECIPE --teacher FOLDER` trains without running the teacher.

    `limbeck cache verify FOLDER` reads a store and names the files whose bits have changed.
    """
    from limbeck.cli.caching import Wanted, run_cache, run_verify

    if recipe == "verify":
        run_verify(overrides or [], as_json=as_json)
        return
    settings = {
        "dtype": dtype, "k": k, "draws": draws, "temperature": temperature, "greedy": greedy,
    }  # fmt: skip
    wanted = Wanted(
        recipe, overrides or [], out, views, keep, layers, maps, parts, batch_size, precision,
        device, settings, trust,
    )  # fmt: skip
    run_cache(wanted, dry_run=dry_run, as_json=as_json)
