"""``limbeck demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path(
        "runs/demo"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many students of each kind.")] = 5,
) -> None:
    """Distil on the handwritten digits that ship with scikit-learn, and report."""
    from limbeck.cli.demo import run_demo

    run_demo(out, seeds)
