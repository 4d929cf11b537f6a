"""The figure of predictive_validity.py: gains against the figures that were known before."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from limbeck.forecasting.catalogue import PREDICTORS
from limbeck.forecasting.grid import UNITS, Grid, Outcome


COLOURS = {"digits": "#E69F00", "fashion-mnist": "#0072B2", "cifar10": "#009E73"}  # Okabe and Ito
MARKERS = {"all labels": "o", "few labels": "^"}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck validity",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "figure.facecolor": "white",
}


def figure(
    grid: Grid, names: Sequence[str], method: str, outcome: Outcome, ranked: dict[str, Any]
) -> str:
    """Return scatter plots of a gain as SVG that is the same each time.

    Args:
        grid: The cells.
        names: Figures, one a panel.
        method: Whose gain.
        outcome: Which gain.
        ranked: What :func:`validity_summary.correlations` says of the figures.
    """
    columns = 3
    rows = -(-len(names) // columns)
    with mpl.rc_context(_SETTINGS):
        drawn = Figure(figsize=(3.3 * columns, 0.5 + 2.7 * rows), layout="constrained")
        places = drawn.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(places, names, strict=False):
            _draw(axes, grid, name, method, outcome)
            tau, lower, upper = ranked[name]["tau"]
            axes.set_title(f"tau {tau:.2f} [{lower:.2f}, {upper:.2f}]", fontsize=9)
        for axes in places[len(names) :]:
            axes.set_visible(False)
        handles, labels = places[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(drawn).print_svg(buffer, metadata=nothing)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _draw(axes: Axes, grid: Grid, name: str, method: str, outcome: Outcome) -> None:
    known, gains = grid.figures([name], method)[:, 0], grid.gains(method, outcome)
    axes.axhline(0.0, color="#888888", linewidth=0.7)
    for data, colour in COLOURS.items():
        for budget, marker in MARKERS.items():
            at = [place for place, row in enumerate(grid.rows) if row.name[::3] == (data, budget)]
            axes.scatter(
                known[at], gains[at], s=16, c=colour, marker=marker, linewidths=0, alpha=0.8,
                label=f"{data}, {budget}",
            )  # fmt: skip
    predictor = PREDICTORS[name]
    axes.set_xlabel(f"{name.replace('_', ' ')} [{predictor.unit or '1'}]")
    axes.set_ylabel(f"gain of {method.upper()} [{UNITS[outcome]}]")
    axes.spines[["top", "right"]].set_visible(False)
