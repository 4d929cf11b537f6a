"""The meters against the reference's table, full enumeration, and the setup of section 4 O."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special

from limbeck.checks import DataError, ShapeError
from limbeck.limits.distance.betting import betting_ends
from limbeck.limits.distance.intervals import empirical_bernstein_interval
from limbeck.limits.distance.meters import censored_ceiling, row_terms, sampled_terms


T = np.array([0.5, 0.25, 0.125, 0.1, 0.025])
P = special.softmax([1, 0.5, 0, -0.5, 0.2])


def enumerated(t=T, p=P):
    """Return every label's terms."""
    return sampled_terms(np.log(p), np.log(t))


def test_the_table_of_the_reference():
    terms = enumerated()
    assert T @ terms.total_variation == pytest.approx(0.1587452895, abs=1e-10)
    assert T @ terms.k3 == pytest.approx(0.1178196482, abs=1e-10)
    assert T @ terms.k1 == pytest.approx(0.1178196482, abs=1e-10)
    for found, variance in zip(terms, (0.0088671103, 0.1233308144, 0.3621479023), strict=True):
        assert T @ found**2 - (T @ found) ** 2 == pytest.approx(variance, abs=1e-10)
    # The sampled label of the reference is 1: r = 0.9166008716.
    assert terms.k3[1] == pytest.approx(0.0036840276, abs=1e-10)
    assert np.exp(-terms.k1) == pytest.approx(
        [0.7556096769, 0.9166008716, 1.1118930627, 0.8429965411, 6.7903462679]
    )


def test_rows_of_the_reference():
    found = row_terms(np.log(P)[None], np.log(T)[None])
    assert found.total_variation[0] == pytest.approx(0.1587452895, abs=1e-10)
    assert found.kl[0] == pytest.approx(0.1178196482, abs=1e-10)
    back = row_terms(np.log(T)[None], np.log(P)[None])
    assert back.kl[0] == pytest.approx(0.1996892739, abs=1e-10)


def test_terms_in_plain_loops():
    terms = enumerated()
    for a, (t, p) in enumerate(zip(T, P, strict=True)):
        r = p / t
        expected = (max(1 - r, 0.0), -math.log(r), r - 1 - math.log(r))
        assert [float(one[a]) for one in terms] == pytest.approx(expected, abs=1e-14)


@st.composite
def pairs_of_rows(draw):
    size = draw(st.integers(2, 7))
    rows = [
        np.array(draw(st.lists(st.floats(-8, 3), min_size=size, max_size=size))) for _ in range(2)
    ]
    return special.softmax(rows[0]), special.softmax(rows[1])


@given(pairs_of_rows())
@settings(max_examples=100, deadline=None)
def test_unbiased_by_enumeration(pair):
    """The expectation over the teacher's draws is the distance of the rows, to rounding."""
    t, p = pair
    terms, exact = enumerated(t, p), row_terms(np.log(p)[None], np.log(t)[None])
    assert t @ terms.total_variation == pytest.approx(exact.total_variation[0], abs=1e-12)
    assert exact.total_variation[0] == pytest.approx(0.5 * np.abs(t - p).sum(), abs=1e-12)
    assert t @ terms.k1 == pytest.approx(exact.kl[0], abs=1e-10)
    assert t @ terms.k3 == pytest.approx(exact.kl[0], abs=1e-10)
    assert exact.kl[0] == pytest.approx(special.rel_entr(t, p).sum(), abs=1e-10)
    assert (terms.total_variation >= 0).all()
    assert (terms.total_variation <= 1).all()
    assert (terms.k3 >= 0).all()


