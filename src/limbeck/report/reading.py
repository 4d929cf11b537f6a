"""Run folders into named groups of records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.checks import DataError, check_choice
from limbeck.record import FILE_NAME, RunRecord
from limbeck.report.bits import read_measurement
from limbeck.report.forecast_file import Saved, read_forecasts


_SEED = re.compile(r"seed[-_]?\d+")
TEACHER = "teacher"


@dataclass(frozen=True)
class Study:
    """Runs that belong in one report.

    Attributes:
        groups: Runs by name, the teacher's under "teacher" if it was trained here too.
        control: Which group the others are compared with, or None.
        summary: The record of the whole, where a demo wrote one.
        measurement: What was measured of them in bits, where it was.
        forecasts: What was forecast of them, by the folder it lies in.
        damaged: What is wrong with forecasts that cannot be read.
    """

    groups: dict[str, list[RunRecord]]
    control: str | None
    summary: RunRecord | None
    measurement: dict[str, Any] | None = None
    forecasts: Mapping[str, Saved] = field(default_factory=dict)
    damaged: Sequence[str] = ()


def read_study(runs: Sequence[Path | str], *, control: str | None = None) -> Study:
    """Read the records of run folders.

    Args:
        runs: Folders with ``record.json``; or folders that hold groups ``NAME/seedK/record.json``
            or runs ``NAME/record.json``.
        control: Group that the others are compared with. None takes the one that the demo names,
            or else a group called "control", or else the only one trained without a teacher.

    Raises:
        DataError: If a folder holds no records, or one cannot be read.
        ArgumentError: If ``control`` is not among the groups.
    """
    groups: dict[str, list[RunRecord]] = {}
    summary, measurement = None, None
    forecasts: dict[str, Saved] = {}
    damaged: list[str] = []
    for given in map(Path, runs):
        found = _records_in(given)
        if not found:
            raise DataError(
                f"{given}: expected a folder with {FILE_NAME}, or one of NAME/seedK/{FILE_NAME}; "
                "there is none. Give the folder of a run or of several."
            )
        measurement = read_measurement(given) or measurement
        told, wrong = read_forecasts(given)
        forecasts, damaged = forecasts | told, damaged + wrong
        for name, record in found:
            if record.kind == "demo":
                summary = record
            else:
                groups.setdefault(name, []).append(record)
    if not groups:
        raise DataError(
            f"{runs[0]}: expected runs beside {FILE_NAME}; there are none. Run it again."
        )
    if summary is not None:
        order = [*summary.settings.get("order", []), *groups]
        groups = {name: groups[name] for name in dict.fromkeys(order) if name in groups}
    if control is not None:
        check_choice("report", "control", control, groups)
    control = control or _control_of(groups, summary)
    return Study(groups, control, summary, measurement, forecasts, damaged)


def _records_in(folder: Path) -> list[tuple[str, RunRecord]]:
    """Return names and records: of the folder itself, of its groups, of its runs."""
    if folder.is_file():
        folder = folder.parent
    found = []
    if (folder / FILE_NAME).is_file():
        record = RunRecord.open(folder)
        found.append((_name_of(folder), record))
        if record.kind != "demo":
            return found
    below = [
        path.parent
        for pattern in (f"*/{FILE_NAME}", f"*/*/{FILE_NAME}")
        for path in sorted(folder.glob(pattern))
    ]
    runs = [run for run in below if run.parent == folder or _SEED.fullmatch(run.name)]
    return found + [(_name_of(run), RunRecord.open(run)) for run in runs]


def _name_of(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if _SEED.fullmatch(folder.name) else folder.name


def _control_of(groups: dict[str, list[RunRecord]], summary: RunRecord | None) -> str | None:
    named = summary.settings.get("control") if summary is not None else "control"
    if named in groups:
        return named
    plain = [
        name
        for name, records in groups.items()
        if name != TEACHER and all(record.kind == "train" for record in records)
    ]
    return plain[0] if len(plain) == 1 and len(groups) > 1 else None
