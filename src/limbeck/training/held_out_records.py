"""Which teacher records a certificate can use, what depends on what, and what to be warned of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.checks import ArgumentError, DataError, check_choice
from limbeck.limits.distance.answers import Answers
from limbeck.limits.distance.readings import Unit
from limbeck.records import Input, Records, TeacherRecord, as_records
from limbeck.training.certifying import KINDS, Student


UNITS = ("auto", "record", "input", "sequence")


@dataclass(frozen=True, eq=False)
class HeldOutRecords:
    """Records that a student can be measured on.

    Attributes:
        records: In the order given.
        left_out: How many were left out, by reason.
    """

    records: list[TeacherRecord]
    left_out: dict[str, int]


def read(records: Any, where: str) -> Records:
    """Return usable records from whatever they are given as.

    Raises:
        DataError: If there are none, or the file cannot be read.
    """
    return as_records(records).needed(where)


def inputs_of(given: Any, where: str) -> list[Input]:
    """Return inputs from a list of them (indices, token ids, strings) or of records, or a path.

    Raises:
        ArgumentError: If it is something else.
    """
    if isinstance(given, (str, bytes)) or hasattr(given, "__fspath__"):
        return [record.input for record in as_records(str(given)).records]
    if not isinstance(given, Iterable):
        raise ArgumentError(
            f"{where}: expected a list of inputs or records; got {type(given).__name__}."
        )
    found: list[Input] = []
    for one in given:
        if isinstance(one, TeacherRecord):
            found.append(one.input)
        elif isinstance(one, str):
            found.append(one)
        elif np.ndim(one) == 0:
            found.append(int(one))
        else:
            found.append(tuple(int(token) for token in one))
    return found


def held_out(
    where: str, students: Sequence[Student], given: Records, trained_on: Sequence[Input]
) -> HeldOutRecords:
    """Leave out what the students were trained on, and what one of them cannot be given.

    Raises:
        DataError: If nothing is left.
        ArgumentError: If there is no kind of input that all can take.
    """
    kind = common_kind(where, students, [record.input for record in given.records])
    trained = frozenset(trained_on)
    left_out: Counter[str] = Counter()
    for reason, count in given.left_out.items():
        left_out[f"faulty lines ({reason})"] += count
    kept: list[TeacherRecord] = []
    reasons: dict[Input, str | None] = {}
    for record in given.records:
        if record.input not in reasons:
            refusals = (student.refusal(record.input, kind) for student in students)
            reasons[record.input] = (
                "that the student was trained on"
                if record.input in trained
                else next((one for one in refusals if one is not None), None)
            )
        reason = reasons[record.input]
        if reason is None:
            kept.append(record)
        else:
            left_out[reason] += 1
    if not kept:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise DataError(
            f"{where}: expected records of inputs that were held out from training and that "
            f"{students[0].name} can take; got none ({why}). Collect answers for other inputs."
        )
    return HeldOutRecords(kept, dict(left_out))


def common_kind(where: str, students: Sequence[Student], inputs: Sequence[Input]) -> type:
    """Return the commonest kind of input that all students can take.

    Raises:
        ArgumentError: If there is none; what is missing is said.
    """
    counts = Counter(type(one) for one in inputs)
    for kind, _ in counts.most_common():
        if all(student.lacks(kind) is None for student in students):
            return kind
    commonest = counts.most_common(1)[0][0]
    lacking = next(one for one in students if one.lacks(commonest) is not None)
    raise ArgumentError(
        f"{where}: expected inputs that {lacking.name} can take; got "
        f"{', '.join(f'{count} of kind {KINDS[kind]}' for kind, count in counts.most_common())}. "
        f"{lacking.lacks(commonest)}"
    )


def grouped(
    records: Sequence[TeacherRecord], units: str, warnings: list[str]
) -> tuple[Unit, np.ndarray | None]:
    """Return what is independent, and each record's group; warn where it had to be guessed.

    Raises:
        ArgumentError: If ``units`` is unknown, or sequences are asked for where there are none.
    """
    check_choice("certify", "units", units, UNITS)
    in_sequences = sum(record.sequence is not None for record in records)
    draws: Counter[Input] = Counter()
    for record in records:
        draws[record.input] += record.count
    repeated = sum(count for count in draws.values() if count > 1)
    if units == "auto" and in_sequences:
        units = "sequence"
    elif units == "auto":
        # So many draws at each input are a design; inputs that are drawn come unequally often.
        designed = repeated and len(set(draws.values())) == 1
        units = "input" if designed else "record"
        if repeated and not designed:
            warnings.append(
                f"{repeated} records share their input with another one: they are taken as "
                "independent draws of inputs. Where several labels were drawn for each input, say "
                "that inputs are the units."
            )
    if units == "sequence" and not in_sequences:
        raise ArgumentError(
            "certify: expected records with `sequence` for `units` = 'sequence'; got none. Leave "
            "it out."
        )
    if units == "record":
        return "record", None
    if units == "sequence" and in_sequences < len(records):
        alone = len(records) - in_sequences
        warnings.append(f"{alone} records name no sequence: each is taken as one of its own.")
    keys: list[Any] = [
        ("input", record.input)
        if units == "input"
        else ("alone", place)
        if record.sequence is None
        else ("sequence", record.sequence)
        for place, record in enumerate(records)
    ]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    unit: Unit = "input" if units == "input" else "sequence"
    return unit, np.array([number[key] for key in keys])


def warnings_of(records: Sequence[TeacherRecord]) -> list[str]:
    """Return what makes these records doubtful as a measure of one teacher."""
    found = list(Answers(records).contradictions())
    other = sorted({record.temperature for record in records} - {1.0})
    if other:
        count = sum(record.temperature != 1 for record in records)
        shown = ", ".join(f"{one:g}" for one in other[:3])
        found.append(
            f"{count} labels were drawn at temperature {shown}: distances are those to the law "
            "that was drawn from, and only where the reported probabilities are of that law."
        )
    names = {record.teacher for record in records if record.teacher is not None}
    if len(names) > 1:
        found.append(f"the records name {len(names)} teachers: the mixture of them is measured.")
    bare = sum(
        record.log_probability is None and not record.top and record.row is None
        for record in records
    )
    if bare:
        found.append(
            f"{bare} records have a label alone among others with numbers: each is bracketed by "
            "what a probability can be, in case numbers are missing where they are small."
        )
    return found