@given(pairs_of_rows(), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_censored_labels_are_bracketed(pair, k):
    """Over all labels, those outside of the top k bracketed, the means enclose the distance."""
    t, p = pair
    top = np.argsort(-t)[: min(k, len(t) - 1)]
    tail = 1 - t[top].sum()
    exact = enumerated(t, p).total_variation
    ceiling = censored_ceiling(
        np.log(p), np.full(len(t), np.log(t[top].min())), np.full(len(t), tail)
    )
    outside = np.setdiff1d(np.arange(len(t)), top)
    assert (ceiling[outside] >= exact[outside] - 1e-9).all()
    for a in outside:
        highest = min(t[top].min(), tail)
        assert ceiling[a] == pytest.approx(max(0.0, 1 - p[a] / highest), abs=1e-9)


def test_a_list_that_leaves_nothing_bounds_by_its_smallest():
    """The listed ones sum to 1 by rounding, yet another label was drawn."""
    found = censored_ceiling(np.log([0.02]), np.log([0.1]), np.array([-1e-9]))
    assert found[0] == pytest.approx(0.8)
    assert censored_ceiling(np.log([0.02]), np.array([-np.inf]), np.array([0.0]))[0] == (
        pytest.approx(0.98)
    )
    assert censored_ceiling(np.log([0.02]), np.log([0.1]), np.array([0.04]))[0] == (
        pytest.approx(0.5)
    )


def test_equal_laws_are_at_zero():
    terms = enumerated(T, T)
    assert all((one == 0).all() for one in terms)
    found = row_terms(np.log(T)[None], np.log(T)[None])
    assert found.total_variation[0] == found.kl[0] == 0


def test_a_label_that_the_student_excludes():
    terms = sampled_terms(np.array([-np.inf]), np.log([0.5]))
    assert terms.total_variation[0] == 1
    assert terms.k1[0] == terms.k3[0] == np.inf
    with np.errstate(divide="ignore"):
        found = row_terms(np.log([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
        fine = row_terms(np.log([[0.5, 0.5]]), np.log([[1.0, 0.0]]))
        both = row_terms(np.log([[1.0, 0.0]]), np.log([[1.0, 0.0]]))
    assert (found.total_variation[0], found.kl[0]) == (0.5, np.inf)
    assert (fine.total_variation[0], fine.kl[0]) == pytest.approx((0.5, math.log(2)))
    assert (both.total_variation[0], both.kl[0]) == (0, 0)


def test_rows_that_were_rounded_are_normalised():
    exact = row_terms(np.log(P)[None], np.log(T)[None])
    rounded = row_terms(np.log(P)[None] + 1e-4, np.log(T)[None] - 0.003)
    assert rounded.total_variation == pytest.approx(exact.total_variation, abs=1e-12)
    assert rounded.kl == pytest.approx(exact.kl, abs=1e-12)


def test_extreme_numbers_stay_finite_or_infinite_but_never_nan():
    terms = sampled_terms(np.array([-1e4, 0.0, -1e-300]), np.array([-1.0, -900.0, -1e-300]))
    assert not any(np.isnan(one).any() for one in terms)
    assert terms.total_variation.tolist() == [1, 0, 0]
    assert terms.k1[:2].tolist() == [9999, -900]


def test_lengths_that_differ_are_refused(without_shape_hook):
    with pytest.raises(ShapeError, match="as many numbers of the student"):
        sampled_terms(np.zeros(2), np.zeros(3))


def test_wrong_numbers_are_refused():
    for student, teacher in (([np.nan], [0.0]), ([0.2], [0.0]), ([0.0], [0.5])):
        with pytest.raises(DataError, match="expected log-probabilities <= 0"):
            sampled_terms(np.array(student), np.array(teacher))
    with pytest.raises(DataError, match="It cannot have been drawn"):
        sampled_terms(np.zeros(1), np.array([-np.inf]))
    with pytest.raises(DataError, match="rows that sum to 1"):
        row_terms(np.full((1, 2), -np.inf), np.log([[0.5, 0.5]]))


def test_the_setup_of_the_reference():
    """Section 4 O: 2,000 times 1,000 held-out samples, against enumeration and its own figures."""
    generator = np.random.default_rng(20231007)
    inputs, labels, m, runs = 200, 300, 1000, 2000
    rho = generator.dirichlet(np.ones(inputs))
    t = np.maximum(generator.dirichlet(np.full(labels, 0.2), inputs), 1e-300)
    t /= t.sum(1, keepdims=True)
    p = t * np.exp(0.5 * generator.standard_normal((inputs, labels)))
    p /= p.sum(1, keepdims=True)
    joint = (rho[:, None] * t).ravel()
    total_variation = float(rho @ (0.5 * np.abs(p - t).sum(1)))
    kl = float(rho @ special.rel_entr(t, p).sum(1))
    terms = sampled_terms(np.log(p).ravel(), np.log(t).ravel())
    sums = np.cumsum(joint)
    drawn = np.searchsorted(sums / sums[-1], generator.random((runs, m)))
    for found, truth, published in zip(
        terms, (total_variation, kl, kl), (0.0068, 0.0155, 0.0057), strict=True
    ):
        means = found[drawn].mean(1)
        expected = math.sqrt((joint @ found**2 - truth**2) / m)
        assert abs(means.mean() - truth) < 5 * expected / math.sqrt(runs)
        assert means.std() == pytest.approx(expected, rel=0.07)  # 4 standard errors: 1 / sqrt(2 n)
        assert means.std() == pytest.approx(published, rel=0.15)
    assert total_variation == pytest.approx(0.1974, rel=0.05)
    values = terms.total_variation[drawn]
    bernstein = np.array([empirical_bernstein_interval(one) for one in values[:300]])
    low, high = betting_ends(values[:300], np.ones_like(values[:300]), 0.025, "two-sided", 0)
    for lower, upper in (bernstein.T, (low, high)):
        assert ((lower <= total_variation) & (total_variation <= upper)).mean() >= 0.95
    ratio = float((bernstein[:, 1] - bernstein[:, 0]).mean() / (high - low).mean())
    assert ratio > 1.7
