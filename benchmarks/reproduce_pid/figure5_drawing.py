"""Table and figure of figure5.py: a panel a number and way, a line a method and seed."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


NUMBERS = {
    "unique_teacher": "Uni(Y:T\\S)",
    "redundant": "Red(Y:T,S)",
    "mutual_teacher": "I(Y;T)",
    "mutual_student": "I(Y;S)",
}
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck figure 5",
    "font.size": 8.0,
    "figure.facecolor": "white",
}

Row = dict[str, Any]


def _unique(rows: list[Row], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def series_of(cells: list[Row], method: str, teacher: str, seed: int) -> list[Row]:
    """Return a run's cells by epoch; the start is that of all runs of the seed."""
    own = [c for c in cells if (c["teacher"], c["seed"]) == (teacher, seed)]
    return sorted(
        (c for c in own if c["method"] == method or c["epoch"] == 0), key=lambda c: c["epoch"]
    )


def summaries(cells: list[Row]) -> list[Row]:
    """Return what became of every number from the first to the last checkpoint."""
    found = []
    for teacher in _unique(cells, "teacher"):
        for method in _unique(cells, "method"):
            for seed in _unique(cells, "seed"):
                rows = series_of(cells, method, teacher, seed)
                found.extend(
                    {
                        "teacher": teacher,
                        "method": method,
                        "seed": seed,
                        "way": way,
                        "accuracy": [rows[0]["student_accuracy"], rows[-1]["student_accuracy"]],
                        **{name: _change(rows, way, name) for name in NUMBERS},
                    }
                    for way in rows[0]["ways"]
                )
    return found


def _change(rows: list[Row], way: str, name: str) -> Row:
    numbers = np.array([row["ways"][way][name][:3] for row in rows])
    values, lower, upper = numbers.T
    nulls = [row["ways"][way]["null"].get(name) for row in rows]
    return {
        "first": values[0].item(),
        "last": values[-1].item(),
        "spread": float(np.ptp(values)),
        "half_width": float((upper - lower).mean() / 2),
        "largest_null": None if None in nulls else max(nulls),
        "resolved": sum(bool(row["ways"][way][name][3]) for row in rows),
        "of": len(rows),
    }


def figure(cells: list[Row], caption: str) -> str:
    """Draw every number over epochs: ways and teachers side by side; SVG.

    Whiskers are 95 % intervals; where a value is not resolved only its interval is drawn. Grey is
    the null band, of shuffled labels.
    """
    ways, teachers = list(cells[0]["ways"]), _unique(cells, "teacher")
    methods = _unique(cells, "method")
    columns = [(way, teacher) for way in ways for teacher in teachers]
    with mpl.rc_context(_SETTINGS):
        drawn = Figure(figsize=(2.1 * len(columns), 1.7 * len(NUMBERS) + 0.7), layout="constrained")
        panels = drawn.subplots(len(NUMBERS), len(columns), sharex=True, sharey="row")
        for column, (way, teacher) in enumerate(columns):
            for axes, (name, text) in zip(panels[:, column], NUMBERS.items(), strict=True):
                _panel(axes, cells, way, teacher, name, methods)
                if column == 0:
                    axes.set_ylabel(f"{text} [bits]")
            panels[0, column].set_title(f"{way}, {teacher} teacher", fontsize=8)
            panels[-1, column].set_xlabel("epoch")
        for axes in panels[:, 0]:
            axes.set_ylim(bottom=0.0)
        drawn.supxlabel(
            f"{caption}, 95 % intervals, n = {cells[0]['n']:,} held-out rows", fontsize=8
        )
        return _written(drawn, methods)


def trajectory(cells: list[Row], caption: str) -> str:
    """Draw what the hull says of Uni and Red over epochs; SVG.

    Lines are means over seeds, whiskers reach from the least seed to the largest.
    """
    teachers, methods = _unique(cells, "teacher"), _unique(cells, "method")
    with mpl.rc_context(_SETTINGS):
        drawn = Figure(figsize=(6.4, 3.6), layout="constrained")
        panels = drawn.subplots(2, len(teachers), sharex=True, sharey="row")
        for column, teacher in enumerate(teachers):
            for axes, name in zip(panels[:, column], list(NUMBERS)[:2], strict=True):
                for number, method in enumerate(methods):
                    _means(axes, cells, method, teacher, name, number)
                _finish(axes, cells, "hull", teacher, name)
                axes.set_ylim(bottom=0.0)
            panels[0, column].set_title(f"{teacher} teacher", fontsize=8)
            panels[-1, column].set_xlabel("epoch")
        panels[0, 0].set_ylabel("distillable [bits]")
        panels[1, 0].set_ylabel("distilled [bits]")
        drawn.supxlabel(f"{caption}; mean and range", fontsize=7)
        return _written(drawn, methods)


def _means(axes: Axes, cells: list[Row], method: str, teacher: str, name: str, number: int) -> None:
    runs = [series_of(cells, method, teacher, seed) for seed in _unique(cells, "seed")]
    found = np.array([[row["ways"]["hull"][name][0] for row in rows] for rows in runs])
    places = np.array([row["epoch"] for row in runs[0]]) + 0.06 * (number - 2)
    colour = COLOURS[number % len(COLOURS)]
    axes.plot(places, found.mean(0), color=colour, marker="o", markersize=2.5, linewidth=1.1)
    axes.vlines(places, found.min(0), found.max(0), color=colour, linewidth=0.8)


def _panel(
    axes: Axes, cells: list[Row], way: str, teacher: str, name: str, methods: list[str]
) -> None:
    for number, method in enumerate(methods):
        colour = COLOURS[number % len(COLOURS)]
        for seed in _unique(cells, "seed"):
            rows = series_of(cells, method, teacher, seed)
            found = np.array([row["ways"][way][name] for row in rows], dtype=float)
            # Side by side, so that whiskers do not hide each other.
            places = np.array([row["epoch"] for row in rows]) + 0.12 * (number - 1)
            values = np.where(found[:, 3] > 0, found[:, 0], np.nan)
            axes.plot(places, values, color=colour, marker="o", markersize=2.5, linewidth=1.1)
            axes.vlines(places, found[:, 1], found[:, 2], color=colour, linewidth=0.8)
    _finish(axes, cells, way, teacher, name)


def _finish(axes: Axes, cells: list[Row], way: str, teacher: str, name: str) -> None:
    """Draw the null band, and take away what is not needed."""
    nulls = [c["ways"][way]["null"].get(name) for c in cells if c["teacher"] == teacher]
    known = [value for value in nulls if value is not None]
    if known:
        axes.axhspan(0.0, max(known), color="#cccccc", alpha=0.7, linewidth=0, zorder=0)
    axes.grid(visible=True, axis="y", linewidth=0.4, color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)


def _written(drawn: Figure, methods: list[str]) -> str:
    """Return the figure, with its legend, as SVG that is the same each time."""
    lines = [
        Line2D([], [], color=colour, marker="o", markersize=3)
        for colour, _ in zip(COLOURS, methods, strict=False)
    ]
    drawn.legend(lines, methods, loc="outside upper center", ncols=len(methods), frameon=False)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(drawn).print_svg(buffer, metadata=nothing)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
