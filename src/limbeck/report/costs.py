"""What the teacher's outputs cost, and what a plan of queries said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.record import RunRecord
from limbeck.report.sentences import seconds


Groups = Mapping[str, Sequence[RunRecord]]
_PRIVILEGES = ("hard_labels", "sampled_probabilities", "soft_labels")


def rows(groups: Groups, titles: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a row for each group that learned from a teacher, and kind of it.

    Stores are counted once, though several runs of a group read them; what a live teacher cost is
    the mean of a run.
    """
    found = []
    for name, group in groups.items():
        stores = stores_of(group)
        if stores:
            found.append(_stored(titles[name], stores, group))
        live = [run for run in group if "parameters" in run.teacher and "share teacher" in run.time]
        if live:
            found.append(_live(titles[name], live))
    return found


def stores_of(group: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the stores that runs of a group read, each once, with the rows it covers."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in group:
        for store in record.teacher.get("stores", ()):
            key = (
                store["data"], store["teacher"]["digest"], store["kind"], store["dtype"],
                store["views"], store["bytes"],
            )  # fmt: skip
            found.setdefault(key, {**store, "rows": record.data.get("rows")})
    return list(found.values())


def plan(record: Mapping[str, Any], place: str, _: str = "") -> dict[str, Any]:
    """Return a saved plan for the template, as ``limbeck plan`` prints it.

    Args:
        record: As ``plan.json`` has it.
        place: The folder it lies in.
    """
    sure = record.get("confidence")
    return {
        "place": place,
        "error": f"{record['error']:g}",
        "sure": "in the mean" if sure is None else f"with probability {sure:g}",
        "rows": [
            {
                "name": name.replace("_", " "),
                "below": _count(record[name].get("impossible_below")),
                "planning": _count(record[name].get("planning"), record[name].get("status")),
                "enough": _count(record[name].get("sufficient")),
                "disk": _mebibytes(record[name].get("disk")),
            }
            for name in _PRIVILEGES
        ],
        "notes": list(dict.fromkeys(record[name].get("assumption", "") for name in _PRIVILEGES)),
    }


def memory_rows(groups: Groups, titles: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the largest peak of memory of each group's runs [MiB], by title and kind."""
    found: dict[str, dict[str, str]] = {}
    for name, group in groups.items():
        for kind in ("resident", "device"):
            peaks = [run.memory[kind] for run in group if kind in run.memory]
            if peaks:
                found.setdefault(titles[name], {})[kind] = f"{max(peaks):,.0f}"
    return found


def _stored(title: str, stores: Sequence[dict[str, Any]], group: Sequence[RunRecord]) -> Any:
    known = all(store["rows"] is not None for store in stores)
    asked = sum(store["rows"] * store["views"] for store in stores) if known else None
    reading = [
        run.time["seconds"] * run.time["share teacher"]
        for run in group
        if "share teacher" in run.time and "seconds" in run.time and "stores" in run.teacher
    ]
    views = sorted({store["views"] for store in stores})
    kinds = sorted({f"{store['kind'].replace('_', ' ')} {store['dtype']}" for store in stores})
    pays = [value for store in stores if (value := store.get("pays_after_epochs")) is not None]
    one = len(stores) == 1
    return {
        "name": title,
        "how": f"{'a store' if one else f'{len(stores)} stores'} of {' and '.join(kinds)}, "
        f"{' or '.join(map(str, views))} view{'s' if views != [1] else ''}",
        "asked": _count(asked),
        "seconds": seconds(sum(store["seconds"] for store in stores)),
        "disk": _mebibytes(sum(store["bytes"] for store in stores)),
        "reading": seconds(sum(reading) / len(reading)) if reading else "-",
        "pays": f"{sum(pays) / len(pays):.1f}" if pays else "never" if _told(stores) else "-",
    }


def _told(stores: Sequence[Mapping[str, Any]]) -> bool:
    return all("pays_after_epochs" in store for store in stores)


def _live(title: str, group: Sequence[RunRecord]) -> dict[str, str]:
    spent = [run.time["seconds"] * run.time["share teacher"] for run in group]
    asked = [_asked(run) for run in group]
    return {
        "name": title,
        "how": "live, a run",
        "asked": "-"
        if None in asked
        else _count(round(math.fsum(n for n in asked if n is not None) / len(asked))),
        "seconds": seconds(sum(spent) / len(spent)),
        "disk": "none",
        "reading": "-",
        "pays": "-",
    }


def _asked(run: RunRecord) -> int | None:
    """Return how many rows a live teacher was run on in training; None where steps were cut off."""
    epochs, rows_ = len(run.curves.get("loss total", ())), run.data.get("rows")
    cut = run.settings.get("max_steps") is not None
    return None if cut or not epochs or not isinstance(rows_, int) else epochs * rows_


def _count(number: int | None, otherwise: str | None = None) -> str:
    return (otherwise or "-") if number is None else f"{number:,}"


def _mebibytes(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**20:,.1f} MiB" if size >= 2**17 else f"{size / 2**10:,.1f} KiB"
