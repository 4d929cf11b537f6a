"""Arguments and options that several subcommands share; nothing here imports torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.completing import complete_data, complete_model, complete_value
from limbeck.cli.own_modules import search_here


_EPILOG = (
    "Exit codes: 0 done; 1 a bug; 2 something given is wrong (the message says what, and what to "
    "do); 128 + N stopped by signal N (130 Ctrl-C, 143 SIGTERM)"
)
EPILOG = f"{_EPILOG}: the message says what is saved."
RUN_EPILOG = f"{_EPILOG} with the state saved: the same command with --resume goes on."
CACHE_EPILOG = f"{_EPILOG} with the state saved: the same command goes on."

RecipePath = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or - for standard input.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY.SUB=VALUE]...",
        help="Changes to the recipe, such as training.epochs=30.",
        show_default=False,
        autocompletion=complete_value,
    ),
]
Part = Literal["train", "validation", "test"]
SEED = "Seed of all that is drawn."
Seed = Annotated[int | None, typer.Option(min=0, help=f"{SEED} Default: the recipe's.")]
OwnSeed = Annotated[int, typer.Option(min=0, help=SEED)]
Seeds = Annotated[
    int, typer.Option(min=1, help="Repeat with so many seeds, from the first one on.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="The recipe's `out`: a new folder. Default: runs/NAME-OF-RECIPE."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, say what it would take, write nothing."),
]
Force = Annotated[bool, typer.Option("--force", help="Go on although a check found an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
DATA = "A data set's name, a table of texts, a folder, .npz or module:callable."
DataName = Annotated[str | None, typer.Option(help=DATA, autocompletion=complete_data)]
DataFolder = Annotated[
    Path | None, typer.Option("--folder", help="Where the files of a named data set lie.")
]
RecipeOfData = Annotated[
    str | None,
    typer.Option(
        "--data-of",
        metavar="RECIPE",
        help="The recipe's data and task instead. Default: the run's own recipe.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        callback=search_here,
        help="Call builders outside of limbeck that folders name.",
    ),
]
RowsAtATime = Annotated[int, typer.Option(min=1, help="Rows at a time.")]
TOKENIZER = "Where tokens are strings: a folder of a tokenizer that transformers can load."
Tokenizer = Annotated[str | None, typer.Option(help=TOKENIZER)]
CONFIDENCE = "Of each interval, in (0, 1)."
FORM = "Form of the answers."
LAYERS = "A layer by its dotted name; again for several."
ROWS = "Rows to measure at most."
ROWS_OF = "Which part of the data."
LABELS = "How many labels the teacher has; of a language model, tokens."
TEMPERATURE = "Of the teacher's law: 1 is its own, from which labels are drawn."
TOP = "Keep so many of the largest log-probabilities of an answer."
DRAWS = "Draws of each input."
MODEL_SPEC = "zoo:NAME[,KEY=VALUE]..., module:callable, timm:NAME, hf:FOLDER or a saved folder"
Models = Annotated[
    list[str] | None,
    typer.Option(
        help=f"{MODEL_SPEC}; again for several, which are compared.", autocompletion=complete_model
    ),
]


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
    trust: bool = False


def process_index() -> int:
    """Return this process's number among those of a launcher; 0 without one."""
    return int(os.environ.get("RANK", "0"))
