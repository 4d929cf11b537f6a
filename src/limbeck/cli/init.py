"""``limbeck init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it. Default: standard output.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Which recipe: digits, fashion-mnist, folder, crd/resnet32x4-resnet8x4, ... "
            "(--list shows all).",
            show_default=True,
        ),
    ] = "digits",
    show_list: Annotated[
        bool, typer.Option("--list", help="List the recipes and write none.")
    ] = False,
) -> None:
    """Print a recipe to start from, with remarks."""
    from limbeck.checks import RecipeError
    from limbeck.cli.recipes import listing, text_of
    from limbeck.files import write_text

    if show_list:
        typer.echo(listing(), nl=False)
        return
    text = text_of(recipe)
    if file is None:
        typer.echo(text, nl=False)
        return
    if file.exists():
        raise RecipeError(f"{file}: expected a new file; there is one. Choose another name.")
    write_text(file, text)
    typer.echo(str(file))
