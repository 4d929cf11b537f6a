"""The section of a report that says what was left to distil, from a saved measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from limbeck.report import atoms
from limbeck.report.pictures import Palette, Picture


MEASURED = "measurement"  # folder beside the runs that a demo writes to
_COLUMNS = ("unique_teacher", "redundant", "unique_student")
_DRAWINGS = {
    "atoms": ("What teacher and student know about the targets", atoms.atoms_figure),
    "trajectory": ("Distilled and distillable bits over students", atoms.trajectory_figure),
    "layers": ("Distillable and distilled bits by layers", atoms.layers_figure),
}


def section(record: Mapping[str, Any], place: str = "", suffix: str = "") -> dict[str, Any]:
    """Return rows, figures and warnings for the template; numbers are words already.

    Args:
        record: A measurement, as ``measurement.json`` has it.
        place: The folder it lies in.
        suffix: Put behind the names of its figures, to tell them from others'.
    """
    entries = record["entries"]
    first = entries[0]["estimate"]
    return {
        "place": place,
        "rows": [
            {
                "name": _name(entry, entries),
                "cells": [_bits(entry["estimate"][name]) for name in _COLUMNS],
                "null": _chance(entry["estimate"]),
                "verdict": entry.get("verdict", entry["estimate"]["verdict"]),
                "gap": _gap(entry.get("gap")),
            }
            for entry in entries
        ],
        "teacher": _bits(first["mutual_teacher"]),
        "rows_used": first["unique_teacher"]["n"],
        "figures": [_figure(kind, entries, suffix) for kind in atoms.drawn_of(entries)],
        "warnings": [_sentence(text) for text in [*record["warnings"], *_warnings(entries)]],
    }


def _figure(kind: str, entries: Sequence[Mapping[str, Any]], suffix: str) -> dict[str, Any]:
    title, draw = _DRAWINGS[kind]
    picture = Picture(
        f"{kind}{suffix}",
        f"{title}: {', '.join(_name(entry, entries) for entry in entries)}",
        partial(_drawn, draw, entries),
        settings=lambda _: {**atoms.SETTINGS, "pdf.fonttype": 42},
        keeps_colours=True,
    )
    return {
        "title": title,
        "unit": "bits",
        "picture": picture,
        "columns": ["Student", "Information", "Value", "from", "to", "Shuffled (95 %)"],
        "rows": [
            [_name(entry, entries), text, *_atom(entry["estimate"], name)]
            for entry in entries
            for name, (text, _) in atoms.ATOMS.items()
        ],
    }


def _drawn(draw: Any, entries: Sequence[Mapping[str, Any]], _: Palette) -> Figure:
    return draw(entries)


def _atom(estimate: Mapping[str, Any], name: str) -> list[str]:
    """Return an atom's value, ends and what shuffled targets give [bits]."""
    atom, chance = estimate[name], estimate.get("null", {}).get(name)
    value = "unresolved" if atom["status"] == "unresolved" else f"{atom['value']:.3f}"
    ends = [f"{atom[end]:.3f}" for end in ("lower", "upper")]
    return [value, *ends, "" if chance is None else f"{chance:.3f}"]


def _chance(estimate: Mapping[str, Any]) -> str:
    """Return how many distillable bits shuffled targets give, 95 % of the time at most."""
    found = estimate.get("null", {}).get("unique_teacher")
    return "" if found is None else f"{found:.2f}"


def _name(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the student's name, with the layers where these are what differs."""
    alike = [other for other in entries if other["student"] == entry["student"]]
    if len(alike) == 1:
        return str(entry["student"])
    told = [
        f"{key.replace('_', ' ')} {entry[key]}"
        for key in ("teacher", "teacher_layer", "student_layer")
        if len({str(other[key]) for other in alike}) > 1
    ]
    return ", ".join([str(entry["student"]), *told])


def _warnings(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what to mind, once if it holds for every student, else with the student's name."""
    of_each = [entry["estimate"]["warnings"] for entry in entries]
    for_all = [text for text in of_each[0] if all(text in texts for texts in of_each)]
    named = [
        f"{entry['student']}: {text}"
        for entry, texts in zip(entries, of_each, strict=True)
        for text in texts
        if text not in for_all
    ]
    return [*for_all, *named]


def _gap(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the student's cross-entropy less the teacher's, by their own scores, and its ends."""
    if found is None:
        return "", ""
    return f"{found['value']:+.2f}", f"{found['lower']:+.2f} to {found['upper']:+.2f}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _bits(estimate: Mapping[str, Any]) -> tuple[str, str]:
    """Return the value and its interval; no value where it is not resolved."""
    ends = f"{estimate['lower']:.2f} to {estimate['upper']:.2f}"
    value = "unresolved" if estimate["status"] == "unresolved" else f"{estimate['value']:.2f}"
    return value, ends
