"""Findings about sequences."""

import pytest

from limbeck.limits.auditing.audit import audit
from limbeck.records import TeacherRecord


def text(sequence, tokens, *, start=2, log=-0.5, **fields):
    """Return one record a token, whose input is all tokens before it."""
    return [
        TeacherRecord(
            tuple(tokens[:place]), tokens[place], log, sequence=sequence, position=place, **fields
        )
        for place in range(start, len(tokens))
    ]


CLEAN = [*text("a", [5, 6, 7, 8, 9, 4]), *text("b", [1, 2, 3, 4, 5]), *text(3, [1, 1, 2, 2])]


def names(found):
    return {finding.name for finding in found.faults}


def test_a_clean_set_has_dependent_records_and_no_fault():
    found = audit(CLEAN)
    assert names(found) == set()
    assert "forced_text" not in found
    finding = found["dependent_records"]
    assert (finding.severity, finding.records) == ("note", 9)
    assert "n = 3 sequences" in finding.text
    assert names(audit(list(reversed(CLEAN)))) == set()
    assert "dependent_records" not in audit([TeacherRecord(0, 0, sequence="a")])


def test_windows_of_the_context_are_no_break():
    cut = [
        TeacherRecord(r.input[-3:], r.label, -0.5, sequence=r.sequence, position=r.position)
        for r in CLEAN
    ]
    assert names(audit(cut)) == set()


def test_contexts_that_were_packed_otherwise():
    made = list(CLEAN)
    made[2] = TeacherRecord((9, *made[2].input), made[2].label, -0.5, sequence="a", position=4)
    finding = audit(made)["broken_contexts"]
    assert (finding.severity, finding.records, finding.lines) == ("serious", 1, (3,))
    assert finding.bias.value == pytest.approx(1 / 6)
    assert finding.bias.unit == "fraction of contexts"


def test_contexts_of_a_given_text():
    made = [
        TeacherRecord(r.input, r.label + 10, -0.5, sequence=r.sequence, position=r.position)
        for r in CLEAN
    ]
    found = audit(made)
    assert found["forced_text"].severity == "note"
    assert names(found) == set()


def test_positions_that_are_missing():
    made = [r for r in CLEAN if not (r.sequence == "a" and r.position in (3, 4))]
    finding = audit(made)["missing_positions"]
    assert finding.bias.value == pytest.approx(2 / 9)
    assert finding.lines == (2,)


def test_positions_that_come_twice():
    finding = audit([*CLEAN, CLEAN[1]])["repeated_positions"]
    assert (finding.records, finding.lines) == (1, (10,))
    clash = TeacherRecord((0, 0), 8, -0.5, sequence="a", position=3)
    assert audit([*CLEAN, clash])["repeated_positions"].records >= 1


def test_several_draws_at_one_place_are_meant():
    again = [
        TeacherRecord(r.input, label, -1.5, sequence=r.sequence, position=r.position)
        for r in CLEAN
        for label in (r.label, 50)
    ]
    made = [
        *(
            TeacherRecord(r.input, r.label, -1.5, sequence=r.sequence, position=r.position)
            for r in CLEAN
        ),
        *again,
    ]
    assert "repeated_positions" not in audit(made)


def test_sequences_without_positions():
    found = audit([TeacherRecord(s, 0, -0.5, sequence="a") for s in range(5)])
    assert any("5 records name a sequence without a position" in t for t in found.not_testable)
