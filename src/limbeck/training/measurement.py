"""What a measurement of teachers and students gives: readable, comparable, saved as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from limbeck.checks import ArgumentError, nearest
from limbeck.estimates import Estimate
from limbeck.files import write_text
from limbeck.information.pid_estimate import PIDEstimate
from limbeck.ranks import world_size
from limbeck.record import hardware, versions
from limbeck.training.verdict import reason_of, verdict_of


FILE_NAME = "measurement.json"


@dataclass(frozen=True, eq=False)
class Entry:
    """One pair of representations.

    Attributes:
        teacher: The teacher's label.
        student: The student's label.
        teacher_layer: Which layer of it: a dotted name, "penultimate" or "logits".
        student_layer: The same of the student.
        estimate: The decomposition [bits].
        gap: The student's cross-entropy less the teacher's, by their own class scores on the same
            rows [bits]; None where a network has no scores for these targets. On the grid behind
            :func:`limbeck.forecast` it orders what distillation brings better than bits do.
    """

    teacher: str
    student: str
    teacher_layer: str
    student_layer: str
    estimate: PIDEstimate
    gap: Estimate | None = None

    def __str__(self) -> str:
        """Return who is compared, the rows, the decomposition line by line, and the verdict."""
        lines = [f"{self.title}, n = {self.estimate.unique_teacher.n}", *self.estimate.lines()]
        if self.gap is not None:
            lines.append(f"{'cross-entropy gap of own scores':38}{self.gap}")
        lines.append(f"{self.verdict}: {reason_of(self.estimate, self.gap)}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.estimate.warnings)])

    @property
    def verdict(self) -> str:
        """What to do, in words: by the gap of own scores, by bits where there is none."""
        return verdict_of(self.estimate, self.gap)

    @property
    def title(self) -> str:
        """Labels and layers in a few words."""
        return f"{self.teacher} ({self.teacher_layer}) to {self.student} ({self.student_layer})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "teacher": self.teacher,
            "student": self.student,
            "teacher_layer": self.teacher_layer,
            "student_layer": self.student_layer,
            "estimate": self.estimate.to_dict(),
            "gap": None if self.gap is None else self.gap.to_dict(),
            "verdict": self.verdict,
        }


@dataclass(frozen=True, eq=False)
class Measurement:
    """What teachers know about the targets and students lack, in bits, with intervals.

    Attributes:
        entries: One for each teacher, student, teacher's layer and student's layer.
        accuracy: Share of rows where a network's own class scores are right, by its label and side
            ("teacher" or "student"); empty where there are no class scores for these targets.
        cross_entropy: Of a network's own class scores, by side and label [bits].
        data: What was measured on: name, rows, how many were used and left out.
        settings: How it was made.
        warnings: What to mind, beside the warnings of each entry.
    """

    entries: tuple[Entry, ...]
    accuracy: Mapping[str, Mapping[str, Estimate]]
    cross_entropy: Mapping[str, Mapping[str, Estimate]]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def estimate(self) -> PIDEstimate:
        """The decomposition, where there is one entry.

        Raises:
            ArgumentError: If there are several.
        """
        self._check_one()
        return self.entries[0].estimate

    @property
    def distillable(self) -> Estimate:
        """What only the teacher knows [bits], where there is one entry."""
        return self.estimate.distillable

    @property
    def distilled(self) -> Estimate:
        """What both know [bits], where there is one entry."""
        return self.estimate.distilled

    @property
    def unique_student(self) -> Estimate:
        """What only the student knows [bits], where there is one entry."""
        return self.estimate.unique_student

    @property
    def synergistic(self) -> Estimate:
        """What only both together know [bits], where there is one entry."""
        return self.estimate.synergistic

    @property
    def verdict(self) -> str:
        """What to do, in words, where there is one entry."""
        self._check_one()
        return self.entries[0].verdict

    def select(self, **wanted: object) -> Measurement:
        """Return the entries with these labels and layers as a measurement of their own.

        Args:
            wanted: Any of ``teacher``, ``student``, ``teacher_layer``, ``student_layer``.

        Raises:
            ArgumentError: If a name is another, or no entry has that label or layer.
        """
        names = ("teacher", "student", "teacher_layer", "student_layer")
        found = self.entries
        for name, value in wanted.items():
            if name not in names:
                raise ArgumentError(
                    f"select: expected {', '.join(names)}; got {name!r}.{nearest(name, names)}"
                )
            known = list(dict.fromkeys(getattr(entry, name) for entry in found))
            found = tuple(entry for entry in found if getattr(entry, name) == str(value))
            if not found:
                raise ArgumentError(
                    f"select: expected `{name}` to be one of {', '.join(known)}; got {value!r}."
                    f"{nearest(str(value), known)}"
                )
        return Measurement(
            found, self.accuracy, self.cross_entropy, self.data, self.settings, self.warnings
        )

    def ranking(self) -> tuple[Entry, ...]:
        """Return one entry a teacher, the one to expect most of for this student first.

        By the gap of own scores where all have one, else by distillable bits, those that are
        unresolved last; two whose intervals overlap need not differ.

        Raises:
            ArgumentError: If there are several students, or several layers of one.
        """
        self._check_single("ranking", "student", "teacher")

        scored = all(entry.gap is not None for entry in self.entries)

        def key(entry: Entry) -> tuple[bool, float]:
            found = entry.gap if scored and entry.gap else entry.estimate.distillable
            return found.status == "unresolved", -found.value

        return tuple(sorted(self.entries, key=key))

    def trajectory(self) -> tuple[Entry, ...]:
        """Return one entry a student or checkpoint, in the order in which they were given.

        Raises:
            ArgumentError: If there are several teachers, or several layers of one.
        """
        self._check_single("trajectory", "teacher", "student")
        return self.entries

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; what is not finite becomes None."""
        return plain(
            {
                "format": 1,
                "kind": "measurement",
                "unit": "bits",
                "data": self.data,
                "entries": [entry.to_dict() for entry in self.entries],
                "accuracy": _dicts(self.accuracy),
                "cross_entropy": _dicts(self.cross_entropy),
                "warnings": self.warnings,
                "settings": self.settings,
                "versions": versions(),
                "hardware": hardware(),
            }
        )

    def save(self, folder: Path | str) -> Path:
        """Write ``measurement.json`` and the figures as SVG; under a launcher one process does.

        ``atoms.svg`` has a bar an entry, ``trajectory.svg`` is there for several students of one
        teacher, ``layers.svg`` for several layers of one pair.

        Args:
            folder: Made if absent; an earlier measurement in it is replaced.

        Returns:
            The folder.

        Raises:
            StorageError: If it cannot be written.
        """
        from limbeck.report import atoms

        folder = Path(folder)
        if world_size() > 1 and dist.get_rank() > 0:
            return folder
        record = self.to_dict()
        write_text(folder / FILE_NAME, json.dumps(record, indent=1, allow_nan=False) + "\n")
        figures = atoms.figures_of(record)
        for name in atoms.FIGURES:
            if name in figures:
                write_text(folder / name, figures[name])
            else:  # of an earlier measurement
                (folder / name).unlink(missing_ok=True)
        return folder

    def __str__(self) -> str:
        """Return the entries, how good the networks are themselves, and the warnings."""
        parts = [str(entry) for entry in self.entries]
        for side, found in self.accuracy.items():
            parts += [
                f"{'accuracy of ' + label + ' (' + side + ')':38}{value}"
                for label, value in found.items()
            ]
        return "\n".join([*parts, *(f"warning: {text}" for text in self.warnings)])

    def _check_one(self) -> None:
        if len(self.entries) != 1:
            raise ArgumentError(
                f"Measurement: expected one entry to read this from; got {len(self.entries)}. "
                "Choose with .select(teacher=..., student=..., teacher_layer=..., "
                "student_layer=...), or go through .entries."
            )

    def _check_single(self, where: str, fixed: str, free: str) -> None:
        others = {getattr(entry, fixed) for entry in self.entries}
        labels = [getattr(entry, free) for entry in self.entries]
        if len(set(labels)) < len(labels):  # entries are all pairs of what was given
            raise ArgumentError(
                f"{where}: expected one {fixed} and one layer of each network; got "
                f"{len(others)} and {len(labels)} entries for {len(set(labels))} {free}s. Choose "
                f"with .select({fixed}=..., teacher_layer=..., student_layer=...)."
            )


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: numbers of numpy as Python's, NaN and infinity as None.

    Example:
        >>> plain({"bits": (1.0, float("nan")), 3: {"n": True}})
        {'bits': [1.0, None], '3': {'n': True}}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _dicts(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, Any]]:
    return {
        side: {label: value.to_dict() for label, value in labelled.items()}
        for side, labelled in found.items()
    }
