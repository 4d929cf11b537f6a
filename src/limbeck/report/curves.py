"""Curves over epochs as inline SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limbeck.record import RunRecord


SERIES = 8  # colours that the page defines as --series-0 ...
_STYLES = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (9, 3)))
_INK, _GRID = "#010203", "#040506"  # stand-ins, replaced by the page's own colours
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Band:
    """A curve over the seeds of one group: mean and range at each epoch.

    Attributes:
        name: The group's name.
        epochs: Epochs from 1 at which every seed has a value.
        mean: Mean over seeds.
        lower: Smallest over seeds.
        upper: Largest over seeds.
    """

    name: str
    epochs: list[int]
    mean: list[float]
    lower: list[float]
    upper: list[float]


@dataclass(frozen=True)
class Curve:
    """One figure: a quantity over epochs, for each group that recorded it."""

    key: str
    title: str
    unit: str
    bands: list[Band]


def bands_of(groups: Mapping[str, Sequence[RunRecord]], key: str) -> list[Band]:
    """Return the curve ``key`` of each group that has it."""
    found = []
    for name, records in groups.items():
        curves = [record.curves[key] for record in records if key in record.curves]
        epochs = [
            epoch
            for epoch in range(min(map(len, curves), default=0))
            if all(curve[epoch] is not None for curve in curves)
        ]
        if not epochs:
            continue
        columns = [[float(curve[epoch] or 0.0) for curve in curves] for epoch in epochs]
        found.append(
            Band(
                name,
                [epoch + 1 for epoch in epochs],
                [sum(column) / len(column) for column in columns],
                [min(column) for column in columns],
                [max(column) for column in columns],
            )
        )
    return found


def curve_svg(
    curve: Curve,
    colours: Mapping[str, int],
    *,
    scale: float = 1.0,
    along: str = "epoch",
    limits: tuple[float, float] | None = None,
) -> str:
    """Draw a curve of every group in one panel.

    Args:
        curve: What to draw.
        colours: Number of the page's colour for each group, so that a group keeps its colour over
            figures.
        scale: Factor of the values, such as 100 for percent.
        along: What the numbers called epochs are.
        limits: Ends of the axis of the values; None lets the values decide.

    Returns:
        An ``<svg>`` element without size, metadata or addresses, its ids those of this figure.
    """
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": f"limbeck {curve.key}"}):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.subplots()
        for band in curve.bands:
            _draw(axes, band, colours[band.name], scale)
        _dress(axes, curve.unit, along)
        if limits is not None:
            axes.set_ylim(*limits)
        return _inline(figure, curve)


def panels_svg(curve: Curve, colours: Mapping[str, int]) -> str:
    """Draw each group's curve in a panel of its own, for quantities on different scales."""
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": f"limbeck {curve.key}"}):
        figure = Figure(figsize=(4.6, 2.9 if len(curve.bands) < 3 else 4.6), layout="constrained")
        columns = min(len(curve.bands), 2)
        rows = -(-len(curve.bands) // columns)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, band in zip(grid.flat, curve.bands, strict=False):
            _draw(axes, band, colours[band.name], 1.0)
            axes.set_title(_plain(band.name), fontsize=9)
            _dress(axes, curve.unit if axes in grid[:, 0] else "")
        for axes in list(grid.flat)[len(curve.bands) :]:
            axes.set_visible(False)
        return _inline(figure, curve)


def _draw(axes: Axes, band: Band, colour: int, scale: float) -> None:
    mean, lower, upper = ([scale * v for v in part] for part in (band.mean, band.lower, band.upper))
    shade = _series(colour)
    axes.fill_between(band.epochs, lower, upper, color=shade, alpha=0.16, linewidth=0)
    style, marker = _STYLES[colour % SERIES], "o" if len(band.epochs) == 1 else None
    axes.plot(band.epochs, mean, color=shade, linestyle=style, linewidth=1.8, marker=marker)


def _dress(axes: Axes, unit: str, along: str = "epoch") -> None:
    axes.set_xlabel(along)
    if unit:
        axes.set_ylabel(unit)
    axes.grid(visible=True, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _series(number: int) -> str:
    return f"#0a0b{16 + number % SERIES:02x}"


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a name is not mathematics


def _inline(figure: Figure, curve: Curve) -> str:
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(
        buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    prefix = re.sub(r"\W+", "-", curve.key)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = text.replace(_INK, "currentColor").replace(_GRID, "var(--grid)")
    for number in range(SERIES):
        text = text.replace(_series(number), f"var(--series-{number})")
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1).strip()
