"""``limbeck init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import AsJson, Overwrite
from limbeck.cli.completing import complete_recipe


def init(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it. Default: standard output.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Which recipe: digits, fashion-mnist, folder, text, crd/resnet32x4-resnet8x4, ... "
            "(--list shows all).",
            show_default=True,
            autocompletion=complete_recipe,
        ),
    ] = "digits",
    show_list: Annotated[
        bool, typer.Option("--list", help="List the recipes and write none.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Print a recipe to start from, with remarks."""
    from limbeck.checks import RecipeError
    from limbeck.cli import show
    from limbeck.cli.recipes import listing, names, text_of
    from limbeck.files import write_text

    if show_list:
        show.say_json({"recipes": names()}) if as_json else typer.echo(listing(), nl=False)
        return
    text = text_of(recipe)
    if file is not None:
        if file.is_dir() or (file.exists() and not overwrite):
            raise RecipeError(
                f"{file}: expected a new file; there is one. Choose another name, or add "
                "--overwrite."
            )
        write_text(file, text)
    if as_json:
        show.say_json({"recipe": recipe, "file": file and str(file), "text": text})
    elif file is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(str(file))
