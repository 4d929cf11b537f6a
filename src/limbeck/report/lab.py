"""Figures of the laboratory: measured points on predicted curves, a panel a setting; SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


COLUMNS = 3
MEASURED, PREDICTED = "#E69F00", "#0072B2"  # of Okabe and Ito, as in the other figures
OTHERS = ("#009E73", "#CC79A7", "#999999")
_STYLES = ("--", ":", "-.")
_SPREAD = 30.0  # largest over smallest value from which an axis is logarithmic
_MANY = 30  # points above which they are drawn as a line
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck laboratory",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "figure.facecolor": "white",
}


def lab_svg(result: Mapping[str, Any]) -> str:
    """Draw what a case of the laboratory found.

    Args:
        result: As ``lab.json`` has it: ``case``, ``passed``, ``checks`` and ``curves``.

    Returns:
        SVG text: a panel a curve with the measured points and, where there is one, the predicted
        line; above it the case, and how many of its checks passed.
    """
    curves: Sequence[Mapping[str, Any]] = result["curves"]
    columns = max(1, min(COLUMNS, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    with mpl.rc_context(_SETTINGS):
        size = (0.6 + 3.6 * columns, 0.8 + 2.9 * lines)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, curve in zip(panels, curves, strict=False):
            _draw(axes, curve)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        checks = result["checks"]
        right = sum(bool(check["passed"]) for check in checks)
        verdict = f"{right} of {len(checks)} checks passed"
        figure.suptitle(f"{_plain(result['case'])}: {verdict}", fontsize=10)
        return _svg(figure)


def _draw(axes: Axes, curve: Mapping[str, Any]) -> None:
    grid = curve["grid"]
    lines = [("predicted", curve["predicted"], PREDICTED, "-")] if curve["predicted"] else []
    for place, (name, values) in enumerate(curve["others"].items()):
        lines.append((name, values, OTHERS[place % len(OTHERS)], _STYLES[place % len(_STYLES)]))
    for name, values, colour, style in lines:
        axes.plot(
            grid, _numbers(values), color=colour, linestyle=style, linewidth=1.4, label=_plain(name)
        )
    log = bool(curve.get("log"))
    many = len(grid) > _MANY
    axes.plot(
        grid,
        _numbers(curve["measured"]),
        color=MEASURED,
        linestyle="-" if many else "none",
        marker=None if many else "o",
        markersize=4,
        label="measured",
    )
    shown = [v for _, values, *_ in lines for v in values] + list(curve["measured"])
    known = [v for v in shown if v is not None and v > 0]
    wide = len(known) == len(shown) and bool(known) and max(known) > _SPREAD * min(known)
    if wide or (log and known):
        axes.set_yscale("log", nonpositive="mask")
    far = len(grid) > 1 and min(grid) > 0 and max(grid) >= 1000 * min(grid) and not many
    if far or (log and min(grid) > 0):
        axes.set_xscale("log")
    axes.set_title(_plain(curve["title"]), fontsize=9)
    axes.set_xlabel(_plain(curve["x_label"]))
    axes.set_ylabel(_plain(curve["y_label"]))
    axes.grid(visible=True, axis="y", linewidth=0.5, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    axes.legend(frameon=False, fontsize=8)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _plain(text: str) -> str:
    return str(text).replace("$", r"\$")  # a name is not mathematics


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
