"""What a report says about settings, time and origin of its runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.record import RunRecord
from limbeck.report.sentences import what


_SHARE = "share "
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12  # characters of a digest, as messages about stores have them


def common_and_differing(
    groups: Mapping[str, Sequence[RunRecord]],
) -> tuple[dict[str, str], list[tuple[str, list[str]]]]:
    """Return the settings that all groups share, and the others with one value a group."""
    flat = {name: _of_group(records) for name, records in groups.items()}
    keys = list(dict.fromkeys(key for found in flat.values() for key in found))
    common: dict[str, str] = {}
    differing: list[tuple[str, list[str]]] = []
    for key in keys:
        values = [found.get(key, "") for found in flat.values()]
        if len(set(values)) == 1:
            common[what(key)] = values[0]
        else:
            differing.append((what(key), values))
    return common, differing


def distinct(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mappings without repetition, in their order."""
    unique: list[dict[str, Any]] = []
    for one in map(dict, found):
        if one not in unique:
            unique.append(one)
    return unique


def time_rows(
    groups: Mapping[str, Sequence[RunRecord]], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return each group's mean seconds and the mean share of each part of a step, in percent."""
    rows = []
    for name, records in groups.items():
        timed = [record.time for record in records if "seconds" in record.time]
        if not timed:
            continue
        parts = dict.fromkeys(key for time in timed for key in time if key.startswith(_SHARE))
        shares = {
            key.removeprefix(_SHARE): 100 * sum(time.get(key, 0.0) for time in timed) / len(timed)
            for key in parts
        }
        seconds = sum(time["seconds"] for time in timed) / len(timed)
        rows.append({"name": titles[name], "seconds": seconds, "shares": shares})
    return rows


def assumption_rows(
    groups: Mapping[str, Sequence[RunRecord]], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return what the runs measured of their loss's own assumptions [bits], over the seeds.

    Of several seeds the mean, from the lowest end of an interval to the highest.
    """
    rows = []
    for name, records in groups.items():
        found: dict[str, list[Mapping[str, float]]] = {}
        for record in records:
            for key, cell in record.results.get("last", {}).items():
                if isinstance(cell, Mapping) and "bits" in cell:
                    found.setdefault(key, []).append(cell)
        rows += [
            {
                "name": titles[name],
                "what": key,
                "bits": sum(cell["bits"] for cell in cells) / len(cells),
                "lower": min(cell["lower"] for cell in cells),
                "upper": max(cell["upper"] for cell in cells),
                "seeds": len(cells),
            }
            for key, cells in found.items()
        ]
    return rows


def _of_group(records: Sequence[RunRecord]) -> dict[str, str]:
    flat = [_flat(record.settings) for record in records]
    keys = dict.fromkeys(key for found in flat for key in found)
    return {
        key: first if all(found.get(key) == first for found in flat) else "varies over seeds"
        for key in keys
        for first in (flat[0].get(key, ""),)
    }


def _shortened(text: str) -> str:
    """Return a digest's first characters, which tell two apart; other text as it is."""
    return text[:_SHOWN] if _DIGEST.fullmatch(text) else text


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
            found |= _flat({str(at): one for at, one in enumerate(value)}, f"{name}.")
        elif isinstance(value, (list, tuple)):
            found[name] = ", ".join(map(str, value))
        else:
            found[name] = "-" if value is None else _shortened(str(value))
    return found
