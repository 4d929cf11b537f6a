"""The missing mass by unit: plain loops, single draws, and coverage on dependent tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck import TeacherRecord, audit, certify, plan
from limbeck.checks import DataError
from limbeck.limits.distance.answers import missing_mass_of
from limbeck.limits.planning import pilot_records
from limbeck.limits.planning.pilot_records import fit_law
from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.mass_by_unit import mass_by_unit
from limbeck.limits.tables.missing_mass import good_turing, pair_good_turing


def slow(rows, units, *, told):
    """Return value and error again, unit by unit, from (input, label, probability) records."""
    n, names = len(rows), sorted(set(units))

    def gain(unit, without):
        """Return x of a unit where the units ``without`` are left out."""
        seen = {row[:2] for row, one in zip(rows, units, strict=True) if one not in without}
        law = {row[:2]: row[2] for row in rows}
        total = 0.0
        for (s, a, _), one in zip(rows, units, strict=True):
            if one != unit:
                continue
            if told:
                total += 1 - sum(
                    p for (other, b), p in law.items() if (other, b) in seen and other == s
                )
            else:
                total += (s, a) not in seen
        return total

    x = {one: gain(one, {one}) for one in names}
    value = sum(x.values()) / n
    own = sum((x[one] - units.count(one) * value) ** 2 for one in names)
    shared = sum(
        (gain(g, {g, h}) - x[g]) * (gain(h, {g, h}) - x[h]) for g in names for h in names if g != h
    )
    if len(names) < 2:
        return value, math.inf
    return value, math.sqrt(own * len(names) / (len(names) - 1) + shared) / n


LAW = np.array([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=14
    ),
    st.booleans(),
    st.booleans(),
)
def test_it_is_leaving_out_each_unit_and_each_two(drawn, told, single):
    units = list(range(len(drawn))) if single else [unit for *_, unit in drawn]
    units = np.unique(units, return_inverse=True)[1].tolist()
    rows = [(s, a, float(LAW[s, a])) for s, a, _ in drawn]
    at, labels, law = (np.array(column) for column in zip(*rows, strict=True))
    found = mass_by_unit(
        at,
        labels,
        np.ones(len(rows), int),
        units=None if single else np.array(units),
        probabilities=law if told else None,
    )
    value, error = slow(rows, units, told=told)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.error == pytest.approx(error, abs=1e-7)
    sizes = np.bincount(units)
    assert found.units == pytest.approx(len(rows) ** 2 / (sizes @ sizes))
    if single:  # units of one draw each are single draws
        again = mass_by_unit(
            at,
            labels,
            np.ones(len(rows), int),
            units=np.array(units),
            probabilities=law if told else None,
        )
        assert again.value == pytest.approx(value, abs=1e-12)
        assert again.error == pytest.approx(found.error, abs=1e-12)


def test_popular_inputs_are_summed_by_input():
    """More units at one input than are paired: alone it makes no difference."""
    random = np.random.default_rng(0)
    row = random.dirichlet(np.full(60, 0.6))
    labels = random.choice(60, size=40, p=row)
    rows = [(0, int(a), float(row[a])) for a in labels]
    units = np.arange(40) // 2
    found = mass_by_unit(
        np.zeros(40, int), labels, np.ones(40, int), units=units, probabilities=row[labels]
    )
    value, error = slow(rows, units.tolist(), told=True)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.error == pytest.approx(error, rel=0.1)  # labels of two units each are apart


def test_single_draws_are_good_and_turing():
    random = np.random.default_rng(1)
    at, labels = random.integers(0, 20, 300), random.integers(0, 5, 300)
    law = random.dirichlet(np.ones(5), 20)
    counts = PairCounts(5)
    counts.add(at, labels, probabilities=law[at, labels])
    ones = np.ones(300, int)
    plain = mass_by_unit(at, labels, ones)
    assert plain.value == pytest.approx(good_turing(counts.pairs.counts))
    once, twice = ((counts.pairs.counts == k).sum() for k in (1, 2))
    squared = once * (1 - once / 300) * 300 / 299 + 2 * twice  # Esty's
    assert plain.error == pytest.approx(math.sqrt(squared) / 300)
    sharper = mass_by_unit(at, labels, ones, probabilities=law[at, labels])
    assert sharper.value == pytest.approx(pair_good_turing(counts))
    assert sharper.error < plain.error
    assert plain.times.tolist() == counts.pairs.counts.tolist()


def test_the_error_of_single_draws_is_that_of_simulation():
    """Reference 4 E: the sharper form spreads 6.5 times less at n = 32 000, 3 times at 2 000."""
    random = np.random.default_rng(2)
    size, n, runs = 60, 2000, 60
    rho = np.arange(1.0, size + 1) ** -1.1
    rho /= rho.sum()
    law = random.dirichlet(np.full(size, 0.3), size)
    away, said = [], []
    for _ in range(runs):
        at = random.choice(size, size=n, p=rho)
        labels = (random.random((n, 1)) > law[at].cumsum(1)).sum(1).clip(0, size - 1)
        met = np.zeros((size, size), bool)
        met[at, labels] = True
        found = mass_by_unit(at, labels, np.ones(n, int), probabilities=law[at, labels])
        away.append(found.value - float((rho[:, None] * law * ~met).sum()))
        said.append(found.error)
    assert np.std(away) == pytest.approx(np.mean(said), rel=0.35)  # 4 / sqrt(2 runs)


def topics(random, sequences, length, told=True):
    """Return tokens of sequences that keep to a topic and repeat themselves, and their law."""
    inputs, labels, kinds = 200, 6, 20
    by_topic = np.random.default_rng(5).dirichlet(np.full(inputs, 0.05), kinds)
    law = np.random.default_rng(6).dirichlet(np.full(labels, 0.4), inputs)
    topic = np.repeat(random.integers(kinds, size=sequences), length)
    beyond = by_topic.cumsum(1)[topic] < random.random((len(topic), 1))
    at = beyond.sum(1).clip(0, inputs - 1)
    again = (random.random(len(at)) < 0.3) & (np.arange(len(at)) % length > 0)
    for place in np.flatnonzero(again):
        at[place] = at[place - 1]
    drawn = (random.random((len(at), 1)) > law[at].cumsum(1)).sum(1).clip(0, labels - 1)
    logs = np.log(law)
    records = [
        TeacherRecord(int(s), int(a), float(logs[s, a]) if told else None, sequence=n // length)
        for n, (s, a) in enumerate(zip(at, drawn, strict=True))
    ]
    met = np.zeros((inputs, labels), bool)
    met[at, drawn] = True
    pairs = by_topic.mean(0)[:, None] * law
    return records, float((pairs * ~met).sum()), float(pairs[~met.any(1)].sum())


@pytest.mark.parametrize("told", [True, False])
def test_intervals_of_tails_cover_with_dependent_tokens(told, monkeypatch):
    """Taken for single draws, tokens of one text hide most of what a fresh text will meet."""
    monkeypatch.setattr(pilot_records, "MANY", 0)  # no resamples: they are of other numbers
    random, runs = np.random.default_rng(3), 40
    inside, narrow = np.zeros(3), 0
    for _ in range(runs):
        records, pairs, inputs = topics(random, 40, 15, told=told)
        groups = np.array([record.sequence for record in records])
        found = missing_mass_of(records, confidence=0.95, groups=groups)
        tails = fit_law(records)
        for place, (one, truth) in enumerate(
            ((found, pairs), (tails.pairs.now, pairs), (tails.inputs.now, inputs))
        ):
            inside[place] += one.lower <= truth <= one.upper
        single = missing_mass_of(records, confidence=0.95)
        narrow += single.lower <= pairs <= single.upper
    assert (inside / runs >= 0.84).all(), inside  # 0.95 less three standard errors
    assert narrow / runs < 0.5


def test_the_curve_of_a_tail_is_that_of_fresh_sequences(monkeypatch):
    """Half and twice as many sequences: the truth is a mean over other sets of that size."""
    monkeypatch.setattr(pilot_records, "MANY", 0)
    random, runs, length = np.random.default_rng(4), 15, 15
    truth = {
        share: np.mean([topics(random, int(40 * share), length)[1] for _ in range(30)])
        for share in (0.5, 2.0)
    }
    inside = dict.fromkeys(truth, 0)
    for _ in range(runs):
        tail = fit_law(topics(random, 40, length)[0]).pairs
        assert (tail.n, tail.widening >= 1) == (600, True)
        for share, right in truth.items():
            mass = tail.mass_at(600 * share)
            inside[share] += mass.lower <= right <= mass.upper
    assert min(inside.values()) >= 0.8 * runs


@pytest.mark.parametrize("size", [1, 4, 12])
def test_few_single_draws_cover(size):
    """Of a law of 1000 even inputs hardly any was met; nothing that came twice must not hide it."""
    random, row = np.random.default_rng(7), np.log([0.5, 0.5])
    inside = 0
    for _ in range(50):
        at = random.integers(0, 1000, size)
        records = [TeacherRecord(int(s), 0, row=row) for s in at]
        found = missing_mass_of(records, confidence=0.95)
        inside += found.lower <= 1 - len(set(at.tolist())) / 1000 <= found.upper
    assert inside >= 46


def test_a_single_sequence_is_refused_or_says_nothing():
    records = [TeacherRecord(place, 0, -0.5, sequence="one") for place in range(9)]
    found = missing_mass_of(records, confidence=0.95, groups=np.zeros(9, int))
    assert (found.lower, found.upper, found.status) == (0.0, 1.0, "unresolved")
    with pytest.raises(DataError, match="records of two sequences or more; got one"):
        plan(error=0.1, pilot=records)


def test_certify_takes_the_set_by_sequence():
    records, _, _ = topics(np.random.default_rng(8), 30, 15)
    even = lambda rows: [[1 / 6] * 6] * len(rows)  # noqa: E731
    held = [TeacherRecord(one.input, one.label, one.log_probability) for one in records[:50]]
    found = certify(even, held, built_from=records)["missing_mass"]
    groups = np.array([record.sequence for record in records])
    assert found.value == missing_mass_of(records, confidence=0.95, groups=groups).value
    assert found.settings["method"].endswith("by sequence")
    single = certify(even, held, built_from=records, units="record")["missing_mass"]
    assert single.value == missing_mass_of(records, confidence=0.95).value
    assert single.value < found.lower
    designed = [TeacherRecord(s, a, -1.0) for s in range(9) for a in range(2)]
    told = certify(even, held, built_from=designed)
    assert "missing_mass" not in told.estimates
    assert any("several draws at each input" in text for text in told.warnings)


def test_what_is_wrong_is_said():
    none = np.zeros(0, int)
    with pytest.raises(DataError, match="at least one record"):
        mass_by_unit(none, none, none)
    many = [TeacherRecord(0, label, -1.0, count=2**62) for label in (0, 1)]
    for call in (
        lambda: audit(many),
        lambda: plan(error=0.1, pilot=many),
        lambda: missing_mass_of(many, confidence=0.95),
    ):
        with pytest.raises(DataError, match="at most 1e\\+15 draws in all"):
            call()


def test_labels_that_are_all_but_impossible_are_records_too():
    records = [TeacherRecord(s, 0, -0.5) for s in range(20)] + [TeacherRecord(0, 1, -1e5)]
    assert 0 <= missing_mass_of(records, confidence=0.95).value <= 1
    made = plan(error=0.1, pilot=records)
    assert made.sampled_probabilities.status in ("resolved", "unresolved")
