"""Where the data of a saved model are said: a recipe, a data set's name, or beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError
from limbeck.cli.held_out import recipe_beside
from limbeck.cli.recipe import read_mapping
from limbeck.cli.running import RECIPE
from limbeck.cli.specs import data_spec


def data_mapping(
    command: str,
    folder: Path,
    recipe: str | None,
    data: str | None,
    data_folder: Path | None,
) -> tuple[str, dict[str, Any]]:
    """Return where data and task are said, and a recipe's fields with this model as student.

    Args:
        command: Who asks, for messages.
        folder: A run's folder, or its student or best.
        recipe: A recipe's file, of which data and task are taken.
        data: What --data says.
        data_folder: Where the files of a named data set lie.

    Raises:
        ArgumentError: If both are given, or neither and no recipe lies beside the model.
    """
    student = {"folder": str(folder)}
    if recipe is not None and data is not None:
        raise ArgumentError(f"{command}: expected --data-of or --data; got both. Drop one.")
    if data is not None:
        return "--data", {"data": data_spec(data, data_folder), "student": student}
    if recipe is None:
        found = recipe_beside(folder)
        if found is None:
            raise ArgumentError(
                f"{folder}: expected {RECIPE} beside the model to say the data; got none. Give "
                "--data-of RECIPE or --data NAME."
            )
        recipe = str(found)
    return recipe, read_mapping(recipe) | {"student": student, "teacher": None}
