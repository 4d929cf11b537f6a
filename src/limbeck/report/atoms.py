"""Figures of a measurement: bars of atoms, a trajectory over students, a map of layers; SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator


Entry = Mapping[str, Any]

FIGURES = ("atoms.svg", "trajectory.svg", "layers.svg")
# Colours of Okabe and Ito, which people who confuse red and green can tell apart.
ATOMS = {
    "redundant": ("distilled: both know it", "#0072B2"),
    "unique_teacher": ("distillable: only the teacher knows it", "#E69F00"),
    "unique_student": ("only the student knows it", "#009E73"),
    "synergistic": ("only both together know it", "#999999"),
}
_LONGEST = 28  # letters of a label
_A_LETTER = 0.075  # inches
_MAPPED = ("unique_teacher", "redundant")
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck measurement",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "figure.facecolor": "white",
}


def figures_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Draw what a measurement holds.

    Args:
        record: A measurement as ``measurement.json`` has it.

    Returns:
        SVG text by file name: ``atoms.svg`` always, ``trajectory.svg`` for several students of one
        teacher, ``layers.svg`` for several layers of one teacher and student. Axes are in bits;
        whiskers are the 95 % intervals, and an atom that is not resolved has only its interval.
    """
    entries: Sequence[Entry] = record["entries"]
    drawings = {"atoms": atoms_svg, "trajectory": trajectory_svg, "layers": layers_svg}
    return {f"{name}.svg": drawings[name](entries) for name in drawn_of(entries)}


def drawn_of(entries: Sequence[Entry]) -> list[str]:
    """Return which figures a measurement has: "atoms", and "trajectory" or "layers"."""
    teachers, students, ours, theirs = (
        list(dict.fromkeys(entry[name] for entry in entries))
        for name in ("teacher", "student", "teacher_layer", "student_layer")
    )
    found = ["atoms"]
    if len(teachers) == 1 and len(students) == len(entries) > 1:
        found.append("trajectory")
    if len(teachers) == len(students) == 1 and len(ours) * len(theirs) > 1:
        found.append("layers")
    return found


def atoms_svg(entries: Sequence[Entry]) -> str:
    """Draw a stacked bar an entry, with an interval at the end of each part."""
    with mpl.rc_context(SETTINGS):
        return _svg(atoms_figure(entries))


def atoms_figure(entries: Sequence[Entry]) -> Figure:
    """Return the figure of :func:`atoms_svg`, drawn with the settings in force."""
    names = _names(entries)
    width = 5.5 + _A_LETTER * max(map(len, names))
    figure = Figure(figsize=(width, 1.3 + 0.5 * len(entries)), layout="constrained")
    axes = figure.subplots()
    for place, entry in enumerate(entries):
        _bar(axes, place, entry["estimate"], named=place == 0)
    axes.set_yticks(range(len(entries)), [_plain(name) for name in names])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(f"information about the targets [bits], n = {_rows(entries)}")
    _dress(axes, "x")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def trajectory_svg(entries: Sequence[Entry]) -> str:
    """Draw distilled and distillable bits over students, in the order given."""
    with mpl.rc_context(SETTINGS):
        return _svg(trajectory_figure(entries))


def trajectory_figure(entries: Sequence[Entry]) -> Figure:
    """Return the figure of :func:`trajectory_svg`, drawn with the settings in force.

    The shade reaches up to what shuffled targets give to distillable bits: there nothing is told
    from chance.
    """
    labels = [str(entry["student"]) for entry in entries]
    numbers = [float(label) if re.fullmatch(r"\d+(\.\d+)?", label) else None for label in labels]
    known = [number for number in numbers if number is not None]
    is_time = len(known) == len(labels) and known == sorted(known)
    places = known if is_time else [float(place) for place in range(len(labels))]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, (text, colour) in ATOMS.items():
        if name != "synergistic":
            _line(axes, places, [entry["estimate"][name] for entry in entries], text, colour)
    top = entries[0]["estimate"]["mutual_teacher"]["value"]
    axes.axhline(
        top, color="black", linewidth=0.8, linestyle=":", label="all that the teacher knows"
    )
    chance = [entry["estimate"].get("null", {}).get("unique_teacher") for entry in entries]
    if None not in chance:
        axes.fill_between(
            places,
            chance,
            color="#999999",
            alpha=0.3,
            linewidth=0,
            label="distillable with shuffled targets (95 %)",
        )
    if is_time:
        axes.xaxis.set_major_locator(MaxNLocator(integer=all(p == int(p) for p in places)))
    else:
        shown = [_plain(_short(label)) for label in labels]
        axes.set_xticks(places, shown, rotation=20, ha="right")
    axes.set_xlabel("checkpoint" if is_time else "student")
    axes.set_ylabel("information [bits]")
    axes.set_ylim(bottom=0.0, top=1.05 * axes.get_ylim()[1])
    _dress(axes, "y")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def layers_svg(entries: Sequence[Entry]) -> str:
    """Draw distillable and distilled bits of every pair of layers."""
    with mpl.rc_context(SETTINGS):
        return _svg(layers_figure(entries))


