"""Binomial numbers against fractions and scipy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from limbeck.checks import DataError
from limbeck.limits.tables.binomial import binomial_probability, mean_absolute_deviation


def exact(k, n, p):
    return math.comb(n, k) * Fraction(p) ** k * (1 - Fraction(p)) ** (n - k)


@pytest.mark.parametrize("p", [0, 1e-9, 0.01, 0.3, 0.5, 1 - 1e-6, 1])
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 80, 300])
def test_probabilities_are_those_of_fractions(n, p):
    found = binomial_probability(np.arange(n + 1), n, p)
    right = [float(exact(k, n, p)) for k in range(n + 1)]
    np.testing.assert_allclose(found, right, rtol=2e-13, atol=1e-290)


@pytest.mark.parametrize(("n", "p"), [(10**5, 0.3), (10**5, 1e-4), (10**7, 0.5)])
def test_large_numbers_sum_to_1_and_agree_with_scipy(n, p):
    middle, spread = n * p, math.sqrt(n * p * (1 - p))
    k = np.arange(max(0, int(middle - 12 * spread)), int(middle + 12 * spread) + 40)
    found = binomial_probability(k, n, p)
    assert found.sum() == pytest.approx(1, abs=1e-11)
    np.testing.assert_allclose(found, stats.binom.pmf(k, n, p), rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("p", [0, 0.01, 1 / 7, 0.3, 0.5, 0.999, 1])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_deviations_are_those_of_a_sum_over_all_outcomes(n, p):
    right = sum(exact(k, n, p) * abs(k - n * Fraction(p)) for k in range(n + 1))
    assert float(mean_absolute_deviation(n, p)) == pytest.approx(float(right), rel=1e-13, abs=1e-15)


def test_deviations_at_large_numbers_are_those_of_the_normal_law():
    for n in (10**5, 10**9):
        found = float(mean_absolute_deviation(n, 0.3))
        assert found == pytest.approx(math.sqrt(2 / math.pi * n * 0.21), rel=1 / n * 4)


@pytest.mark.parametrize(("k", "n", "p"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 1.5), (1, 2, -0.1)])
def test_numbers_out_of_range_are_refused(k, n, p):
    with pytest.raises(DataError, match="0 <= k <= n"):
        binomial_probability(k, n, p)
