"""``limbeck demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import AsJson, Seeds


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path(
        "runs/demo"
    ),
    seeds: Seeds = 5,
    as_json: AsJson = False,
) -> None:
    """Distil on the handwritten digits that ship with scikit-learn, and report."""
    from limbeck.cli import show
    from limbeck.cli.demo import run_demo

    found = run_demo(out, seeds, told=not as_json)
    if as_json:
        show.say_json(found.to_dict())
