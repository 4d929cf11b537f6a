"""Tails of pilots: Good-Turing by hand, laws whose missing mass is known, records of a teacher."""

import json
import math

import numpy as np
import pytest
from scipy import optimize

from limbeck import plan
from limbeck.checks import ArgumentError, DataError
from limbeck.limits.planning.pilot_records import fit_law
from limbeck.limits.planning.pilot_tail import fit_tail
from limbeck.teacher_record import TeacherRecord


def zipf(alpha, size):
    p = np.arange(1.0, size + 1) ** -alpha
    return p / p.sum()


def missing(p, n):
    """Return the mean missing mass after a Poisson number of draws of mean n."""
    return float((p * np.exp(-n * p)).sum())


def test_the_series_by_hand():
    """Seen once 4 times, twice 2, thrice 1: n = 11."""
    fit = fit_tail(np.array([1, 1, 1, 1, 2, 2, 3]))
    assert (fit.n, fit.distinct, fit.singles, fit.doubles) == (11, 7, 4, 2)
    assert fit.now.value == pytest.approx(4 / 11)
    assert fit.effective_size == pytest.approx(4 * math.e)
    for share in (0.5, 0.9, 1.0):  # below the pilot's size: all terms add
        x = 1 - share
        expected = (4 + x * 2 * 2 + x**2 * 3 * 1) / 11
        assert fit.mass_at(11 * share).value == pytest.approx(expected)
    # above it the signs alternate; the weights are 1 to within 1e-3 for so few terms
    x = 0.3
    assert fit.mass_at(11 * 1.3).value == pytest.approx((4 - x * 4 + x**2 * 3) / 11, rel=1e-3)
    sharper = fit_tail(np.array([1, 1, 1, 1, 2, 2, 3]), level=0.5)
    assert sharper.now.value == 0.5
    assert sharper.mass_at(5.5).value == pytest.approx(fit.mass_at(5.5).value * 0.5 / (4 / 11))
    assert not fit.heavy  # two doubles tell nothing
    with pytest.raises(DataError, match="counts >= 1"):
        fit_tail(np.array([0, 1]))
    with pytest.raises(DataError, match="counts >= 1"):
        fit_tail(np.array([], dtype=int))
    with pytest.raises(ArgumentError, match="`confidence`"):
        fit_tail(np.array([1]), confidence=0.0)


LAWS = [(zipf(1.5, 100_000), True), (zipf(1.2, 100_000), True), (np.full(500, 0.002), False)]


@pytest.mark.parametrize(("law", "heavy"), LAWS, ids=["1.5", "1.2", "even"])
def test_intervals_hold_the_missing_mass_now_and_at_twice_the_pilot(law, heavy):
    generator, n, runs = np.random.default_rng(0), 2000, 100
    covered, kinds = np.zeros(4), 0
    truths = [missing(law, ratio * n) for ratio in (0.5, 1, 1.5, 2)]
    for _ in range(runs):
        counts = generator.poisson(n * law)
        fit = fit_tail(counts[counts > 0])
        for place, ratio in enumerate((0.5, 1, 1.5, 2)):
            mass = fit.mass_at(ratio * fit.n)
            covered[place] += mass.lower <= truths[place] <= mass.upper
            assert mass.status == "resolved"
        kinds += fit.heavy == heavy
    assert (covered / runs >= 0.9).all()
    assert kinds / runs >= 0.9


def test_the_exponent_of_a_heavy_tail_is_found():
    """30 pilots: the mean within 2 % and sampling error, intervals that hold it."""
    generator = np.random.default_rng(1)
    for alpha, size in ((1.5, 500_000), (2.0, 100_000)):
        law, found, inside = zipf(alpha, size), [], 0
        for _ in range(30):
            counts = generator.poisson(20_000 * law)
            fit = fit_tail(counts[counts > 0])
            assert fit.heavy == (fit.exponent.status == "resolved")
            if fit.heavy:
                found.append(fit.exponent.value)
                inside += fit.exponent.lower <= alpha <= fit.exponent.upper
        assert len(found) >= 24
        spread = 4 * np.std(found) / math.sqrt(len(found))
        assert abs(np.mean(found) - alpha) <= spread + 0.02 * alpha
        assert inside >= 0.9 * len(found)


