"""The fit of a power: against plain loops, and its false alarms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import optimize, stats

from limbeck.limits.auditing.power import Groups, distance_of_power, fit_power, misfit


def groups(seed, sizes=(2, 3, 5), draws=40, power=1.0):
    generator = np.random.default_rng(seed)
    logs, counts = [], []
    for size in sizes:
        row = generator.dirichlet(np.ones(size)) * generator.uniform(0.3, 1.0)
        q = row**power / (row**power).sum()
        logs.append(np.log(row))
        counts.append(generator.multinomial(draws, q).astype(float))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Groups(np.concatenate(logs), np.concatenate(counts), starts)


def parts(of):
    ends = [*of.starts[1:], len(of.logs)]
    return [(of.logs[a:b], of.counts[a:b]) for a, b in zip(of.starts, ends, strict=True)]


def plain_likelihood(of, exponent):
    total = 0.0
    for logs, counts in parts(of):
        norm = math.log(sum(math.exp(exponent * x) for x in logs))
        total += sum(c * (exponent * x - norm) for x, c in zip(logs, counts, strict=True))
    return total


@pytest.mark.parametrize("power", [0.3, 1.0, 2.5])
def test_the_fit_is_the_maximum_of_the_likelihood(power):
    of = groups(3, power=power)
    fit = fit_power(of, confidence=0.9)
    best = optimize.minimize_scalar(
        lambda x: -plain_likelihood(of, x),
        bounds=(0, 50),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit.exponent == pytest.approx(best.x, abs=1e-5)
    reach = stats.chi2.ppf(0.9, 1) / 2
    for end in (fit.lower, fit.upper):
        assert -best.fun - plain_likelihood(of, end) == pytest.approx(reach, abs=1e-6)
    ratio = 2 * (-best.fun - plain_likelihood(of, 1.0))
    assert fit.p_value == pytest.approx(stats.chi2.sf(ratio, 1), abs=1e-6)
    assert fit.draws == 120
    information = sum(
        counts.sum() * (np.exp(logs) / np.exp(logs).sum() @ (logs - m) ** 2)
        for logs, counts in parts(of)
        for m in [np.exp(logs) / np.exp(logs).sum() @ logs]
    )
    assert fit.information == pytest.approx(information)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 40))
def test_the_distance_is_that_of_plain_loops(seed, exponent):
    of = groups(seed)
    total = 0.0
    for logs, counts in parts(of):
        q, p = np.exp(exponent * (logs - logs.max())), np.exp(logs)
        total += counts.sum() * 0.5 * np.abs(q / q.sum() - p / p.sum()).sum()
    assert distance_of_power(of, exponent) == pytest.approx(total / of.counts.sum(), abs=1e-12)
    assert distance_of_power(of, 1.0) == pytest.approx(0.0, abs=1e-15)


def test_always_the_most_likely_label_is_the_steepest():
    of = Groups(np.log([0.5, 0.3, 0.2]), np.array([30.0, 0, 0]), np.array([0]))
    fit = fit_power(of)
    assert (fit.exponent, fit.upper, fit.temperature[0]) == (50.0, 50.0, 0.0)
    assert 1 < fit.lower < 50
    least = fit_power(Groups(of.logs, of.counts[::-1].copy(), of.starts))
    assert (least.exponent, least.lower, least.temperature[0]) == (0.0, 0.0, math.inf)


def test_the_likelihood_ratio_has_its_level():
    p_values = [fit_power(groups(seed, sizes=(4,) * 10, draws=20)).p_value for seed in range(150)]
    rejected = np.mean(np.array(p_values) < 0.05)
    assert rejected <= 0.104  # three binomial standard deviations
    intervals = [
        fit_power(groups(seed, sizes=(4,) * 10, draws=20, power=2.0)) for seed in range(150)
    ]
    covered = np.mean([fit.lower <= 2.0 <= fit.upper for fit in intervals])
    assert covered >= 0.896


def test_the_misfit_has_its_level_and_its_power():
    sizes = (6,) * 30
    p_values = [
        misfit(of, fit_power(of).exponent)[0] for of in (groups(s, sizes, 30) for s in range(120))
    ]
    assert np.mean(np.array(p_values) < 0.05) <= 0.11
    assert 0.42 <= np.mean(p_values) <= 0.58  # uniform: three standard deviations are 0.08
    assert min(p_values) > 1e-5
    of = groups(0, sizes, 30)
    wrong = Groups(of.logs, np.full(len(of.logs), 5.0) + 40.0 * (of.logs < -4), of.starts)
    p_value, distance = misfit(wrong, fit_power(wrong).exponent)
    assert p_value < 1e-10
    assert 0.05 < distance < 1
