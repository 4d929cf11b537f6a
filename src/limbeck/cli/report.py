"""``limbeck report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import AsJson


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    control: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The group to compare with. Default: the one called control, or else the only "
            "one trained without a teacher.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the figures here too, as PNG and PDF."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the numbers here too, a CSV file a table."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML file about runs.

    Give the folder of a run, or of several: groups of seeds in them are told apart and compared.
    """
    from limbeck.cli import show
    from limbeck.report import export, read_study, write_study

    study = read_study(runs, control=control)
    written = [write_study(study, out)]
    if figures is not None:
        written += export.write_figures(study, figures)
    if csv is not None:
        written += export.write_tables(study, csv)
    if as_json:
        show.say_json(export.comparison_dict(study) | {"written": [str(path) for path in written]})
        return
    for path in written:
        show.say(str(path))