@pytest.mark.parametrize(("law", "heavy"), LAWS, ids=["1.5", "1.2", "even"])
def test_the_size_at_which_the_mass_reaches_a_target(law, heavy):
    """Intervals of resolved answers hold the truth; far targets of no power law are refused."""
    generator, n = np.random.default_rng(2), 4000
    for factor in (1.6, 1.0, 0.85):
        target = min(missing(law, n) * factor, 0.9)
        truth = math.exp(optimize.brentq(lambda t, r=target: missing(law, math.exp(t)) - r, 0, 40))
        inside = resolved = 0
        for _ in range(40):
            counts = generator.poisson(n * law)
            found = fit_tail(counts[counts > 0]).needed(target)
            assert found.queries.lower <= found.queries.value <= found.queries.upper
            inside += found.queries.lower <= truth <= found.queries.upper
            resolved += found.status == "resolved"
        assert inside / 40 >= 0.85
        if heavy:
            assert resolved >= 36


def test_no_number_is_given_beyond_what_the_pilot_supports():
    generator = np.random.default_rng(3)
    counts = generator.poisson(1000 * np.full(500, 0.002))
    even = fit_tail(counts[counts > 0])
    far = even.needed(1e-4)
    assert (far.status, far.queries.upper) == ("unresolved", math.inf)
    assert far.queries.lower <= 2 * even.n
    assert "follows no power law" in far.reason
    assert even.mass_at(5 * even.n).status == "unresolved"
    assert even.mass_at(5 * even.n).lower == 0.0
    counts = generator.poisson(20_000 * zipf(1.5, 1_000_000))
    tail = fit_tail(counts[counts > 0])
    ahead = tail.needed(tail.now.value / 1.7)  # 1.7^3 = 4.9 times the pilot
    assert ahead.status == "resolved"
    assert ahead.queries.value / tail.n == pytest.approx(1.7**3, rel=0.15)
    far = tail.needed(tail.now.value / 4)
    assert (far.status, far.queries.upper) == ("unresolved", math.inf)
    assert "beyond 10 times the pilot" in far.reason
    assert tail.mass_at(4 * tail.n).status == "resolved"
    assert tail.mass_at(40 * tail.n).status == "unresolved"
    once = fit_tail(np.array([7, 9, 12]))  # all seen often
    assert once.now.value == 0.0
    assert once.now.upper == pytest.approx(1.959963985**2 / 28)
    assert once.needed(0.3).queries.value < 28


RHO = zipf(1.0, 40)
ROWS = np.random.default_rng(8).dirichlet(np.full(12, 0.4), 40)


def draws(n, kind, seed=0, sequences=False):
    """Return records of a teacher of 40 inputs and 12 labels."""
    generator = np.random.default_rng(seed)
    inputs = generator.choice(40, size=n, p=RHO)
    labels = (generator.random((n, 1)) > ROWS[inputs].cumsum(axis=1)).sum(axis=1)
    logs = np.log(ROWS)
    return [
        TeacherRecord(
            input=int(s),
            label=int(a),
            log_probability=float(logs[s, a]) if kind == "sampled_probabilities" else None,
            row=logs[s] if kind == "soft_labels" else None,
            sequence=place // 20 if sequences else None,
        )
        for place, (s, a) in enumerate(zip(inputs, labels, strict=True))
    ]


def spreads():
    return np.sqrt(ROWS * (1 - ROWS)).sum(axis=1)


@pytest.mark.parametrize("kind", ["sampled_probabilities", "soft_labels"])
def test_effective_labels_and_d1_of_records(kind):
    """Their intervals hold those of the law, from rows and from sampled probabilities."""
    truth = float(RHO @ spreads())
    size = float((np.sqrt(RHO) * spreads()).sum() ** 2)
    inside = np.zeros(3)
    for seed in range(8):
        law = fit_law(draws(1000, kind, seed))
        assert (law.n, law.privilege, law.language_model) == (1000, kind, False)
        assert law.row_spread.value == pytest.approx(truth, rel=0.15)
        assert law.effective_labels.value == pytest.approx(law.row_spread.value**2 + 1)
        for place, (found, expected) in enumerate(
            ((law.row_spread, truth), (law.effective_labels, truth**2 + 1), (law.size, size))
        ):
            inside[place] += found.lower <= expected <= found.upper
        assert law.size.status == "resolved"
        assert law.square_spread >= 0.8 * float(RHO @ spreads() ** 2)
    assert (inside >= 6).all()
    rows = fit_law(draws(1000, "soft_labels"))
    if kind == "soft_labels":
        assert rows.square_spread == pytest.approx(float(RHO @ spreads() ** 2), rel=0.05)


