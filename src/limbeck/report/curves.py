"""Curves over epochs, of every group in one panel or each in its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from limbeck.record import RunRecord
from limbeck.report.pictures import SERIES, Palette, Picture, plain


_STYLES = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (9, 3)))


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
    """One figure: a quantity over epochs, for each group that recorded it.

    Attributes:
        key: Its name among the figures.
        title: What stands above it on the page.
        unit: Of the axis of the values.
        bands: One a group.
        axis: What is said beside that axis where no title stands above; the unit if empty.
    """

    key: str
    title: str
    unit: str
    bands: list[Band]
    axis: str = ""

    def beside(self, palette: Palette) -> str:
        """Return what is said beside the axis of the values."""
        return self.axis if palette.on_paper and self.axis else self.unit


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


def curve_picture(
    curve: Curve,
    colours: Mapping[str, int],
    *,
    scale: float = 1.0,
    along: str = "epoch",
    limits: tuple[float, float] | None = None,
) -> Picture:
    """Return the figure of a curve of every group in one panel.

    Args:
        curve: What to draw.
        colours: Number of the page's colour for each group, so that a group keeps its colour over
            figures.
        scale: Factor of the values, such as 100 for percent.
        along: What the numbers called epochs are.
        limits: Ends of the axis of the values; None lets the values decide.
    """

    def draw(palette: Palette) -> Figure:
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.subplots()
        for band in curve.bands:
            _draw(axes, band, colours[band.name], scale, palette)
        dress(axes, curve.beside(palette), along)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if limits is not None:
            axes.set_ylim(*limits)
        if palette.on_paper and len(curve.bands) > 1:
            add_legend(figure, {band.name: colours[band.name] for band in curve.bands}, palette)
        return figure

    return Picture(curve.key, _named(curve), draw)


def panels_picture(curve: Curve, colours: Mapping[str, int]) -> Picture:
    """Return the figure with a panel a group, for quantities on different scales."""

    def draw(palette: Palette) -> Figure:
        columns = min(len(curve.bands), 2)
        rows = -(-len(curve.bands) // columns)
        figure = Figure(figsize=(4.6, 2.9 if rows == 1 else 2.3 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, band in zip(grid.flat, curve.bands, strict=False):
            _draw(axes, band, colours[band.name], 1.0, palette)
            axes.set_title(plain(band.name), fontsize=9)
            dress(axes, curve.beside(palette) if axes in grid[:, 0] else "", "epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        for axes in list(grid.flat)[len(curve.bands) :]:
            axes.set_visible(False)
        return figure

    return Picture(curve.key, _named(curve), draw)


def renamed(curve: Curve, titles: Mapping[str, str]) -> Curve:
    """Return the curve with its bands under the groups' titles."""
    return replace(curve, bands=[replace(band, name=titles[band.name]) for band in curve.bands])


def style(number: int) -> Any:
    """Return the dashes of a group's line: colour is never the only sign."""
    return _STYLES[number % SERIES]


def dress(axes: Axes, unit: str, along: str) -> None:
    """Label a panel and give it the look of all others."""
    axes.set_xlabel(along)
    if unit:
        axes.set_ylabel(unit)
    axes.grid(visible=True, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def add_legend(figure: Figure, colours: Mapping[str, int], palette: Palette) -> None:
    """Name the groups below a figure that stands alone."""
    handles = [
        Line2D(
            [], [], color=palette.of(number), linestyle=style(number), linewidth=1.8,
            label=plain(name) if not name.startswith("_") else f" {plain(name)}",  # else left out
        )
        for name, number in colours.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _named(curve: Curve) -> str:
    return f"{curve.title}: {', '.join(band.name for band in curve.bands)}"


def _draw(axes: Axes, band: Band, colour: int, scale: float, palette: Palette) -> None:
    mean, lower, upper = ([scale * v for v in part] for part in (band.mean, band.lower, band.upper))
    shade = palette.of(colour)
    axes.fill_between(band.epochs, lower, upper, color=shade, alpha=0.16, linewidth=0)
    marker = "o" if len(band.epochs) == 1 else None
    axes.plot(band.epochs, mean, color=shade, linestyle=style(colour), linewidth=1.8, marker=marker)
