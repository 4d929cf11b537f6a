"""``limbeck lab``: the theory, predicted and then measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck.cli.arguments import AsJson


if TYPE_CHECKING:
    from limbeck.lab_result import LabResult

EPILOG = (
    "Exit codes: 0 all checks passed; 1 a check failed (or a bug); 2 something given is wrong (the "
    "message says what, and what to do)."
)
RECORD = "lab.json"

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
            help="identities, least_squares, logistic, deep_linear, compressed, mlp, mnist (with "
            "--data), or all: those that need no data, and mnist where --data is given."
        ),
    ] = "all",
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer chains and shorter runs: a minute or so.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for lab.json and a figure of each case.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Name of a data set of grey images, for the case mnist.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where its files lie.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the batches that are drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Check the laws of the distillation weight: predicted against measured.

    Exits with 1 where a check fails.
    """
    from limbeck.cli import show
    from limbeck.files import check_writable
    from limbeck.lab_result import LabSettings
    from limbeck.weighting.lab import cases

    names = _names(case, data)
    images = None
    if data is not None and set(names) & cases.NEEDS_IMAGES:
        images = _images(data, folder)
    if out is not None:
        check_writable(out)
    settings = LabSettings(quick=quick, seed=seed, images=images)
    results = []
    for name in names:
        found = cases.CASES[name](settings)
        if not as_json:
            _print(found)
        results.append(found)
    record = {
        "lab": "variance",
        "quick": quick,
        "seed": seed,
        "data": data,
        "passed": all(found.passed for found in results),
        "results": [found.to_dict() for found in results],
    }
    if as_json:
        show.say_json(record)
    if out is not None:
        written = _write(out, record)
        show.say(f"{out}: {', '.join(written)}", stderr=as_json)
    _leave(results)


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
    from limbeck.zoo.data import load_dataset

    found = load_dataset(data, folder=folder, validation=0.0, augment="none")
    rows = found.train
    batches = list(rows.batches(rows.in_order(4096)))
    pixels = torch.cat(
        [batch.inputs for batch in batches if isinstance(batch.inputs, torch.Tensor)]
    )
    targets = torch.cat([batch.targets for batch in batches if batch.targets is not None])
    if found.channels != 1:
        raise DataError(
            f"lab variance: expected grey images; got {found.channels} channels in {data}. Take "
            "mnist, fashion-mnist or digits."
        )
    return pixels.flatten(1).numpy(), targets.numpy()


def _print(found: LabResult) -> None:
    from limbeck.cli import show

    bound = {"at_most": "<= ", "at_least": ">= "}
    rows = []
    for check in found.checks:
        share = check.kind == "relative"
        within = f"{100 * check.tolerance:.3g} %" if share else f"{check.tolerance:.3g}"
        rows.append(
            (
                check.name,
                f"{check.measured:.6g}",
                f"{bound.get(check.kind, '')}{check.predicted:.6g}",
                within,
                "passed" if check.passed else "FAILED",
            )
        )
    columns = ("", "measured", "predicted", "within", "")
    show.table(f"{found.case}, seed {found.settings['seed']}", columns, rows)
    for remark in found.remarks:
        show.say(remark)
    show.say(f"{found.seconds:.1f} s")


def _write(out: Path, record: dict[str, Any]) -> list[str]:
    """Write figures, then the record, each whole or not at all."""
    import json

    from limbeck.files import write_text
    from limbeck.report.lab import lab_svg

    names = []
    for one in record["results"]:
        name = f"{one['case']}.svg"
        write_text(out / name, lab_svg(one))
        names.append(name)
    write_text(out / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return [RECORD, *names]


def _leave(results: list[LabResult]) -> None:
    """End with 1 and a line that says what failed."""
    from limbeck.cli import show

    failed = [(found, check) for found in results for check in found.failures]
    if failed or not all(found.passed for found in results):
        said = [
            f"{found.case}, {check.name}: measured {check.measured:.6g}, predicted "
            f"{check.predicted:.6g}"
            for found, check in failed
        ]
        said += [f"{found.case}: no checks" for found in results if not found.checks]
        count = f"{len(said)} check{'s' if len(said) > 1 else ''} failed"
        show.say(f"lab variance: {count}: {'; '.join(said)}", stderr=True)
        raise typer.Exit(1)
