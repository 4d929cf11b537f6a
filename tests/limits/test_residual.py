"""Certificates of tables without a teacher, and the shift check, on laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.distance.answers import Answers, missing_mass_of
from limbeck.limits.distance.betting import betting_interval
from limbeck.limits.distance.residual import residual_certificate, shift_check
from limbeck.records import TeacherRecord


def world(seed, inputs=40, labels=30):
    """Return a generator, an input law and teacher rows."""
    generator = np.random.default_rng(seed)
    rho = generator.dirichlet(np.full(inputs, 0.7))
    rows = np.maximum(generator.dirichlet(np.full(labels, 0.3), inputs), 1e-12)
    return generator, rho, rows / rows.sum(1, keepdims=True)


def answers(generator, rho, rows, n, *, whole=False):
    """Draw records of a teacher."""
    inputs = generator.choice(len(rho), n, p=rho)
    above = rows.cumsum(1)[inputs] > generator.random((n, 1))
    labels = above.argmax(1)
    logs = np.log(rows)
    return [
        TeacherRecord(s, a, float(logs[s, a]), row=logs[s] if whole else None)
        for s, a in zip(inputs.tolist(), labels.tolist(), strict=True)
    ]


def risk_of_table(known, rho, rows):
    """Return the total variation of a table that shares the residual uniformly."""
    total = 0.0
    for s, row in enumerate(rows):
        table = np.full(len(row), 1 / len(row))
        if s in known.rows:
            table = row
        elif s in known.reports:
            seen = list(known.reports[s])
            table = np.full(len(row), 0.0)
            table[seen] = row[seen]
            rest = [a for a in range(len(row)) if a not in seen]
            table[rest] = max(0.0, 1 - row[seen].sum()) / max(1, len(rest))
        total += rho[s] * 0.5 * np.abs(table - row).sum()
    return total


@pytest.mark.parametrize("whole", [False, True])
def test_the_bound_holds_for_tables(whole):
    missed, loose = 0, []
    for seed in range(30):
        generator, rho, rows = world(seed)
        known = Answers(answers(generator, rho, rows, 80, whole=whole))
        fresh = generator.choice(len(rho), 150, p=rho).tolist()
        found = residual_certificate(known.residuals(fresh), whole_rows=whole, confidence=0.8)
        risk = risk_of_table(known, rho, rows)
        exact = float(rho @ known.residuals(range(len(rho))))
        assert risk <= exact + 1e-12
        missed += found.upper < exact
        loose.append(found.upper - exact)
        assert found.lower == 0
    assert missed <= 30 * 0.2 + 3 * np.sqrt(30 * 0.16)
    assert np.mean(loose) < 0.12


def test_residuals_by_hand():
    half, eighth = np.log(0.5), np.log(0.125)
    known = Answers(
        [
            TeacherRecord("a", 0, half),
            TeacherRecord("a", 0, half, count=3),
            TeacherRecord("a", 1, np.log(0.25)),
            TeacherRecord("b", 3, row=np.log([0.25] * 4)),
            TeacherRecord("c", 5, top=((2, half), (4, eighth))),  # 5 is censored
            TeacherRecord((1, 2), 0, half),
        ]
    )
    found = known.residuals(["a", "b", "c", (1, 2), (1,), "z"])
    assert found == pytest.approx([0.25, 0, 0.375, 0.5, 1, 1])
    assert not known.whole
    assert known.contradictions() == []


def test_order_and_repetition_do_not_matter():
    generator, rho, rows = world(3)
    records = answers(generator, rho, rows, 60)
    inputs = list(range(40))
    found = Answers(records).residuals(inputs)
    assert Answers(records[::-1] + records[:20]).residuals(inputs) == pytest.approx(found)


def test_clopper_pearson_for_whole_rows():
    found = residual_certificate(np.repeat([0.0, 1.0], [97, 3]), whole_rows=True)
    assert found.upper == pytest.approx(0.0757107938)
    assert found.settings["interval"] == "Clopper-Pearson"
    beta = stats.beta.isf(0.05, 4, 97)
    assert found.upper == pytest.approx(beta)
    betting = residual_certificate(np.repeat([0.0, 1.0], [97, 3]))
    assert betting.upper >= found.upper
    with pytest.raises(DataError, match="0 or 1 for every input"):
        residual_certificate(np.array([0.0, 0.5]), whole_rows=True)


def test_shift_is_seen_and_no_shift_is_not_claimed():
    generator, rho, rows = world(5)
    known = Answers(answers(generator, rho, rows, 300))
    other = rho[::-1]
    change = float((other - rho) @ known.residuals(range(len(rho))))
    false = missed = 0
    for _ in range(30):
        old, same = (known.residuals(generator.choice(40, 250, p=rho).tolist()) for _ in range(2))
        new = known.residuals(generator.choice(40, 250, p=other).tolist())
        false += shift_check(old, same).lower > 0
        found = shift_check(old, new)
        missed += not found.lower <= change <= found.upper
    assert false <= 30 * 0.05 + 3 * np.sqrt(30 * 0.0475)
    assert missed <= 30 * 0.05 + 3 * np.sqrt(30 * 0.0475)
    far = shift_check(np.zeros(300), np.full(300, 0.4))
    assert far.lower > 0.3
    assert far.value == pytest.approx(0.4)
    one, other = np.linspace(0, 0.5, 200), np.linspace(0.1, 0.9, 150)
    old, new = (betting_interval(x, confidence=0.95) for x in (one, other))
    both = shift_check(one, other, confidence=0.9)
    assert (both.lower, both.upper) == pytest.approx((new.lower - old.upper, new.upper - old.lower))
    back = shift_check(np.full(300, 0.4), np.zeros(300))
    assert (back.value, back.lower, back.upper) == pytest.approx(
        (-0.4, -far.upper, -far.lower), abs=0.01
    )


def test_the_missing_mass_of_a_set():
    generator, rho, rows = world(7, inputs=60, labels=60)
    joint, found = (rho[:, None] * rows), []
    for _ in range(40):
        records = answers(generator, rho, rows, 200)
        seen = {(r.input, r.label) for r in records}
        missing = joint.sum() - sum(joint[s, a] for s, a in seen)
        estimate = missing_mass_of(records, confidence=0.95)
        found.append((estimate.value - missing, estimate.lower <= missing <= estimate.upper))
    errors = np.array([error for error, _ in found])
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(40) + 0.005
    assert np.mean([inside for _, inside in found]) > 0.85
    assert estimate.settings["method"] == "Rao-Blackwellised Good-Turing over pairs"


def test_the_missing_mass_by_hand():
    quarter = np.log(0.25)
    records = [TeacherRecord(s, a, quarter) for s, a in [(0, 0), (0, 0), (0, 2), (1, 0), (1, 3)]]
    # u = 0.5, 0.5, 0.5 + 0.25, and twice 0.5 + 0.25.
    found = missing_mass_of(records, confidence=0.95)
    assert found.value == pytest.approx((0.5 + 0.5 + 0.75 + 0.75 + 0.75) / 5)
    # Deviations from the mean 0.65, two of 0.15 and three of 0.1, times 5/4. Then draws that make
    # each other old: the twins of pair (0, 0), and both of input 1, each time 2 * 0.25^2.
    squares = (2 * 0.15**2 + 3 * 0.1**2) * 5 / 4 + 2 * 2 * 0.25**2
    assert found.settings["standard_error"] == pytest.approx(np.sqrt(squares) / 5)
    whole = [TeacherRecord(s, 0, row=np.log([0.5, 0.5])) for s in (1, 1, 2)]
    assert missing_mass_of(whole, confidence=0.95).value == pytest.approx(1 / 3)
    assert missing_mass_of([TeacherRecord(0, 0)] * 3, confidence=0.95).value == 0
    assert missing_mass_of([TeacherRecord(0, 0)] * 3, confidence=0.95).upper > 0.9
    assert missing_mass_of([], confidence=0.95) is None
    # With even odds nothing was missed ten times of what has probability ln(4) / 10.
    sure = missing_mass_of([TeacherRecord(0, 0)] * 10, confidence=0.5)
    assert sure.upper >= np.log(4) / 10


def test_contradictions_are_said():
    records = [TeacherRecord(0, 0, -0.1), TeacherRecord(0, 0, -0.2), TeacherRecord(0, 1, -0.5)]
    first, second = Answers(records).contradictions()
    assert "1 pairs" in first
    assert "up to 0.1 nats apart" in first
    assert "at 1 inputs the probabilities of the labels seen sum to more than 1" in second


def test_wrong_arguments_are_refused():
    with pytest.raises(DataError, match="labels alone"):
        Answers([TeacherRecord(0, 1)])
    with pytest.raises(ArgumentError, match="`confidence` between 0 and 1"):
        residual_certificate(np.zeros(3), confidence=1.5)
    with pytest.raises(ArgumentError, match="`confidence` between 0 and 1"):
        shift_check(np.zeros(3), np.zeros(3), confidence=0.0)
    with pytest.raises(DataError, match="at least one value"):
        shift_check(np.zeros(0), np.zeros(3))
