"""From the arguments of ``limbeck cache`` to stores, or to what they would take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from torch import nn

from limbeck.checks import ArgumentError, RecipeError, check_choice
from limbeck.cli import show
from limbeck.cli.arguments import process_index
from limbeck.cli.material import material_of
from limbeck.cli.parts import loss_of_recipe, model_of, task_of_recipe
from limbeck.cli.recipe import Recipe, read_mapping, recipe_of
from limbeck.cli.yaml_text import overridden
from limbeck.data import Data
from limbeck.store.group import open_store
from limbeck.store.manifest import MANIFEST
from limbeck.store.verifying import verify
from limbeck.training.cache_plan import CachePlan, plan_cache
from limbeck.training.caching import cache
from limbeck.training.terms import layers_of


PARTS = ("train", "validation", "test")
VIEWS = 8  # as good as a new view each epoch: benchmarks/store_views.py


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    recipe: str
    overrides: list[str]
    out: Path | None
    views: int | None
    keep: str | None
    layers: list[str] | None
    maps: bool
    parts: str
    batch_size: int | None
    precision: str | None
    device: str | None
    settings: dict[str, Any]
    trust: bool = False


def run_cache(wanted: Wanted, *, dry_run: bool, as_json: bool) -> None:
    """Write the stores, or say what they would take.

    Raises:
        LimbeckError: If something asked for is wrong, or a folder holds another store.
    """
    where = "standard input" if wanted.recipe == "-" else wanted.recipe
    recipe = recipe_of(overridden(read_mapping(wanted.recipe), wanted.overrides), where)
    recipe = recipe.trusting() if wanted.trust else recipe
    if recipe.teacher is None:
        raise RecipeError(
            f"{where}: expected `teacher` to name a model; it is null. Name one, such as "
            "teacher.folder=runs/teacher."
        )
    parts = _parts(wanted.parts)
    material = material_of(recipe.data)
    teacher = model_of(recipe.teacher, "teacher", material, recipe.seed)
    out = wanted.out or Path("runs") / f"{_stem(wanted.recipe)}-teacher"
    said: dict[str, Any] = {}
    for part in parts:
        rows = getattr(material, part)
        if rows is None:
            raise ArgumentError(f"--parts: expected rows of {part}; {material.name} has none.")
        folder = out if len(parts) == 1 else out / part
        options = _options(wanted, recipe, rows)
        if dry_run:
            plan = plan_cache(teacher, rows, folder, **options)
            said[part] = plan.to_dict()
            if not as_json:
                _print_plan(plan, part, folder)
        else:
            said[part] = _written(teacher, rows, folder, options)
            if not as_json:
                _print_store(said[part], part, folder)
    if as_json:
        show.say_json({"folder": str(out), "data": material.name, "parts": said})
    elif dry_run:
        show.say("dry run: nothing was written.")


def run_verify(folders: list[str], *, as_json: bool) -> None:
    """Read stores and name what has changed; exit with 2 where something has.

    Raises:
        LimbeckError: If there is no finished store.
    """
    if not folders:
        raise ArgumentError("limbeck cache verify: expected the folder of a store. Name one.")
    found: dict[str, list[str]] = {}
    for folder in map(Path, folders):
        inner = [folder] if (folder / MANIFEST).is_file() else sorted(folder.glob(f"*/{MANIFEST}"))
        if not inner:
            open_store(folder)  # says what is wrong with it
        for place in (path.parent if path.name == MANIFEST else path for path in inner):
            found[str(place)] = [str(fault) for fault in verify(place)]
    if as_json:
        show.say_json({"faults": found})
    else:
        for folder, faults in found.items():
            show.say(f"{folder}: {'every bit is as it was written' if not faults else ''}")
            for fault in faults:
                show.say(f"  {fault}")
    if any(found.values()):
        raise typer.Exit(2)


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        check_choice("--parts", "part", part, PARTS)
    return list(dict.fromkeys(parts))


def _stem(source: str) -> str:
    return "recipe" if source == "-" else Path(source).stem


def _options(wanted: Wanted, recipe: Recipe, rows: Data) -> dict[str, Any]:
    """Return the arguments of ``cache``; what is left open follows the recipe."""
    loss = loss_of_recipe(recipe, task_of_recipe(recipe.task))
    needed = list(layers_of(loss, "teacher"))
    keep = wanted.keep or ("logits+features" if needed or wanted.layers else "logits")
    features = "features" in keep.split("+")
    settings = {name: value for name, value in wanted.settings.items() if value is not None}
    drawn = keep.startswith(("sampled", "hard_labels")) and not wanted.settings["greedy"]
    if rows.augment is not None:
        views = wanted.views or recipe.training.views or VIEWS
    else:  # views of plain rows are alike, but for labels that are drawn anew
        views = (wanted.views or 1) if drawn else 1
    return {
        "views": views,
        "keep": keep,
        "layers": (wanted.layers or needed or None) if features else wanted.layers,
        "maps": wanted.maps,
        "batch_size": wanted.batch_size,
        "precision": wanted.precision or recipe.training.teacher_precision,
        "device": wanted.device or recipe.training.device,
        **({"seed": recipe.seed} if drawn else {}),
        **settings,
    }


def _written(
    teacher: nn.Module, rows: Data, folder: Path, options: dict[str, Any]
) -> dict[str, Any]:
    store = cache(teacher, rows, folder, progress=process_index() == 0, **options)
    return {
        "rows": store.rows,
        "views": store.views,
        "kind": store.kind,
        "privilege": store.privilege,
        "columns": {name: str(column) for name, column in store.columns.items()},
        "bytes": store.manifest.bytes,
        "teacher_seconds": sum(store.manifest.seconds),
    }


def _print_store(said: dict[str, Any], part: str, folder: Path) -> None:
    columns = ", ".join(f"{name} {column}" for name, column in said["columns"].items())
    views = said["views"]
    show.pairs(
        f"{folder} ({part})",
        {
            "rows": f"{said['rows']:,}",
            "views": views,
            "a row": columns,
            "on disk": f"{said['bytes'] / 1e6:,.1f} MB",
            "teacher": f"{said['teacher_seconds']:.1f} s",
        },
    )
    show.say(
        f"It cost {views} epoch{'s' if views > 1 else ''} of the teacher: a run of more than "
        f"{views} epochs is cheaper with it. limbeck distill RECIPE --teacher {folder}"
    )


def _print_plan(plan: CachePlan, part: str, folder: Path) -> None:
    show.pairs(
        f"{folder} ({part})",
        {
            "rows": f"{plan.rows:,}",
            "views": plan.views,
            "a row": ", ".join(f"{name} {column}" for name, column in plan.columns.items()),
            "bytes a row and view": f"{plan.bytes_per_row:,}",
            "on disk": f"{plan.bytes / 1e6:,.1f} MB in {plan.shards} files; free: "
            f"{plan.free / 1e6:,.0f} MB",
            "teacher": f"about {plan.seconds:.1f} s here",
        },
    )
    if plan.kinds:
        show.table(
            f"What each kind keeps, measured on {plan.looked_at} rows (without features)",
            ("kind", "numbers", "bytes", "MB", "TV of a row", "in the mean"),
            [
                (
                    kind.keep,
                    kind.dtype,
                    kind.bytes_per_row,
                    f"{kind.bytes / 1e6:,.1f}",
                    f"{kind.distance:.2g}",
                    kind.in_the_mean,
                )
                for kind in plan.kinds
            ],
        )
        show.say(
            "TV of a row: mean total variation between the teacher's distribution and what one "
            "stored row says alone, from 0 to 1. In the mean: what is left of it when many rows "
            "are averaged; of top_k a loss with a tail knows the mass of all other labels."
        )
