"""Exact expected risks: every data set is listed, learnt from by the library, and weighted."""

import math

import numpy as np
import pytest

from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.dense import (
    hard_label_rows,
    naive_rows,
    sampled_rows,
    soft_label_rows,
    total_variation,
)
from limbeck.limits.tables.exact_risk import (
    expected_missing_mass,
    hard_label_risk,
    naive_limit_risk,
    soft_label_risk,
)
from limbeck.limits.tables.learners import (
    fit_hard_labels,
    fit_naive_probabilities,
    fit_sampled_probabilities,
    fit_soft_labels,
)
from limbeck.limits.tables.missing_mass import good_turing, pair_good_turing
from limbeck.limits.tables.risk import risk_of


U = np.array([1.0]), np.array([[0.5, 0.3, 0.2]])
W = np.array([0.7, 0.3]), np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]])
# Limits reference, section 9.1: hard labels, naive, sampled probabilities, soft labels, missing
# mass of pairs and of inputs; as many digits as the table shows.
TABLE = [
    (U, 1, "0.62 0.62 0.09 0 0.62 0"),
    (U, 2, "0.40 0.40 0.03 0 0.40 0"),
    (U, 3, "0.3303 0.294513286713 0.0111 0 0.2678 0"),
    (U, 5, "0.245722 0.250341392947 0.001959 0 0.131582 0"),
    (U, 10, "0.1658756853 0.199698583662 4.97241e-5 0 0.0304373752 0"),
    (U, 20, "0.119205353690 0.173042748025 4.7689e-8 0 0.002545696645 0"),
    (W, 1, "0.474 0.474 0.2062 0.154 0.74 0.42"),
    (W, 2, "0.440334 0.43839 0.143105 0.0938 0.55459 0.21"),
    (W, 3, "0.38045141 0.367304549039 0.1000505 0.06146 0.42111956 0.1218"),
    (W, 5, "0.287561345520 0.273755915967 0.052840272782 0.0288554 0.2528230925 0.052122"),
    (
        W,
        10,
        "0.194851051277 0.190846318091 0.018042784862 0.004802768138 0.089303874536 0.0084783909",
    ),
    (
        W,
        20,
        "0.135391145169 0.155554520166 0.008428710594 0.000135646857 0.025614972794 0.000239376823",
    ),
]


def digits(text):
    """Return a number and half a unit of its last digit."""
    mantissa, _, power = text.partition("e")
    places = len(mantissa.partition(".")[2])
    return float(text), 0.5000001 * 10.0 ** (int(power or 0) - places)


def data_sets(law, n):
    """List every table of counts of n draws with its probability."""
    p = (law[0][:, None] * law[1]).ravel()
    possible = np.flatnonzero(p)

    def tables(left, symbols):
        if symbols == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in tables(left - first, symbols - 1):
                yield (first, *rest)

    found = np.array(list(tables(n, len(possible))))
    logs = [
        math.lgamma(n + 1) - sum(math.lgamma(c + 1) for c in one) + one @ np.log(p[possible])
        for one in found
    ]
    counts = np.zeros((len(found), p.size), np.int64)
    counts[:, possible] = found
    return counts.reshape(-1, *law[1].shape), np.exp(logs)


@pytest.mark.parametrize(("law", "n", "values"), TABLE)
def test_expected_risks_of_dense_learners_over_all_data_sets(law, n, values):
    rho, pi = law
    counts, weights = data_sets(law, n)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    rows = (
        hard_label_rows(counts),
        naive_rows(counts, pi),
        sampled_rows(counts > 0, pi),
        soft_label_rows(counts.sum(2) > 0, pi),
    )
    for said, text in zip(rows, values.split(), strict=False):
        value, within = digits(text)
        expected = float(weights @ (total_variation(said, pi) @ rho))
        assert expected == pytest.approx(value, abs=max(within, 1e-14))


@pytest.mark.parametrize(("law", "n", "values"), TABLE)
def test_closed_forms(law, n, values):
    found = (
        hard_label_risk(*law, n),
        None,
        None,
        soft_label_risk(*law, n),
        expected_missing_mass(law[0][:, None] * law[1], n),
        expected_missing_mass(law[0], n),
    )
    for number, text in zip(found, values.split(), strict=True):
        if number is not None:
            value, within = digits(text)
            assert number == pytest.approx(value, abs=max(within, 1e-14))


def test_what_the_naive_learner_keeps():
    assert naive_limit_risk(*U) == pytest.approx(3 / 19, abs=1e-15)
    assert naive_limit_risk(*W) == pytest.approx(0.136867779204, abs=5e-13)


@pytest.mark.parametrize(("law", "n", "values"), [row for row in TABLE if row[1] in (1, 3)])
def test_expected_risks_of_sparse_learners_over_all_data_sets(law, n, values):
    rho, pi = law
    totals = np.zeros(4)
    for table, weight in zip(*data_sets(law, n), strict=True):
        at, label = np.nonzero(table)
        counts = PairCounts(3)
        counts.add(at, label, probabilities=pi[at, label], counts=table[at, label])
        students = (
            fit_hard_labels(counts),
            fit_naive_probabilities(counts),
            fit_sampled_probabilities(counts),
            fit_soft_labels(counts.pairs.seen, pi[counts.pairs.seen]),
        )
        totals += weight * np.array([risk_of(student, rho, pi) for student in students])
    for total, text in zip(totals, values.split(), strict=False):
        value, within = digits(text)
        assert total == pytest.approx(value, abs=max(within, 1e-14))


@pytest.mark.parametrize(("law", "n"), [(U, 4), (W, 4), (W, 6)])
def test_both_good_turing_estimates_have_the_mean_of_the_missing_mass_one_draw_earlier(law, n):
    plain = sharper = 0.0
    for table, weight in zip(*data_sets(law, n), strict=True):
        at, label = np.nonzero(table)
        counts = PairCounts(3)
        counts.add(at, label, probabilities=law[1][at, label], counts=table[at, label])
        plain += weight * good_turing(counts.pairs.counts)
        sharper += weight * pair_good_turing(counts)
    right = expected_missing_mass(law[0][:, None] * law[1], n - 1)
    assert plain == pytest.approx(right, abs=1e-13)
    assert sharper == pytest.approx(right, abs=1e-13)
