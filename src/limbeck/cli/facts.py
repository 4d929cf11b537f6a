"""What ``limbeck info`` shows, as tables of names and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from limbeck.checks import ModelError
from limbeck.cli.material import material_of
from limbeck.cli.names import DATA_SETS
from limbeck.cli.recipe import DataRecipe
from limbeck.losses import LOSSES
from limbeck.record import FILE_NAME, RunRecord, hardware, versions
from limbeck.students import BINARY_NETWORKS, CONVERSIONS
from limbeck.training.building import build, is_trusted
from limbeck.training.saving import DESCRIPTION, WEIGHTS, describe, sizes_of


def of_installation() -> dict[str, Any]:
    """Return versions and hardware, and the names of losses, networks and data sets."""
    from limbeck.zoo.networks import NETWORKS

    return {
        "versions": versions(),
        "hardware": hardware(),
        "losses": list(LOSSES),
        "networks (zoo:NAME)": list(NETWORKS),
        "binary networks (binary:NAME)": list(BINARY_NETWORKS),
        "conversions": list(CONVERSIONS),
        "data sets": list(DATA_SETS),
        "texts (data.module)": ["limbeck.zoo.text:load_text", "limbeck.zoo.tokens:load_tokens"],
    }


def of_folder(folder: Path) -> dict[str, Any] | None:
    """Return a run's record or a saved model's description; None where there is neither."""
    if (folder / FILE_NAME).is_file():
        found, student = of_run(RunRecord.open(folder)), folder / "student"
        whole = (student / DESCRIPTION).is_file() and (student / WEIGHTS).is_file()
        packed = _packed(describe(student)) if whole else {}
        return {"warnings": found.pop("warnings"), "run": found.pop("run"), **packed, **found}
    if (folder / DESCRIPTION).is_file():
        found = describe(folder)
        packed = _packed(found)
        model = {name: value for name, value in found.items() if value is not None}
        return {"model": model, **packed}
    return None


def _packed(description: dict[str, Any]) -> dict[str, Any]:
    """Take what a description says of packed layers out of it, as a table of its own."""
    sizes = description.pop("sizes", None)
    steps = (description.get("source") or {}).get("convert", [])
    named = {"converted to": ", ".join(str(step.get("name")) for step in steps)} if steps else {}
    return {"packed layers": named | sizes} if sizes else {}


def of_run(record: RunRecord) -> dict[str, Any]:
    """Return a record's parts, results as one line each."""
    results = {
        f"{moment} {part} {metric}": value
        for moment, sets in record.results.items()
        for part, metrics in sets.items()
        for metric, value in metrics.items()
    }
    last = {
        name: next((value for value in reversed(curve) if value is not None), None)
        for name, curve in record.curves.items()
    }
    run = {name: getattr(record, name) for name in ("kind", "status", "seed", "command", "started")}
    return {
        "warnings": record.warnings,
        "run": run,
        "results": results,
        "teacher": record.teacher,
        "last value of each curve": last,
        "time": record.time,
        "data": record.data,
        "settings": record.settings,
        "versions": record.versions,
        "hardware": record.hardware,
    }


def of_model_by_name(name: str) -> dict[str, Any]:
    """Return the size and the stages of a network, built with its defaults.

    Raises:
        ModelError: If it is not one of the zoo's or cannot be built.
    """
    if not is_trusted(name):
        raise ModelError(
            f"{name}: expected zoo:NAME, binary:NAME, timm:NAME or hf:FOLDER. Correct it."
        )
    model = build(name)
    source: dict[str, Any] = getattr(model, "limbeck_source", {})
    return {
        "model": {
            "parameters": sum(part.numel() for part in model.parameters()),
            "megabytes in fp32": sum(4 * part.numel() for part in model.parameters()) / 1e6,
            **source.get("kwargs", {}),
        },
        **_packed({"sizes": sizes_of(model)}),
        "parameters by layer": {
            layer: sum(part.numel() for part in module.parameters())
            for layer, module in _children(model).items()
        },
    }


def of_data_set(name: str, folder: Path | None) -> dict[str, Any]:
    """Return rows and classes of a data set.

    Raises:
        LimbeckError: If its files are missing or damaged.
    """
    found = material_of(DataRecipe.model_validate({"name": name, "folder": folder}))
    parts = {"train": found.train, "validation": found.validation, "test": found.test}
    return {
        "data": {
            **{f"{part} rows": len(rows) for part, rows in parts.items() if rows is not None},
            "augment": "none" if found.train.augment is None else str(found.train.augment),
            "classes": found.classes,
            "class names": ", ".join((found.class_names or [])[:20]),
            "channels": found.channels,
            "pixels": found.pixels,
        }
    }


def _children(model: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in model.named_children() if list(part.parameters())}