def layers_figure(entries: Sequence[Entry]) -> Figure:
    """Return the figure of :func:`layers_svg`, drawn with the settings in force."""
    ours, theirs = (
        list(dict.fromkeys(entry[name] for entry in entries))
        for name in ("teacher_layer", "student_layer")
    )
    cells = {
        (ours.index(entry["teacher_layer"]), theirs.index(entry["student_layer"])): entry
        for entry in entries
    }
    aside = _A_LETTER * max(len(_short(name)) for name in ours)
    size = (2.4 + aside + 2.3 * max(len(theirs), 2), 2.2 + 0.6 * len(ours))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, atom in zip(panels, _MAPPED, strict=True):
        _panel(figure, axes, cells, (len(ours), len(theirs)), atom)
        axes.set_xticks(range(len(theirs)), [_plain(_short(name)) for name in theirs])
        axes.tick_params(axis="x", rotation=20)
        axes.set_xlabel("the student's layer")
    panels[0].set_yticks(range(len(ours)), [_plain(_short(name)) for name in ours])
    panels[0].set_ylabel("the teacher's layer")
    return figure


def _bar(axes: Axes, place: int, estimate: Mapping[str, Any], *, named: bool) -> None:
    start = 0.0
    for number, (name, (text, colour)) in enumerate(ATOMS.items()):
        atom = estimate[name]
        # What is not resolved is shown as far as it is certain.
        length = atom["lower"] if atom["status"] == "unresolved" else atom["value"]
        label = text if named else None
        axes.barh(place, length, left=start, color=colour, height=0.6, label=label, linewidth=0)
        height = place - 0.2 + 0.13 * number
        ends = [start + atom["lower"], start + atom["upper"]]
        axes.plot(ends, [height, height], color="black", linewidth=1.0, marker="|", markersize=4)
        start += length
    entropy = estimate["target_entropy"]
    if entropy is not None:
        label = "H(Y), all there is to know" if named else None
        ends = [place - 0.4, place + 0.4]
        axes.plot([entropy] * 2, ends, color="black", linewidth=0.9, linestyle=":", label=label)


def _line(
    axes: Axes, places: Sequence[float], atoms: Sequence[Mapping[str, Any]], text: str, colour: str
) -> None:
    resolved = [atom["status"] != "unresolved" for atom in atoms]
    values = [
        atom["value"] if sure else math.nan for atom, sure in zip(atoms, resolved, strict=True)
    ]
    axes.plot(places, values, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=text)
    lower, upper = ([atom[end] for atom in atoms] for end in ("lower", "upper"))
    axes.vlines(places, lower, upper, color=colour, linewidth=1.1)


def _panel(
    figure: Figure,
    axes: Axes,
    cells: Mapping[tuple[int, int], Entry],
    shape: tuple[int, int],
    name: str,
) -> None:
    text, colour = ATOMS[name]
    values = [[math.nan] * shape[1] for _ in range(shape[0])]
    for (row, column), entry in cells.items():
        atom = entry["estimate"][name]
        if atom["status"] != "unresolved":
            values[row][column] = atom["value"]
    top = max((v for row in values for v in row if math.isfinite(v)), default=0.0) or 1.0
    shades = LinearSegmentedColormap.from_list(name, ["#ffffff", colour])
    shown = axes.imshow(values, cmap=shades, vmin=0.0, vmax=1.3 * top, aspect="auto")
    shown.set_clim(0.0, 1.3 * top)
    for (row, column), entry in cells.items():
        atom = entry["estimate"][name]
        interval = f"[{atom['lower']:.2f}, {atom['upper']:.2f}]"
        sure = atom["status"] != "unresolved"
        axes.text(
            column,
            row,
            f"{atom['value']:.2f}\n{interval}" if sure else f"unresolved\n{interval}",
            ha="center",
            va="center",
            fontsize=8,
        )
        if not sure:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(
                Rectangle(corner, 1, 1, fill=False, hatch="//", edgecolor="#dddddd", zorder=0.5)
            )
    axes.set_title(f"{text} [bits]", fontsize=9)
    figure.colorbar(shown, ax=axes, label="bits", shrink=0.9)


def _names(entries: Sequence[Entry]) -> list[str]:
    """Return what tells the entries apart: labels and layers that are not the same for all."""
    varied = [
        name
        for name in ("teacher", "student", "teacher_layer", "student_layer")
        if len({entry[name] for entry in entries}) > 1
    ]
    if not varied:
        return [f"{_short(entry['teacher'])} to {_short(entry['student'])}" for entry in entries]
    return [" / ".join(_short(entry[name]) for name in varied) for entry in entries]


def _rows(entries: Sequence[Entry]) -> str:
    counts = sorted({entry["estimate"]["unique_teacher"]["n"] for entry in entries})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def _dress(axes: Axes, grid: str) -> None:
    axes.grid(visible=True, axis="x" if grid == "x" else "y", linewidth=0.5, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def _short(text: str) -> str:
    """Return a label with its end alone where it is long: ends of paths differ."""
    return text if len(text) <= _LONGEST else f"...{text[3 - _LONGEST :]}"


def _plain(text: str) -> str:
    return str(text).replace("$", r"\$")  # a name is not mathematics


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
