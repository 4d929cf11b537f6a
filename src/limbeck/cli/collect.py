"""``limbeck collect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limbeck.cli.arguments import DRAWS, FORM, SEED, TEMPERATURE, AsJson
from limbeck.cli.import_records import Labels, Tokenizer, Top


EPILOG = (
    "The endpoint is OPENAI_BASE_URL (OpenAI's by default), its key OPENAI_API_KEY; the key is "
    "never printed or written. Exit codes: 0 done; 1 some prompts have no answer (or a bug); 2 "
    "something given is wrong or the endpoint is gone; 130 stopped by Ctrl-C. In each case the "
    "same command goes on and asks nothing twice."
)
Model = Annotated[str, typer.Option(help="Name of the model.")]
Form = Annotated[Literal["chat", "completion"], typer.Option(help=FORM)]
BaseUrl = Annotated[str | None, typer.Option(help="Address up to /v1. Default: OPENAI_BASE_URL.")]
KeyName = Annotated[
    str, typer.Option(metavar="NAME", help="Environment variable that holds the key.")
]
Rate = Annotated[float | None, typer.Option(help="Requests a minute at most, retries included.")]
Retries = Annotated[int, typer.Option(min=0, help="After 429, 5xx and broken connections.")]
Timeout = Annotated[float, typer.Option(help="Seconds for an answer.")]
Extra = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='Further fields of each request, such as {"top_p": 1}.'),
]


def collect(
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS",
            help='Text with a prompt a line, or JSON lines (.jsonl) with "prompt" or "messages".',
        ),
    ],
    model: Model,
    out: Annotated[
        Path,
        typer.Option(help="File of the records; answers as they came stay in FILE.answers.jsonl."),
    ],
    form: Form = "chat",
    max_tokens: Annotated[int, typer.Option(help="Of an answer, at most.")] = 16,
    temperature: Annotated[float, typer.Option(help=TEMPERATURE)] = 1.0,
    top_logprobs: Annotated[
        int, typer.Option(help="Largest log-probabilities beside the drawn one's; -1: none at all.")
    ] = 0,
    draws: Annotated[int, typer.Option(help=DRAWS)] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help=f"{SEED} Each draw gets one of its own.")
    ] = None,
    token_ids: Annotated[
        bool, typer.Option("--token-ids", help="Ask for token ids (vLLM and servers like it).")
    ] = False,
    tokenizer: Tokenizer = None,
    labels: Labels = None,
    top: Top = None,
    extra: Extra = None,
    base_url: BaseUrl = None,
    key_name: KeyName = "OPENAI_API_KEY",
    rate: Rate = None,
    concurrency: Annotated[int, typer.Option(help="Requests under way at most.")] = 4,
    retries: Retries = 5,
    timeout: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask an OpenAI-compatible endpoint, and keep its answers as teacher records."""
    from limbeck.cli.collecting import run_collect

    complete = run_collect(
        prompts,
        out,
        {
            "model": model,
            "form": form,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_logprobs": None if top_logprobs == -1 else top_logprobs,
            "draws": draws,
            "seed": seed,
            "token_ids": token_ids,
            "tokenizer": tokenizer,
            "labels": labels,
            "top": top,
            "base_url": base_url,
            "rate": rate,
            "concurrency": concurrency,
            "retries": retries,
            "timeout": timeout,
        },
        extra=extra,
        key_name=key_name,
        as_json=as_json,
    )
    if not complete:
        raise typer.Exit(1)
