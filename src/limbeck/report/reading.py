"""Run folders into named groups of records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.checks import DataError, check_choice
from limbeck.record import FILE_NAME, RunRecord
from limbeck.report.beside import Beside, read_beside
from limbeck.report.forecast_file import Saved, read_forecasts


_SEED = re.compile(r"seed[-_]?\d+")
TEACHER = "teacher"


@dataclass(frozen=True)
class Study:
    """Runs that belong in one report.

    Attributes:
        groups: Runs by name, the teacher's under "teacher" if it was trained here too. Groups that
            are called alike have as much of their path before the name as tells them apart.
        control: Which group the others are compared with, or None.
        summary: The record of the whole, where one demo wrote one.
        beside: What was measured, weighed and planned of them, and saved there.
        forecasts: What was forecast of them, by the folder it lies in.
        chapters: Of demos: what they tell beside the comparison.
        remarks: What to mind about what was given.
    """

    groups: dict[str, list[RunRecord]]
    control: str | None
    summary: RunRecord | None
    beside: Beside = field(default_factory=Beside)
    forecasts: Mapping[str, Saved] = field(default_factory=dict)
    chapters: Sequence[Mapping[str, Any]] = ()
    remarks: Sequence[str] = ()

    @property
    def students(self) -> dict[str, list[RunRecord]]:
        """All groups but teachers that were trained here, unless there is nothing else."""
        found = {name: runs for name, runs in self.groups.items() if not is_teacher(name)}
        return found or self.groups

    @property
    def records(self) -> list[RunRecord]:
        """The records of all groups."""
        return [record for group in self.groups.values() for record in group]


def is_teacher(name: str) -> bool:
    """Say whether a group is the teacher that was trained for the others."""
    return name.rpartition("/")[2] == TEACHER


def read_study(runs: Sequence[Path | str], *, control: str | None = None) -> Study:
    """Read the records of run folders.

    Args:
        runs: Folders with ``record.json``; or folders that hold groups ``NAME/seedK/record.json``
            or runs ``NAME/record.json``. One given twice counts once.
        control: Group that the others are compared with. None takes the one that the demo names,
            or else a group called "control", or else the only one trained without a teacher.

    Raises:
        DataError: If a folder holds no records, or one cannot be read.
        ArgumentError: If ``control`` is not among the groups.
    """
    found: dict[Path, RunRecord] = {}
    summaries: dict[Path, RunRecord] = {}
    forecasts: dict[str, Saved] = {}
    remarks: list[str] = []
    folders = [path.parent if path.is_file() else path for path in map(Path, runs)]
    for given in folders:
        records = _records_in(given)
        if not records:
            raise DataError(
                f"{given}: expected a folder with {FILE_NAME}, or one of NAME/seedK/{FILE_NAME}; "
                "there is none. Give the folder of a run or of several."
            )
        for place, record in records:
            (summaries if record.kind == "demo" else found).setdefault(place, record)
        told, wrong = read_forecasts(given)
        forecasts, remarks = forecasts | told, remarks + wrong
    if not found:
        raise DataError(
            f"{runs[0]}: expected runs beside {FILE_NAME}; there are none. Run it again."
        )
    groups = _named(found)
    summary = next(iter(summaries.values())) if len(summaries) == 1 else None
    if summary is not None:
        order = [*summary.settings.get("order", []), *groups]
        groups = {name: groups[name] for name in dict.fromkeys(order) if name in groups}
    if control is not None:
        check_choice("report", "control", control, groups)
    control, told_control = (control, None) if control else _control_of(groups, summary)
    beside = read_beside(folders)
    return Study(
        groups,
        control,
        summary,
        beside,
        forecasts,
        list(_chapters(summaries)),
        [*remarks, *beside.damaged, *([told_control] if told_control else [])],
    )


def _records_in(folder: Path) -> list[tuple[Path, RunRecord]]:
    """Return places and records: of the folder itself, of its groups, of its runs."""
    folder = folder.absolute()
    found = []
    if (folder / FILE_NAME).is_file():
        record = RunRecord.open(folder)
        found.append((folder, record))
        if record.kind != "demo":
            return found
    below = [
        path.parent
        for pattern in (f"*/{FILE_NAME}", f"*/*/{FILE_NAME}")
        for path in sorted(folder.glob(pattern))
    ]
    runs = [run for run in below if run.parent == folder or _SEED.fullmatch(run.name)]
    return found + [(run, RunRecord.open(run)) for run in runs]


def _named(found: Mapping[Path, RunRecord]) -> dict[str, list[RunRecord]]:
    """Return groups by the shortest names that tell their folders apart."""
    of: dict[Path, list[RunRecord]] = {}
    for place, record in found.items():
        of.setdefault(place.parent if _SEED.fullmatch(place.name) else place, []).append(record)
    named = {}
    for place, records in of.items():
        alike = [other for other in of if other.name == place.name and other != place]
        depth = 1
        while any(other.parts[-depth:] == place.parts[-depth:] for other in alike):
            depth += 1
        named["/".join(place.parts[-depth:])] = records
    return named


def _chapters(summaries: Mapping[Path, RunRecord]) -> Iterator[dict[str, Any]]:
    """Yield the chapters of demos; of several each has its folder's name in its title."""
    for place, summary in summaries.items():
        for chapter in summary.settings.get("chapters", []):
            title = (
                chapter["title"] if len(summaries) == 1 else f"{chapter['title']} ({place.name})"
            )
            yield {**chapter, "title": title}


def _control_of(
    groups: dict[str, list[RunRecord]], summary: RunRecord | None
) -> tuple[str | None, str | None]:
    """Return the control, and what is to be said where it cannot be known."""
    named = summary.settings.get("control") if summary is not None else "control"
    if named in groups:
        return named, None
    plain = [
        name
        for name, records in groups.items()
        if not is_teacher(name) and all(record.kind == "train" for record in records)
    ]
    if len(plain) > 1 and len(plain) < len([name for name in groups if not is_teacher(name)]):
        return None, (
            f"{', '.join(plain)} were trained without a teacher: name the one to compare with "
            "(--control)."
        )
    return (plain[0] if len(plain) == 1 and len(groups) > 1 else None), None