def test_records_that_stand_for_several_draws():
    row = np.log([0.8, 0.2])
    many = [TeacherRecord(input=i % 5, label=0, row=row) for i in range(60)]
    few = [TeacherRecord(input=i, label=0, row=row, count=12) for i in range(5)]
    one, other = fit_law(many), fit_law(few)
    assert one.n == other.n == 60
    assert one.inputs.now == other.inputs.now
    assert one.pairs.times.tolist() == other.pairs.times.tolist() == [12]
    assert one.row_spread.value == pytest.approx(other.row_spread.value) == pytest.approx(0.8)
    assert one.size.value == pytest.approx(5 * 0.64)


def test_plans_by_records():
    law = (RHO, ROWS)
    for kind in ("hard_labels", "sampled_probabilities", "soft_labels"):
        records, known = draws(1500, kind, 1), plan(error=0.1, law=law)
        made = plan(error=0.1, pilot=records)
        for one in (made.sampled_probabilities, made.soft_labels):
            masses = RHO[:, None] * ROWS if one.privilege != "soft_labels" else RHO
            truth = math.exp(
                optimize.brentq(lambda t, p=masses: missing(p, math.exp(t)) - 0.1, 0, 30)
            )
            assert one.interval[0] <= truth <= one.interval[1]
        if kind == "hard_labels":
            assert made.hard_labels.status == "unresolved"
            assert "labels alone do not tell" in str(made)
        else:
            assert made.hard_labels.interval[0] <= known.hard_labels.planning
            assert known.hard_labels.planning <= made.hard_labels.interval[1]
        json.dumps(made.to_dict(), allow_nan=False)


def test_inputs_that_are_mostly_unseen_leave_d1_open():
    generator, row = np.random.default_rng(4), np.log([0.5, 0.5])
    records = [
        TeacherRecord(input=int(s), label=0, row=row) for s in generator.integers(0, 10**6, 300)
    ]
    law = fit_law(records)
    assert (law.size.status, law.size.upper) == ("unresolved", math.inf)
    made = plan(error=0.1, pilot=records)
    assert made.hard_labels.planning is None
    assert "name the number of inputs" in str(made)
    known = plan(error=0.1, pilot=records, inputs=10**6)
    # even rows of two labels: S (sum sqrt(1/4))^2 / (2 pi 0.01)
    assert known.hard_labels.planning == math.ceil(10**6 / (2 * math.pi * 0.01))
    assert any("upper bound" in note for note in known.hard_labels.notes)
    assert made.soft_labels.status == "unresolved"


def test_texts_sequences_temperatures_and_faults_are_said():
    log = math.log(0.5)
    records = [{"input": f"text {i}", "label": i % 2, "log_probability": log} for i in range(40)]
    made = plan(error=0.1, pilot=[*records, {"input": "x", "label": -1}])
    assert {one.status for one in made.privileges} == {"unresolved"}
    assert "texts hardly ever repeat" in str(made)
    assert "1 faulty records are left out" in str(made)
    chained = fit_law(draws(600, "soft_labels", 2, sequences=True))
    assert chained.sequences == 30
    assert any("dependent" in note for note in chained.notes)
    warm = fit_law([TeacherRecord(input=1, label=0, temperature=0.5)])
    assert any("temperature 0.5" in note for note in warm.notes)
    assert warm.row_spread.status == "unresolved"
    with pytest.raises(DataError, match="expected records; got none"):
        fit_law([])
    with pytest.raises(DataError, match="expected teacher records"):
        plan(error=0.1, pilot=[])
    with pytest.raises(ArgumentError, match="`exponent` with measured errors"):
        plan(error=0.1, pilot=records, exponent="free")


def test_whole_sequences_are_resampled():
    """Sequences of one input each: their number counts, not that of their records."""
    generator, rows = np.random.default_rng(5), np.log([[0.5, 0.5], [0.99, 0.01]])
    kinds = generator.integers(0, 2, 40)
    chained = [
        TeacherRecord(input=int(k), label=0, row=rows[k], sequence=place)
        for place, k in enumerate(kinds)
        for _ in range(25)
    ]
    loose = [TeacherRecord(input=r.input, label=0, row=r.row) for r in chained]
    wide, narrow = fit_law(chained).row_spread, fit_law(loose).row_spread
    assert wide.value == narrow.value
    ratio = (wide.upper - wide.lower) / (narrow.upper - narrow.lower)
    assert ratio == pytest.approx(5, rel=0.2)  # sqrt(25)
