"""What ``measure``, ``weigh`` and ``plan`` left beside runs, read with care."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


MEASUREMENT, WEIGHTS, PLAN = "measurement.json", "weights.json", "plan.json"
_NEEDED = {
    MEASUREMENT: ("entries", "warnings"),
    WEIGHTS: ("grid", "advice", "advised", "verdict"),
    PLAN: ("hard_labels", "sampled_probabilities", "soft_labels", "error"),
}
_BY = {MEASUREMENT: "limbeck measure", WEIGHTS: "limbeck weigh", PLAN: "limbeck plan --json"}
_KIND = {MEASUREMENT: "measurement", WEIGHTS: "weights"}


@dataclass(frozen=True)
class Beside:
    """Results of other subcommands, each by the folder it lies in, as seen from the one given.

    Attributes:
        measurements: ``measurement.json`` of ``limbeck measure --out``.
        weights: ``weights.json`` of ``limbeck weigh --out``.
        plans: ``plan.json``, what ``limbeck plan --json`` prints.
        damaged: A sentence for each file of these names that is something else.
    """

    measurements: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    weights: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    plans: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    damaged: Sequence[str] = ()


def read_beside(folders: Sequence[Path]) -> Beside:
    """Read what lies in folders of runs and down to two folders below."""
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in _NEEDED}
    damaged: list[str] = []
    for name in _NEEDED:
        for place, path in _places(folders, name):
            try:
                found[name][place] = _read(path)
            except ValueError as problem:
                damaged.append(
                    f"{place}/{name}: expected what {_BY[name]} writes; {problem}. It is left "
                    "out: write it again."
                )
    return Beside(found[MEASUREMENT], found[WEIGHTS], found[PLAN], damaged)


def _places(folders: Sequence[Path], name: str) -> Iterator[tuple[str, Path]]:
    seen: set[Path] = set()
    for folder in folders:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            for path in sorted(folder.glob(pattern)):
                if path.is_file() and path.resolve() not in seen:
                    seen.add(path.resolve())
                    within = path.parent.relative_to(folder).as_posix()
                    yield (
                        (within if within != "." and len(folders) == 1 else str(path.parent)),
                        path,
                    )


def _read(path: Path) -> dict[str, Any]:
    """Return what the file holds.

    Raises:
        ValueError: If it is no JSON, or lacks what its kind has.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise ValueError(f"{problem}") from None
    kind = _KIND.get(path.name)
    if not isinstance(found, dict) or found.get("kind", kind) != kind:
        raise ValueError("it holds something else")
    missing = [name for name in _NEEDED[path.name] if name not in found]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    return found
