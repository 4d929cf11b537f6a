"""Missing mass from counts: the reference's data set, identities, extrapolation."""

import itertools
import math

import numpy as np
import pytest

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.exact_risk import expected_missing_mass
from limbeck.limits.tables.instances import zipf_law
from limbeck.limits.tables.missing_mass import (
    good_toulmin,
    good_turing,
    missing_mass_after,
    pair_good_turing,
    pair_good_turing_terms,
    pair_missing_mass,
)


RHO = [0.5, 0.3, 0.2]
TEACHER = np.array([[0.4, 0.3, 0.2, 0.1], [0.6, 0.25, 0.1, 0.05], [0.7, 0.1, 0.1, 0.1]])
AT, LABEL = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 2, 0, 3, 0])


def counted():
    counts = PairCounts(4)
    counts.add(AT, LABEL, probabilities=TEACHER[AT, LABEL])
    return counts


def test_one_data_set():
    counts = counted()
    assert good_turing(counts.pairs.counts) == pytest.approx(1 / 3)
    assert good_turing(counts.pairs.per_input(counts.pairs.counts)) == 0
    terms = [0.4, 0.4, 0.6, 0.35, 0.35, 0.4]  # sorted by input and label
    np.testing.assert_allclose(pair_good_turing_terms(counts), terms, atol=1e-14)
    assert pair_good_turing(counts) == pytest.approx(0.416666666667, abs=5e-13)
    assert pair_missing_mass(RHO, TEACHER, counts) == pytest.approx(0.505, abs=1e-14)


def test_terms_are_leave_one_out_probabilities():
    random = np.random.default_rng(0)
    teacher = random.dirichlet(np.ones(5), 6)
    at = random.integers(6, size=14)
    label = np.array([random.choice(5, p=teacher[s]) for s in at])
    counts = PairCounts(5)
    counts.add(at, label, probabilities=teacher[at, label])
    terms = []
    for i in np.lexsort((label, at)):
        others = [label[j] for j in range(14) if j != i and at[j] == at[i]]
        terms.append(1 - sum(teacher[at[i], a] for a in set(others)))
    np.testing.assert_allclose(pair_good_turing_terms(counts), terms, atol=1e-14)


def test_a_report_without_a_draw_is_left_out():
    counts = counted()
    counts.add([0, 2], [1, 1], probabilities=[0.3, 0.1], counts=[0, 0])
    assert pair_good_turing(counts) == pytest.approx(0.416666666667, abs=5e-13)
    assert pair_missing_mass(RHO, TEACHER, counts) == pytest.approx(0.505, abs=1e-14)
    assert good_turing(counts.pairs.counts) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("ratio", "value"), [(0.5, 0.0937170), (1.0, 0.0695336)])
def test_the_plain_series_with_exact_frequencies(ratio, value):
    n, law = 2000, zipf_law(1000, 1.0)
    k = np.arange(1, 701)
    logs = [math.lgamma(n + 1) - math.lgamma(c + 1) - math.lgamma(n - c + 1) for c in k]
    number = [
        np.exp(log + c * np.log(law) + (n - c) * np.log1p(-law)).sum()
        for log, c in zip(logs, k, strict=True)
    ]
    plain = good_toulmin(k, number, n=n, ratio=ratio, smoothing=0)
    assert plain == pytest.approx(value, abs=6e-8)
    weighted = good_toulmin(k, number, n=n, ratio=ratio)
    assert weighted == pytest.approx(value, abs=2.0**-12)


def euler(coefficients, x, terms):
    """Sum_j (-x)^j a_j by Euler's transformation, cut after some terms, from differences."""
    total, differences = 0.0, list(coefficients)
    for m in range(terms):
        total += x**m / (1 + x) ** (m + 1) * (-1) ** m * differences[0]
        differences = [b - a for a, b in itertools.pairwise(differences)]
    return total


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("terms", [1, 3, 8])
def test_smoothing_is_the_transformation_of_euler(ratio, terms):
    number = [40, 21, 9, 6, 0, 3, 1, 1]
    coefficients = [k * one for k, one in enumerate(number, 1)]
    n = sum(coefficients)
    found = good_toulmin(range(1, 9), number, n=n, ratio=ratio, smoothing=terms)
    assert found == pytest.approx(euler(coefficients, ratio, terms) / n, rel=1e-12)


def test_extrapolation_by_nothing_is_good_turing():
    counts = [1, 1, 5, 2, 0, 3, 40]
    for smoothing in (None, 0, 1):
        found = missing_mass_after(counts, 0.0, smoothing=smoothing)
        assert found == pytest.approx(good_turing(counts), abs=1e-15)


def test_default_smoothing_beyond_twice_the_sample():
    k, number, n = [1, 2, 3, 9], [400, 120, 20, 3], 2000
    for ratio, terms in ((1.0, 12), (2.0, 6), (1.001, 10), (50.0, 8)):
        chosen = terms if ratio <= 1 else min(12, int(0.5 * math.log2(n * ratio**2 / (ratio - 1))))
        assert chosen == terms
        found = good_toulmin(k, number, n=n, ratio=ratio)
        assert found == good_toulmin(k, number, n=n, ratio=ratio, smoothing=terms)


def test_samples_of_a_known_law_are_extrapolated():
    """Means over 400 samples lie within four standard errors of the truth."""
    law, random = zipf_law(1000, 1.0), np.random.default_rng(5)
    samples = random.multinomial(2000, law, size=400)
    for ratio in (0.5, 1.0):
        told = [missing_mass_after(one, ratio) for one in samples]
        right = expected_missing_mass(law, round(2000 * (1 + ratio)))
        assert np.mean(told) == pytest.approx(right, abs=4 * np.std(told) / 20 + 2.0**-12)
    # At twice the sample, weights make the difference between an estimate and none.
    plain = [missing_mass_after(one, 1.0, smoothing=0) for one in samples]
    assert np.std(told) < np.std(plain) / 3


def test_an_estimate_stays_a_probability():
    assert missing_mass_after([1, 2, 2, 2, 2, 2], 3.0, smoothing=0) == 0
    assert missing_mass_after([3, 3, 3, 1], 3.0, smoothing=0) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: good_turing([0, 0]), DataError, "at least one draw"),
        (lambda: good_turing([0.5]), DataError, "integers >= 0"),
        (lambda: good_turing([-1, 3]), DataError, "smallest -1"),
        (lambda: good_turing([[1]]), ShapeError, "one dimension"),
        (lambda: missing_mass_after([1, 2], -0.5), ArgumentError, "`ratio` >= 0; got -0.5"),
        (lambda: missing_mass_after([1, 2], math.inf), ArgumentError, "`ratio` >= 0; got inf"),
        (lambda: missing_mass_after([1], 1.0, smoothing=-1), ArgumentError, "`smoothing` >= 0"),
        (lambda: good_toulmin([1], [1], n=0, ratio=1.0), ArgumentError, "`n` > 0"),
        (lambda: pair_good_turing(PairCounts(2)), DataError, "at least one draw"),
        (
            lambda: pair_missing_mass([1.0], [[0.5, 0.5]], counted()),
            ShapeError,
            "rows of 4 labels; got 2",
        ),
        (
            lambda: pair_missing_mass([1.0], TEACHER[:1], counted()),
            DataError,
            r"inputs in \[0, 1\); got 1",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_draws_without_numbers_are_refused():
    counts = counted()
    counts.add([0], [3])
    with pytest.raises(DataError, match="pair_good_turing: expected a probability for each pair"):
        pair_good_turing(counts)
