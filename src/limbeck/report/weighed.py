"""How the distillation weight was measured while runs trained: its course, and what it is made of.

Records alone are read; the names of what is the matter are those of ``limbeck weigh``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.record import RunRecord
from limbeck.report import sentences
from limbeck.report.curves import Band, Curve, curve_picture
from limbeck.report.pictures import SERIES, Picture


SAME_AS_LABELS = 0.05  # tr_hh / tr_gg below this: the teacher says what the labels say
FREEZE_WIDTH = 0.3  # of the interval, where the run does not name its own
POINTS = 240  # of a curve at most
RACED = {"none": "no distillation", "published": "the published weight", "measured": "measured"}
Row = Mapping[str, float | int]
_COLUMNS = ("step", "weight", "measured", "lower", "upper")


def section(
    groups: Mapping[str, Sequence[RunRecord]],
    titles: Mapping[str, str],
    colours: Mapping[str, int],
) -> dict[str, Any] | None:
    """Return the section on measured weights: figures, one row a run, and the races before.

    Args:
        groups: Records by name.
        titles: How the groups are called.
        colours: Numbers of the page's colours, by name.

    Returns:
        What the template takes; None where no run measured or raced a weight.
    """
    runs = [
        (name, record)
        for name, records in groups.items()
        for record in records
        if known(record.weighing)
    ]
    races = [
        _race(titles[name], record.seed, record.settings["weight_race"])
        for name, records in groups.items()
        for record in records
        if isinstance(record.settings.get("weight_race"), Mapping)
    ]
    if not runs and not races:
        return None
    figures = [
        {
            "title": _label(titles[name], record.seed),
            "unit": "",
            "picture": _picture(
                at, _label(titles[name], record.seed), colours[name], known(record.weighing)
            ),
            "columns": _COLUMNS,
            "rows": [
                [f"{row[one]:.6g}" for one in _COLUMNS] for row in _thinned(known(record.weighing))
            ],
        }
        for at, (name, record) in enumerate(_firsts(runs))
    ]
    rows = [_row(_label(titles[name], record.seed), record) for name, record in runs]
    return {"figures": figures, "rows": rows, "races": races}


def known(history: Sequence[Row]) -> list[Row]:
    """Return the measurements with a weight and an interval that are finite numbers."""
    return [row for row in history if all(_is_number(row.get(name)) for name in _COLUMNS)]


def diagnosis(row: Row, freeze_width: float | None = FREEZE_WIDTH) -> str:
    r"""Return what limits distillation by a measurement, in the words of ``limbeck weigh``.

    .. math:: \frac{2 B}{\gamma \hat\mu f}\, |\bar h|^2 > \mathrm{tr}_{hh}

    is a biased teacher: its bias costs more in the long run than its noise.

    Args:
        row: Ingredients of a measurement; of "losspair" there are none of the teacher's.
        freeze_width: Widest interval that sets the weight; None for any.

    Returns:
        "interpolating teacher", "anti-correlated teacher", "unresolved" where the interval is wider
        than the limit, "biased teacher" or "healthy". How far the student is from its plateau is
        not recorded.

    Example:
        >>> row = {"tr_gg": 4.0, "tr_gh": 3.0, "tr_hh": 3.0, "hbar2": 0.01, "lower": 0.5}
        >>> row |= {"upper": 0.6, "batch_size": 8, "learning_rate": 0.1, "curvature": 1.0}
        >>> diagnosis(row), diagnosis(row | {"hbar2": 0.1}), diagnosis(row | {"upper": 0.9})
        ('healthy', 'biased teacher', 'unresolved')
    """
    if "tr_hh" in row:
        if row["tr_hh"] <= SAME_AS_LABELS * row["tr_gg"]:
            return "interpolating teacher"
        if row["tr_gh"] <= 0:
            return "anti-correlated teacher"
    if freeze_width is not None and row["upper"] - row["lower"] > freeze_width:
        return "unresolved"
    if "tr_hh" in row:
        pace = row["learning_rate"] * row["curvature"] * row.get("noise_left", 1.0)
        if 2 * row["batch_size"] * max(row["hbar2"], 0.0) > pace * row["tr_hh"]:
            return "biased teacher"
    elif row["teacher_excess"] > row["noise_floor"]:
        return "biased teacher"
    return "healthy"


def _label(title: str, seed: int) -> str:
    return f"{title}, seed {seed}"


def _firsts(runs: Sequence[tuple[str, RunRecord]]) -> list[tuple[str, RunRecord]]:
    """Return the first run of each group that measured its weight."""
    found: dict[str, RunRecord] = {}
    for name, record in runs:
        found.setdefault(name, record)
    return list(found.items())


def _picture(at: int, label: str, colour: int, history: Sequence[Row]) -> Picture:
    shown = _thinned(history)
    columns = {name: [float(row[name]) for row in shown] for name in ("weight", "lower", "upper")}
    steps = [int(row["step"]) for row in shown]
    band = Band("weight", steps, columns["weight"], columns["lower"], columns["upper"])
    title = f"Distillation weight over steps, {label}"
    curve = Curve(f"measured weight {at}", title, "distillation weight", [band])
    return curve_picture(curve, {"weight": colour % SERIES}, along="step", limits=(0.0, 1.0))


def _thinned(history: Sequence[Row]) -> list[Row]:
    """Return evenly spaced measurements, the last among them."""
    shown = list(history[:: max(1, math.ceil(len(history) / POINTS))])
    return shown if shown[-1] is history[-1] else [*shown, history[-1]]


def _row(name: str, record: RunRecord) -> dict[str, Any]:
    history = known(record.weighing)
    last, asked = history[-1], record.settings.get("weight")
    width = asked.get("freeze_width", FREEZE_WIDTH) if isinstance(asked, Mapping) else FREEZE_WIDTH
    numbers = [last.get(one) for one in ("tr_gg", "tr_gh", "tr_hh", "hbar2", "curvature")]
    return {
        "name": name,
        "measurements": len(history),
        "step": int(last["step"]),
        "weight": f"{last['weight']:.3f}",
        "measured": f"{last['measured']:.3f}",
        "range": f"[{last['lower']:.3f}, {last['upper']:.3f}]",
        "numbers": ["-" if one is None else f"{one:.3g}" for one in numbers],
        "noise_left": _percent(last.get("noise_left")),
        "diagnosis": diagnosis(last, width),
    }


def _race(title: str, seed: int, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a race as the record has it: every pilot's value, and which won."""
    metric = told.get("metric")
    better = told.get("better_than_measured") or {}
    return {
        "name": _label(title, seed),
        "epochs": told.get("epochs"),
        "metric": sentences.what(metric or "validation"),
        "pilots": [
            {
                "name": RACED.get(which, which),
                "weight": {"none": "0", "published": f"{told.get('published', math.nan):.3g}"}.get(
                    which, "while training"
                ),
                "value": sentences.number(value, metric or ""),
                "better": _percent(better.get(which)),
                "won": which == told.get("winner"),
            }
            for which, value in told.get("validation", {}).items()
        ],
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
