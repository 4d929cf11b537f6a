"""``limbeck info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import AsJson, DataFolder


def info(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|MODEL|DATASET]", help="A folder, zoo:NAME, binary:NAME or a data set."
        ),
    ] = None,
    folder: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show what there is: this installation, a run, a model or a data set."""
    from limbeck.cli import show

    title, tables = _found(what, folder)
    if as_json:
        show.say_json(tables)
        return
    show.say(title)
    for name, values in tables.items():
        if isinstance(values, list):
            show.warnings(values) if name == "warnings" else show.say(
                f"{name}: {', '.join(values)}"
            )
        else:
            show.pairs(name, values)


def _found(what: str | None, folder: Path | None) -> tuple[str, dict[str, Any]]:
    from limbeck.checks import ArgumentError, nearest
    from limbeck.cli import facts
    from limbeck.cli.names import DATA_SETS

    if what is None:
        return "limbeck", facts.of_installation()
    if ":" in what:
        return what, facts.of_model_by_name(what)
    if Path(what).is_dir() and (known := facts.of_folder(Path(what))) is not None:
        return what, known
    if what in DATA_SETS:
        return what, facts.of_data_set(what, folder)
    raise ArgumentError(
        f"info: expected the folder of a run or a model, zoo:NAME, binary:NAME, or a data set "
        f"({', '.join(DATA_SETS)}); got {what!r}.{nearest(what, DATA_SETS)}"
    )
