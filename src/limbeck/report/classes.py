"""Recall of every class, over the seeds, beside the control's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.record import RunRecord
from limbeck.report.sentences import gain


MOST = 20  # classes shown at once; of more, the ten most changed either way
Groups = Mapping[str, Sequence[RunRecord]]


def section(
    groups: Groups, control: str | None, titles: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the table by class, the largest loss against the control first.

    Args:
        groups: Runs of students by name.
        control: Which of them the others are compared with, or None: then the least recall is
            first.
        titles: Of the groups.

    Returns:
        ``names``, ``shown`` and ``rest``: rows of class, how many there are of it, and a cell a
        group. None where no run has counted classes.
    """
    found = {name: known for name, group in groups.items() if (known := _by_seed(group))}
    if not found:
        return None
    sizes = {len(rows) for known in found.values() for rows, _ in known.values()}
    if len(sizes) > 1:  # of different data: there is no class that they share
        return None
    (size,) = sizes
    recall = {name: [_mean(known, at) for at in range(size)] for name, known in found.items()}
    base = found.get(control) if control is not None else None
    changes = {
        name: [None if base is None else _change(known, base, at) for at in range(size)]
        for name, known in found.items()
        if name != control
    }
    places = _sorted(recall, changes, size, ranked=base is not None)
    names, rows = _class_names(groups, size), next(iter(next(iter(found.values())).values()))[0]
    made = [
        {
            "name": names[at],
            "rows": rows[at],
            "cells": [
                {"value": _percent(recall[name][at]), "change": _points(changes.get(name), at)}
                for name in found
            ],
        }
        for at in places
    ]
    shown, rest = _parted(made, ranked=base is not None)
    return {
        "names": [titles[name] for name in found],
        "shown": shown,
        "rest": rest,
        "control": None if base is None or control is None else titles[control],
        "seeds": max(map(len, found.values())),
        "part": _part(groups),
    }


def _parted(rows: list[dict[str, Any]], *, ranked: bool) -> tuple[list[Any], list[Any]]:
    """Return the rows shown and the others: of many the ends of a ranking, else its beginning."""
    if len(rows) <= MOST:
        return rows, []
    if not ranked:
        return rows[:MOST], rows[MOST:]
    known = [row for row in rows if any(cell["change"] for cell in row["cells"])]
    half = min(MOST // 2, len(known) // 2)
    shown = [*known[:half], *known[len(known) - half :]]
    return shown, [row for row in rows if not any(row is one for one in shown)]


def _by_seed(group: Sequence[RunRecord]) -> dict[int, tuple[list[int], list[int]]]:
    """Return rows and hits of every class, by seed."""
    return {
        record.seed: (counts["rows"], counts["right"])
        for record in group
        if record.status == "finished"
        and isinstance(counts := record.details.get("classes"), Mapping)
    }


def _mean(known: Mapping[int, tuple[list[int], list[int]]], at: int) -> float | None:
    shares = [right[at] / rows[at] for rows, right in known.values() if rows[at]]
    return sum(shares) / len(shares) if shares else None


def _change(
    known: Mapping[int, tuple[list[int], list[int]]],
    base: Mapping[int, tuple[list[int], list[int]]],
    at: int,
) -> float | None:
    """Return the mean difference to the control over the seeds that both have."""
    gains = [
        known[seed][1][at] / known[seed][0][at] - base[seed][1][at] / base[seed][0][at]
        for seed in known
        if seed in base and known[seed][0][at] and base[seed][0][at]
    ]
    return sum(gains) / len(gains) if gains else None


def _sorted(
    recall: Mapping[str, Sequence[float | None]],
    changes: Mapping[str, Sequence[float | None]],
    size: int,
    *,
    ranked: bool,
) -> list[int]:
    """Return places of classes: by the largest loss of any student, else by the least recall.

    Classes without a row come last.
    """
    by = changes if ranked and changes else recall

    def key(at: int) -> tuple[bool, float, int]:
        known = [value for values in by.values() if (value := values[at]) is not None]
        return (not known, min(known, default=0.0), at)

    return sorted(range(size), key=key)


def _class_names(groups: Groups, size: int) -> list[str]:
    for group in groups.values():
        for record in group:
            names = record.data.get("class_names")
            if isinstance(names, list) and len(names) == size:
                return [str(name) for name in names]
    return [str(at) for at in range(size)]


def _part(groups: Groups) -> str:
    parts = {
        str(record.details["part"])
        for group in groups.values()
        for record in group
        if "part" in record.details
    }
    return " and ".join(sorted(parts))


def _percent(value: float | None) -> str:
    return "no rows" if value is None else f"{100 * value:.1f} %"


def _points(changes: Sequence[float | None] | None, at: int) -> str:
    value = None if changes is None else changes[at]
    return "" if value is None else gain(value, "accuracy")
