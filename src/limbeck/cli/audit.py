"""``limbeck audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import CONFIDENCE, LABELS, AsJson


EPILOG = (
    "Exit codes: 0 nothing serious found; 1 a serious fault (or a bug); 2 something given is wrong "
    "(the message says what, and what to do)."
)


def audit(
    records: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Teacher records, one JSON object a line (.gz is unpacked); or a store.",
        ),
    ],
    labels: Annotated[
        int | None,
        typer.Option(min=1, help=f"{LABELS} Default: as many as rows have."),
    ] = None,
    confidence: Annotated[float, typer.Option(help=CONFIDENCE)] = 0.95,
    out: Annotated[Path | None, typer.Option(help="Folder for audit.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Name what is wrong with a distillation set, and the bias that follows on this set.

    Exits with 1 where a fault is serious: what is learned is not the teacher.
    """
    from limbeck.cli.auditing import run_audit

    if not run_audit(records, labels, confidence, out, as_json=as_json):
        raise typer.Exit(1)
