"""``limbeck import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import FORM, LABELS, TEMPERATURE, TOKENIZER, TOP, AsJson, Overwrite


Form = Literal["auto", "chat", "completion", "batch", "columns", "records"]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help=f"{TOKENIZER} Or a JSON file that maps strings to ids (whole answers to labels, too)."
    ),
]
Labels = Annotated[int | None, typer.Option(min=1, help=f"{LABELS} Lists of all become rows.")]
Top = Annotated[int | None, typer.Option(min=0, help=TOP)]


def import_records(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Answers as JSON lines (.gz is unpacked), or a data set as .parquet, a folder of "
            "it or JSON lines.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File of the records; .gz packs it.")],
    form: Annotated[Form, typer.Option(help=FORM)] = "auto",
    tokenizer: Tokenizer = None,
    requests: Annotated[
        Path | None, typer.Option(help="The batch's requests, for prompts by custom_id.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=COLUMN,...",
            help="Names of columns, such as input=input_ids,top_labels=ids,"
            "top_log_probabilities=logs,aligned=next.",
        ),
    ] = None,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Records of the prompt's scored tokens, too.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help=f"{TEMPERATURE} Default: the request's, else 1.")
    ] = None,
    teacher_name: Annotated[
        str | None, typer.Option(help="Of the records. Default: the answer's model.")
    ] = None,
    labels: Labels = None,
    top: Top = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Turn answers or data sets of other tools into teacher records.

    Reads OpenAI's and vLLM's answers (chat, completion and batch forms) and columns of
    log-probabilities; what cannot be used is named with its line.
    """
    from limbeck.cli.collecting import run_import

    run_import(
        source,
        out,
        {
            "form": form,
            "tokenizer": tokenizer,
            "requests": requests,
            "prompt": prompt,
            "temperature": temperature,
            "teacher": teacher_name,
            "labels": labels,
            "top": top,
        },
        columns,
        overwrite=overwrite,
        as_json=as_json,
    )
