"""``limbeck report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML file about runs."""
    from limbeck.report.html import write_report

    write_report(runs, out)
    typer.echo(str(out))
