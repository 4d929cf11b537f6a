"""Findings about sequences: repeated and missing positions, contexts that don't continue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from limbeck.limits.auditing.estimates import exact
from limbeck.limits.auditing.result import Finding
from limbeck.limits.auditing.table import Table
from limbeck.records import TeacherRecord


MOSTLY = 0.5  # share of forced tokens from which the text is said to be given


def find_sequences(table: Table) -> Iterator[Finding | str]:
    """Check the records that name their sequence."""
    within = np.array([record.sequence is not None for record in table.records])
    if not within.any():
        return
    number = len({record.sequence for record in table.records if record.sequence is not None})
    members = int(within.sum())
    if number < members:
        yield Finding(
            "dependent_records",
            "note",
            members,
            f"{members} records belong to {number} sequences: records of one sequence depend on "
            f"each other, so that bounds for independent draws hold with n = {number} sequences.",
            None,
            "Split training and held-out records by sequence, never within one.",
        )
    placed = np.array(
        [record.sequence is not None and record.position is not None for record in table.records]
    )
    if (within & ~placed).any():
        yield (
            f"positions: {int((within & ~placed).sum())} records name a sequence without a "
            "position. Their order cannot be checked."
        )
    if placed.any():
        yield from _positions(table, np.flatnonzero(placed))


@dataclass
class _Steps:
    """What was seen from one record of a sequence to its next, by number of the later record."""

    other_input: list[int] = field(default_factory=list)
    same_label: list[int] = field(default_factory=list)
    several: int = 0
    gaps: list[int] = field(default_factory=list)
    missing: int = 0
    broken: list[int] = field(default_factory=list)
    forced: int = 0
    followed: int = 0

    def add(self, old: TeacherRecord, new: TeacherRecord, number: int) -> None:
        """Take in a step within one sequence."""
        step = (new.position or 0) - (old.position or 0)
        if step > 1:
            self.gaps.append(number)
            self.missing += step - 1
        elif step == 0 and old.input != new.input:
            self.other_input.append(number)
        elif step == 0 and old.label == new.label:
            self.same_label.append(number)
        elif step == 0:
            self.several += 1
        elif isinstance(old.input, tuple) and isinstance(new.input, tuple):
            self.followed += 1
            if not _continues(old.input, new.input):
                self.broken.append(number)
            elif new.input[-1] != old.label:
                self.forced += 1


def _positions(table: Table, numbers: np.ndarray) -> Iterator[Finding]:
    # Strings and numbers may both name sequences, so they are told apart by type first.
    order = sorted(
        numbers.tolist(),
        key=lambda n: (
            isinstance(table.records[n].sequence, str),
            table.records[n].sequence,
            table.records[n].position,
        ),
    )
    steps = _Steps()
    for before, after in itertools.pairwise(order):
        old, new = table.records[before], table.records[after]
        if old.sequence == new.sequence:
            steps.add(old, new, after)
    # Where labels of one place differ, several draws are meant, and equal ones are some of them.
    yield from _found_twice(table, steps.other_input + steps.same_label * (not steps.several))
    yield from _found_gaps(table, steps.gaps, steps.missing)
    broken, followed, forced = steps.broken, steps.followed, steps.forced
    if broken:
        yield Finding(
            "broken_contexts",
            "serious",
            len(broken),
            f"{len(broken)} of {followed} contexts don't continue the one before them: they were "
            "packed, cut or tokenized in another way.",
            exact(len(broken) / followed, followed, unit="fraction of contexts"),
            "Build the student's inputs exactly as the teacher's: same tokenizer, template and "
            "packing.",
            table.lines(np.array(broken)),
        )
    if followed and forced > MOSTLY * (followed - len(broken)):
        yield Finding(
            "forced_text",
            "note",
            forced,
            f"After {forced} of {followed} records the text goes on with another token than the "
            "label drawn: contexts are of a given text, not of the teacher's own.",
            None,
            "Errors are measured on that text; the teacher's own may differ.",
        )


def _found_twice(table: Table, twice: list[int]) -> Iterator[Finding]:
    if twice:
        number = len(table.records)
        yield Finding(
            "repeated_positions",
            "warning",
            len(twice),
            f"{len(twice)} records have the sequence and position of another one, with the same "
            "label or another input.",
            exact(len(twice) / number, number, unit="fraction of records"),
            "Look for names of sequences that are used twice, and for lines written twice; several "
            "draws at one place belong into `count`, or need the same input.",
            table.lines(np.array(twice)),
        )


def _found_gaps(table: Table, gaps: list[int], missing: int) -> Iterator[Finding]:
    if gaps:
        total = len(table.records) + missing
        yield Finding(
            "missing_positions",
            "warning",
            len(gaps),
            f"{missing} positions are missing inside of sequences.",
            exact(missing / total, total, unit="fraction of positions"),
            "Find out why: positions that are missing by what was drawn there (an error, a filter) "
            "make the rest no fair sample.",
            table.lines(np.array(gaps)),
        )


def _continues(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether a context is the one before it and one more token, or the end of that."""
    if not new:
        return False
    kept = new[:-1]
    return len(kept) <= len(old) and kept == old[len(old) - len(kept) :]
