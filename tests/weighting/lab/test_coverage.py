"""Case ``coverage``: its truths by quadrature, its moments by the library, and it can fail."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch

from limbeck.lab_result import LabSettings
from limbeck.weighting.lab import cases, coverage
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.products import MOMENTS


QUICK = LabSettings(quick=True)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(coverage.TRIALS, "quick", 120)
        return cases.run_case("coverage", QUICK)


def test_it_passes_and_shows_every_interval(found):
    assert found.passed, found.failures
    assert len(found.checks) == 6
    assert {check.kind for check in found.checks} == {"at_least"}
    assert {check.predicted for check in found.checks} == {0.93}
    assert found.settings["trials"] == 120
    for curve in found.curves:
        assert curve.grid == (32, 128, 512, 2048)
        assert {"loss units (jackknife)", "long run"} < set(curve.others)
    assert len(found.remarks) == 3


@pytest.mark.parametrize(("which", "label"), [("one_step", "one step"), ("loss", "loss units")])
def test_intervals_that_are_too_narrow_fail(monkeypatch, which, label):
    right = coverage.recommend_weight
    monkeypatch.setitem(coverage.TRIALS, "quick", 40)
    monkeypatch.setattr(coverage, "ROWS", (32, 128))

    def narrow(*a, **k):
        advice = right(*a, **k)
        one = getattr(advice, which)
        middle, half = (one.upper + one.lower) / 2, 0.2 * (one.upper - one.lower)
        other = dataclasses.replace(
            one, value=middle, lower=middle - half, upper=middle + half, raw=None
        )
        return dataclasses.replace(advice, **{which: other})

    monkeypatch.setattr(coverage, "recommend_weight", narrow)
    failed = {check.name for check in coverage.coverage(QUICK).failures}
    assert sum(label in name for name in failed) == 3


def test_truths_by_quadrature():
    """Five nodes of Gauss and Hermite in each direction are exact for the fourth moments."""
    problem = coverage.GaussianLine(
        np.array([0.5, 2.0]), 0.7, np.array([0.3, -0.2]), np.array([-0.4, 0.6])
    )
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    shares = weights / weights.sum()
    g, h, each = [], [], []
    for i, j, k in product(range(5), repeat=3):
        a = np.sqrt(problem.variances) * nodes[[i, j]]
        e = problem.noise * nodes[k]
        g.append(2 * (a @ problem.student - e) * a)
        h.append(2 * (a @ problem.teacher - e) * a)
        each.append(shares[i] * shares[j] * shares[k])
    g, h, each = np.array(g), np.array(h), np.array(each)
    gbar, hbar = each @ g, each @ h
    truth = problem.truth()
    pairs = ((g, gbar, h, hbar), (g, gbar, g, gbar), (h, hbar, h, hbar))
    wanted = [each @ ((a - am) * (b - bm)).sum(1) for a, am, b, bm in pairs]
    wanted += [gbar @ gbar, hbar @ hbar]
    assert list(truth.moments) == pytest.approx(wanted, rel=1e-12)
    hessian = 2 * np.diag(problem.variances)
    bias = 0.5 * hbar @ np.linalg.solve(hessian, hbar)
    assert pytest.approx(bias, rel=1e-12) == truth.D_T
    tr_gh, _, tr_hh, _, square = wanted
    assert truth.one_step == pytest.approx(tr_gh / (tr_hh + 16 * square), rel=1e-12)
    assert truth.loss == pytest.approx(tr_gh / (tr_hh + 4 * 16 / 0.05 * bias), rel=1e-12)
    pace = 0.05 * square / (hbar @ np.linalg.solve(hessian, hbar))
    growth = (2 - pace) / pace
    assert truth.horizon == pytest.approx(tr_gh / (tr_hh + 16 * growth * square), rel=1e-12)


def test_measured_as_the_library_measures():
    problem = next(iter(coverage.example_lines().values()))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8)) * np.sqrt(problem.variances)
    e = rng.normal(size=60)
    student, teacher = (torch.nn.Linear(8, 1, bias=False).double() for _ in range(2))
    with torch.no_grad():
        student.weight.copy_(torch.from_numpy(problem.student)[None])
        teacher.weight.copy_(torch.from_numpy(problem.teacher)[None])
    data = torch.from_numpy(x), torch.from_numpy(e)[:, None]
    wanted = gradient_moments(
        student, teacher, data, n=60, task="regression", loss=lambda s, t: ((s - t) ** 2).mean()
    )
    order = wanted.index[:, 0]
    made = problem.measured(x[order], e[order], wanted.curvature.half == 1)
    for name in MOMENTS:
        assert getattr(made, name) == pytest.approx(getattr(wanted, name), rel=1e-9)
    assert made.covariance == pytest.approx(wanted.covariance, rel=1e-9)
    # The library's solver stops at a residual of 1e-3, its mean curvature comes from four probes.
    assert made.curvature.damping == pytest.approx(wanted.curvature.damping, rel=0.3)
    assert made.curvature.rayleigh == pytest.approx(wanted.curvature.rayleigh, rel=1e-6)
    assert pytest.approx(wanted.D_T, rel=0.05) == made.D_T
    each = wanted.curvature.rows
    assert made.curvature.rows == pytest.approx(each, abs=0.05 * np.abs(each).max())
    assert made.curvature.standard_error == pytest.approx(wanted.curvature.standard_error, rel=0.05)


def test_the_seed_decides(monkeypatch):
    monkeypatch.setitem(coverage.TRIALS, "quick", 3)
    monkeypatch.setattr(coverage, "ROWS", (32,))
    one, again, other = (
        coverage.measure(LabSettings(quick=True, seed=seed))["teachers"] for seed in (1, 1, 2)
    )
    assert list(one) == ["B_T = 1986", "B_T = 131", "B_T = 21"]
    for name, seen in one.items():
        assert (seen["width"] == again[name]["width"]).all()
        assert (seen["width"] != other[name]["width"]).any()
