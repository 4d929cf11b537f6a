"""Which rows neither network was trained on, as far as can be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.checks import DataError, LimbeckError
from limbeck.cli.material import Material
from limbeck.cli.recipe import DataRecipe, ModelRecipe, read_recipe
from limbeck.cli.running import RECIPE
from limbeck.data import Data


@dataclass(frozen=True)
class HeldOut:
    """The rows to measure on.

    Attributes:
        rows: The rows.
        part: "validation", "test" or "train".
        remarks: Why this part, and what may be wrong with it.
        seen: Whether a network was trained on them, as far as is known.
    """

    rows: Data
    part: str
    remarks: tuple[str, ...]
    seen: bool


def held_out(
    material: Material, data: DataRecipe, models: Sequence[ModelRecipe], wanted: str | None
) -> HeldOut:
    """Choose rows: validation, or test where a network may have been trained on validation rows.

    Nobody can tell which rows weights from elsewhere were trained on; a folder of a limbeck run
    says so in its recipe.

    Raises:
        DataError: If there are no such rows.
    """
    parts = {"validation": material.validation, "test": material.test, "train": material.train}
    unknown = [name_of(model) for model in models if not is_known(model, data)]
    named = ", ".join(dict.fromkeys(unknown))
    remarks = []
    if wanted is None:
        order = ("test", "validation") if unknown else ("validation", "test")
        wanted = next((part for part in order if parts[part] is not None), "test")
        if unknown and wanted == "test":
            remarks.append(f"test rows: {named} may have been trained on validation rows")
        elif unknown:
            remarks.append(f"validation rows, for want of test rows: {named} may have seen them")
    elif wanted == "validation" and unknown:
        remarks.append(
            f"{named} may have been trained on these validation rows: what it memorised would look "
            "like knowledge. --set test is safer"
        )
    rows = parts[wanted]
    if rows is None:
        there = ", ".join(part for part, found in parts.items() if found is not None)
        raise DataError(
            f"{material.name}: expected {wanted} rows; got none. Use another --set: {there}."
        )
    return HeldOut(rows, wanted, tuple(remarks), wanted == "train")


def is_known(model: ModelRecipe, data: DataRecipe) -> bool:
    """Say whether a model is untrained, or was trained by a recipe that parts the data alike."""
    if model.folder is None:
        return model.weights is None and str(model.model).startswith("zoo:")
    own = recipe_beside(model.folder)
    if own is None:
        return False
    try:
        theirs = read_recipe(str(own)).data
    except LimbeckError:
        return False
    fields = ("name", "module", "options", "validation", "split_seed")
    return all(getattr(theirs, field) == getattr(data, field) for field in fields)


def recipe_beside(folder: Path) -> Path | None:
    """Return the recipe in a run's folder, or in that above a student's."""
    places = (folder / RECIPE, folder.absolute().parent / RECIPE)
    return next((path for path in places if path.is_file()), None)


def name_of(model: ModelRecipe) -> str:
    """Return a model's name for tables: its folder, or what it is built by."""
    if model.folder is not None:
        return str(model.folder)
    return str(model.model).partition(":")[2] or str(model.model)
