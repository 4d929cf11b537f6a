"""Figure of a variance report: what a weight does in one step, and in the long run; SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


FIGURES = ("weights.svg",)
# Colours of Okabe and Ito, which people who confuse red and green can tell apart.
ONE_STEP, LONG_RUN, IN_USE = "#0072B2", "#E69F00", "#009E73"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck weights",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "figure.facecolor": "white",
}


def figures_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Draw what a variance report holds.

    Args:
        record: A report as ``weights.json`` has it.

    Returns:
        SVG text by file name: ``weights.svg``.
    """
    return {"weights.svg": weights_svg(record)}


def weights_svg(record: Mapping[str, Any]) -> str:
    """Draw one step against the long run over the distillation weight.

    On the left the squared error of a step's gradient, noise R and bias b, as a share of plain
    SGD's; on the right the plateau of the training loss [nats], or, without curvature, noise and
    bias of the long run as that share. The shade is the 95 % interval of the weight that is lowest
    there; it has a line only where the weight is resolved.
    """
    with mpl.rc_context(SETTINGS):
        return _svg(weights_figure(record))


def weights_figure(record: Mapping[str, Any]) -> Figure:
    """Return the figure of :func:`weights_svg`, drawn with the settings in force."""
    grid, advice = record["grid"], record["advice"]
    weights = [one["weight"] for one in grid]
    once = [one["noise_left"] + one["bias_one_step"] for one in grid]
    lasting, unit, floor = _long_run(grid, advice)
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _panel(left, weights, once, ONE_STEP, advice["one_step"], 1.0)
    left.set_title("one step", fontsize=9)
    left.set_ylabel("squared error of the gradient\n[share of plain SGD's]")
    estimate = advice[record["advised"]]
    _panel(right, weights, lasting, LONG_RUN, estimate, floor)
    steps = advice["settings"]["horizon"]
    right.set_title("long run" if steps is None or unit == "nats" else f"{steps} steps", fontsize=9)
    right.set_ylabel(
        "plateau above the least training loss [nats]"
        if unit == "nats"
        else "noise and lasting bias\n[share of plain SGD's]"
    )
    for axes in (left, right):
        if record["weight_in_use"] is not None:
            axes.axvline(record["weight_in_use"], color=IN_USE, linestyle="--", linewidth=1.0)
        _dress(axes)
    _legend(figure, record["weight_in_use"] is not None)
    return figure


def _long_run(
    grid: Sequence[Mapping[str, Any]], advice: Mapping[str, Any]
) -> tuple[list[float] | None, str, float]:
    """Return the curve of the long run, its unit, and where plain SGD stands."""
    if all(one["plateau"] is not None for one in grid):
        return [one["plateau"] for one in grid], "nats", advice["floor"]
    if all(one["bias_long_run"] is not None for one in grid):
        return [one["noise_left"] + one["bias_long_run"] for one in grid], "share", 1.0
    return None, "share", 1.0


def _panel(
    axes: Axes,
    weights: Sequence[float],
    values: Sequence[float] | None,
    colour: str,
    estimate: Mapping[str, Any],
    floor: float,
) -> None:
    if values is None:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
        return
    axes.axvspan(estimate["lower"], estimate["upper"], color=colour, alpha=0.16, linewidth=0)
    axes.axhline(floor, color="black", linewidth=0.8, linestyle=":")
    axes.plot(weights, values, color=colour, marker="o", markersize=3.0, linewidth=1.6)
    if estimate["status"] != "unresolved":
        axes.axvline(estimate["value"], color=colour, linewidth=1.2)
    axes.set_ylim(bottom=0.0)


def _dress(axes: Axes) -> None:
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("distillation weight")
    axes.grid(visible=True, axis="y", linewidth=0.5, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def _legend(figure: Figure, is_used: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="without distillation"),
        Patch(color="#999999", alpha=0.3, label="95 % interval of the advised weight"),
    ]
    if is_used:
        handles.append(
            Line2D([], [], color=IN_USE, linewidth=1.0, linestyle="--", label="weight in use")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
