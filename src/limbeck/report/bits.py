"""The section of a report that says what was left to distil, from a saved measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from limbeck.checks import DataError
from limbeck.report.atoms import atoms_svg


MEASURED = "measurement"  # folder beside the runs
FILE_NAME = "measurement.json"
_COLUMNS = ("unique_teacher", "redundant", "unique_student")


def read_measurement(folder: Path) -> dict[str, Any] | None:
    """Return what ``limbeck.measure`` saved in a folder of runs, None if nothing.

    Raises:
        DataError: If the file is no measurement.
    """
    path = folder / MEASURED / FILE_NAME
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: expected JSON; {error}. Measure again.") from error
    if not isinstance(found, dict) or found.get("kind") != "measurement":
        raise DataError(f"{path}: expected a measurement of limbeck. Measure again.")
    return found


def section(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return rows, figure, and warnings for the template; numbers are words already."""
    entries = record["entries"]
    first = entries[0]["estimate"]
    return {
        "rows": [
            {
                "name": entry["student"],
                "cells": [_bits(entry["estimate"][name]) for name in _COLUMNS],
                "verdict": entry["estimate"]["verdict"],
                "gap": _gap(record.get("cross_entropy", {}), entry),
            }
            for entry in entries
        ],
        "teacher": _bits(first["mutual_teacher"]),
        "rows_used": first["unique_teacher"]["n"],
        "svg": Markup(_inline(atoms_svg(entries))),  # drawn here, labels escaped by matplotlib
        "warnings": [_sentence(text) for text in [*record["warnings"], *_warnings(entries)]],
    }


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


def _gap(found: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Return the student's cross-entropy less the teacher's, by their own scores [bits]."""
    ours, theirs = (found.get(side, {}).get(entry[side]) for side in ("student", "teacher"))
    return "" if ours is None or theirs is None else f"{ours['value'] - theirs['value']:+.2f}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _bits(estimate: Mapping[str, Any]) -> tuple[str, str]:
    """Return the value and its interval; no value where it is not resolved."""
    ends = f"{estimate['lower']:.2f} to {estimate['upper']:.2f}"
    value = "unresolved" if estimate["status"] == "unresolved" else f"{estimate['value']:.2f}"
    return value, ends


def _inline(svg: str) -> str:
    """Return an SVG document as an element."""
    return svg[svg.index("<svg") :]
