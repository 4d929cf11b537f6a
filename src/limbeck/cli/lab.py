"""``limbeck lab``: the theory, predicted and then measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import DATA, AsJson, DataFolder, OwnSeed
from limbeck.cli.lab_running import run


EPILOG = (
    "Exit codes: 0 all checks passed; 1 a check failed (or a bug); 2 something given is wrong (the "
    "message says what, and what to do)."
)

CASE = "What is checked:"
QUICK = "Fewer and shorter runs."

lab = typer.Typer(
    no_args_is_help=True,
    help="Check the theory against simulations that can fail.",
    epilog=EPILOG,
)


@lab.callback()
def _lab() -> None:
    """Check the theory against simulations that can fail."""


@lab.command(epilog=EPILOG)
def variance(
    case: Annotated[
        str,
        typer.Option(
            help=f"{CASE} identities, least_squares, logistic, deep_linear, compressed, mlp, "
            "coverage, controllers, mnist (with --data), or all: those that need no data, and "
            "mnist where --data is given."
        ),
    ] = "all",
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK} A minute or so.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for lab.json and a figure of each case.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help=f"{DATA} Of grey images, for the case mnist.")
    ] = None,
    folder: DataFolder = None,
    seed: OwnSeed = 0,
    as_json: AsJson = False,
) -> None:
    """Check the laws of the distillation weight: predicted against measured.

    Exits with 1 where a check fails.
    """
    from limbeck.lab_result import LabSettings
    from limbeck.weighting.lab import cases

    names = _names(case, data)
    images = None
    if data is not None and set(names) & cases.NEEDS_IMAGES:
        images = _images(data, folder)
    settings = LabSettings(quick=quick, seed=seed, images=images)
    head = {"lab": "variance", "quick": quick, "seed": seed, "data": data}
    run({name: cases.CASES[name] for name in names}, settings, head, out=out, as_json=as_json)


@lab.command(epilog=EPILOG)
def limits(
    case: Annotated[
        str,
        typer.Option(
            help=f"{CASE} plateau, slopes, exponents, constants, certificates, zipf, log_linear, "
            "gradients, noisy, censored, planner, continuous, networks, dimension, meters, or all."
        ),
    ] = "all",
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{QUICK} Seconds instead of minutes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for lab.json and a figure of each case.")
    ] = None,
    seed: OwnSeed = 0,
    as_json: AsJson = False,
) -> None:
    """Check how fast students learn from hard labels, sampled probabilities and soft labels.

    Exits with 1 where a check fails.
    """
    from limbeck.checks import check_choice
    from limbeck.lab_result import LabSettings
    from limbeck.limits.lab import cases

    check_choice("lab limits", "--case", case, [*cases.CASES, "all"])
    chosen = cases.CASES if case == "all" else {case: cases.CASES[case]}
    head = {"lab": "limits", "quick": quick, "seed": seed}
    run(chosen, LabSettings(quick=quick, seed=seed), head, out=out, as_json=as_json)


def _names(case: str, data: str | None) -> list[str]:
    from limbeck.checks import ArgumentError, check_choice
    from limbeck.weighting.lab.cases import CASES, NEEDS_IMAGES

    check_choice("lab variance", "--case", case, [*CASES, "all"])
    if case == "all":
        return [name for name in CASES if data is not None or name not in NEEDS_IMAGES]
    if case in NEEDS_IMAGES and data is None:
        raise ArgumentError(
            f"lab variance: expected --data for the case {case}; got none. Give --data mnist "
            "--folder FOLDER, or another data set of grey images."
        )
    if data is not None and case not in NEEDS_IMAGES:
        raise ArgumentError(
            f"lab variance: expected --data for the cases mnist and all only; got {data!r} for "
            f"{case}, which makes its own rows. Leave it out."
        )
    return [case]


def _images(data: str, folder: Path | None) -> tuple[Any, Any]:
    """Load the training part of a data set as rows of pixels in [0, 1] and labels."""
    import torch

    from limbeck.checks import DataError
    from limbeck.cli.material import material_of
    from limbeck.cli.recipe import DataRecipe
    from limbeck.cli.specs import data_spec

    spec = data_spec(data, folder)
    if "name" in spec:
        spec |= {"validation": 0.0, "augment": "none"}
    found = material_of(DataRecipe.model_validate(spec))
    rows = found.train
    batches = list(rows.batches(rows.in_order(4096)))
    pixels = torch.cat(
        [batch.inputs for batch in batches if isinstance(batch.inputs, torch.Tensor)]
    )
    targets = torch.cat([batch.targets for batch in batches if batch.targets is not None])
    if found.channels != 1:
        raise DataError(
            f"lab variance: expected grey images; got {found.channels or 'no'} channels in {data}. "
            "Take mnist, fashion-mnist or digits."
        )
    return pixels.flatten(1).numpy(), targets.numpy()
