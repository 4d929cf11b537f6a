"""Arguments and options that several subcommands share; nothing here imports torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


EPILOG = (
    "Exit codes: 0 done; 1 a bug; 2 something given is wrong (the message says what, and what to "
    "do); 128 + N stopped by signal N with the state saved (130 Ctrl-C, 143 SIGTERM): the same "
    "command with --resume goes on."
)

RecipePath = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or - for standard input.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY.SUB=VALUE]...",
        help="Changes to the recipe, such as training.epochs=30.",
        show_default=False,
    ),
]
Seed = Annotated[int | None, typer.Option(help="The recipe's `seed`.")]
Seeds = Annotated[
    int, typer.Option(min=1, help="Repeat with so many seeds, from the first one on.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="The recipe's `out`: a new folder. Default: runs/NAME-OF-RECIPE."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start anew although the folder holds a run.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything, estimate time and memory, train and write nothing."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Go on although a check found an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataFolder = Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Call builders outside of limbeck that folders name.")
]
RowsAtATime = Annotated[int, typer.Option(min=1, help="Rows at a time.")]
MODEL_SPEC = "zoo:NAME[,KEY=VALUE]..., module:callable, timm:NAME, hf:FOLDER or a saved folder"


@dataclass(frozen=True)
class Flags:
    """What was asked for beside the recipe."""

    seed: int | None = None
    seeds: int = 1
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    device: str | None = None
    dry_run: bool = False
    force: bool = False
    as_json: bool = False
    teacher: str | None = None


def process_index() -> int:
    """Return this process's number among those of a launcher; 0 without one."""
    return int(os.environ.get("RANK", "0"))
