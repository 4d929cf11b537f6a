"""The figure of privilege.py: error against queries, with the planner's dashed continuation."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from privilege_curves import PILOTS, Errors, foreseen, pilot, planners_fit

from limbeck.teacher_record import PRIVILEGES


COLOURS = dict(zip(PRIVILEGES, ("#E69F00", "#0072B2", "#009E73"), strict=True))  # Okabe and Ito
NAMES = {
    "hard_labels": "text alone",
    "sampled_probabilities": "with its log-probability",
    "soft_labels": "full rows",
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck privilege",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "figure.facecolor": "white",
}


class Panel(NamedTuple):
    """One case: its title, what a query is, its budgets and its errors."""

    title: str
    query: str
    budgets: Sequence[int]
    errors: Errors


def figure(panels: Sequence[Panel]) -> str:
    """Return the figure as SVG that is the same each time."""
    with mpl.rc_context(_SETTINGS):
        drawn = Figure(figsize=(0.8 + 4.0 * len(panels), 3.6), layout="constrained")
        places = drawn.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(places, panels, strict=True):
            _draw(axes, panel)
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(drawn).print_svg(buffer, metadata=nothing)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _draw(axes: Axes, panel: Panel) -> None:
    budgets = panel.budgets
    grid = np.geomspace(budgets[0], budgets[-1], 13)
    for one in PRIVILEGES:
        colour, values = COLOURS[one], [panel.errors[one, n] for n in budgets]
        fit = planners_fit(one, *pilot(panel.errors, one, budgets))
        curve = np.array([foreseen(fit, size) for size in grid])
        axes.fill_between(grid, curve[:, 1], curve[:, 2], color=colour, alpha=0.12, linewidth=0)
        axes.plot(grid, curve[:, 0], color=colour, linestyle="--", linewidth=1.2)
        for n, own in zip(budgets, values, strict=True):
            axes.plot([n] * len(own), own, color=colour, marker=".", markersize=3, linestyle="none")
        means = [np.mean(own) for own in values]
        axes.plot(
            budgets, means, color=colour, marker="o", markersize=5, linestyle="none",
            label=NAMES[one],
        )  # fmt: skip
    axes.plot([], [], color="#555555", linestyle="--", label="planner, from the three smallest")
    axes.axvline(budgets[PILOTS - 1] * 2**0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", title=panel.title)
    measured = [value for own in panel.errors.values() for value in own]
    axes.set_ylim(0.7 * min(measured), 1.3 * max(measured))
    axes.set_xlabel(f"queries ({panel.query})")
    axes.set_ylabel("mean total variation to the teacher")
    axes.set_xticks(budgets, [f"{n:,}" for n in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, which="both", axis="y", linewidth=0.4, color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
