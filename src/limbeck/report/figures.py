"""The curves of a report, each with its data behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.report import sentences
from limbeck.report.curves import (
    Band,
    Curve,
    bands_of,
    curve_picture,
    panels_picture,
    renamed,
)
from limbeck.report.reading import Study


MOST = 400  # epochs of a curve that are shown; --csv has all
SEVERAL = "Lines are means over seeds, bands reach from the lowest to the highest seed."


def section(
    study: Study, metric: str, titles: Mapping[str, str], colours: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the figures for the template: validation metric, losses and learning rate.

    Args:
        study: Whose students are drawn.
        metric: Which is followed.
        titles: Of the groups.
        colours: Numbers of the page's colours, by name.
    """
    students = study.students
    percent = sentences.is_percent(metric)
    wanted = [
        (f"validation {metric}", f"Validation {sentences.what(metric)}", "%" if percent else ""),
        ("loss task", "Task loss on the training rows", "nats"),
        ("loss distillation", "Distillation loss, each method on its own scale", "nats"),
        ("learning rate", "Learning rate at the end of each epoch", ""),
    ]
    figures = []
    for key, title, unit in wanted:
        every = [_thinned(band) for band in bands_of(students, key)]
        if not every:
            continue
        bands = [band for band, _ in every]
        apart, scale = key == "loss distillation", 100.0 if unit == "%" else 1.0
        shades = {titles[name]: number for name, number in colours.items()}
        axis = f"{sentences.what(key)} [{unit}]" if unit else sentences.what(key)
        named = renamed(Curve(key, title, unit, bands, axis), titles)
        picture = (
            panels_picture(named, shades) if apart else curve_picture(named, shades, scale=scale)
        )
        several = any(len(students[band.name]) > 1 for band in bands)
        figures.append(
            {
                "title": title,
                "unit": unit,
                "picture": picture,
                "legend": []
                if apart
                else [(titles[band.name], colours[band.name]) for band in bands],
                "note": _note(several=several, stride=max(stride for _, stride in every)),
                "columns": ["Epoch", *(titles[band.name] for band in bands)],
                "rows": _rows(bands, scale),
            }
        )
    return figures


def _thinned(band: Band) -> tuple[Band, int]:
    """Return every so many epochs of a long curve, the last among them, and how many that are."""
    count = len(band.epochs)
    stride = -(-count // MOST)
    kept = sorted({*range(0, count, stride), count - 1})
    parts = (band.epochs, band.mean, band.lower, band.upper)
    epochs, mean, lower, upper = ([part[at] for at in kept] for part in parts)
    return Band(band.name, [int(epoch) for epoch in epochs], mean, lower, upper), stride


def _note(*, several: bool, stride: int) -> str:
    told = [SEVERAL] if several else []
    if stride > 1:
        told.append(f"Of long curves one in {stride} epochs is shown, and the last.")
    return " ".join(told)


def _rows(bands: list[Band], scale: float) -> list[list[str]]:
    by_epoch = [dict(zip(band.epochs, band.mean, strict=True)) for band in bands]
    return [
        [
            str(epoch),
            *(f"{scale * found[epoch]:.4g}" if epoch in found else "" for found in by_epoch),
        ]
        for epoch in sorted(set().union(*by_epoch))
    ]
