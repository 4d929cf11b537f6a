"""``limbeck probe``."""

from __future__ import annotations

from typing import Annotated

import typer

from limbeck.cli.arguments import DRAWS, AsJson
from limbeck.cli.collect import BaseUrl, Extra, Form, KeyName, Model, Rate, Retries, Timeout


EPILOG = (
    "The endpoint is OPENAI_BASE_URL (OpenAI's by default), its key OPENAI_API_KEY; the key is "
    "never printed. Exit codes: 0 done; 1 a bug; 2 something given is wrong, or the endpoint "
    "doesn't answer."
)


def probe(
    model: Model,
    form: Form = "chat",
    prompt: Annotated[
        str | None,
        typer.Option("--ask", help="What is asked; its next token should not be certain."),
    ] = None,
    draws: Annotated[int, typer.Option(help=f"{DRAWS} At least 2.")] = 32,
    largest: Annotated[int, typer.Option(help="Where the search for the cap ends.")] = 2**17,
    extra: Extra = None,
    base_url: BaseUrl = None,
    key_name: KeyName = "OPENAI_API_KEY",
    rate: Rate = None,
    retries: Retries = 5,
    timeout: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Find out what an endpoint really gives: log-probabilities, how many, of which law.

    Takes about 60 requests of a few tokens.
    """
    from limbeck.cli.collecting import run_probe

    settings = {
        "form": form,
        "draws": draws,
        "largest": largest,
        "base_url": base_url,
        "rate": rate,
        "retries": retries,
        "timeout": timeout,
    }
    if prompt is not None:
        settings["prompt"] = prompt
    run_probe(model, settings, extra=extra, key_name=key_name, as_json=as_json)
