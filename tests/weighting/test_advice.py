"""The recommended weight against numbers worked out by hand, and what is said about a teacher."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from helpers.gradients import mlp, rows

from limbeck.checks import ArgumentError
from limbeck.types import Outputs
from limbeck.weighting.measuring.curvature import Curvature
from limbeck.weighting.measuring.gradient_moments import moments_of
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.products import Products
from limbeck.weighting.reporting.advice import recommend_weight
from limbeck.weighting.reporting.diagnosis import ACTIONS, rows_needed


def four_samples():
    """g = (-1, 1, -2, 2) and h = (1, 3, 6, 10)."""
    g, h = np.array([-1.0, 1, -2, 2]), np.array([1.0, 3, 6, 10])
    values = np.stack([g * h, g * g, h * h, 0 * g, 5 * g, 0 * h, 5 * h], axis=1)
    return moments_of(Products(("x",), values[None]), settings={"method": "by hand"})


def curvature(bias, rows=64, error=0.0, **changes):
    source, balanced = np.random.default_rng(0), np.repeat([1, -1], rows // 4)
    signs = np.stack([source.permutation(balanced) for _ in range(2)], axis=1).ravel()
    noise = error * np.sqrt(rows / 4) * signs
    settings = {
        "D_T": bias, "standard_error": error, "rows": bias + noise, "half": np.arange(rows) % 2.0,
        "mean": 2.0, "rayleigh": 3.0, "damping": 0.08, "iterations": 9, "residual": 1e-4,
        "converged": True,
    }  # fmt: skip
    return Curvature(**settings | changes)


def case_f(bias=1 / 20, **changes):
    """Four points in one dimension: the population's moments, seen with little error."""
    units = 64
    source = np.random.default_rng(0)
    values = np.abs(source.normal(size=(1, units, 7))) * 1e-6
    made = moments_of(
        Products(("x",), values), settings={"method": "by hand"}, curvature=curvature(bias)
    )
    settings = {"tr_gh": 2.5, "tr_gg": 2.5, "tr_hh": 2.59, "gbar2": 0.0, "hbar2": 0.25}
    return dataclasses.replace(made, **settings | changes)


HAND = pytest.mark.parametrize(
    ("batch", "momentum", "one_step", "loss"),
    [
        (1, 0.0, 125 / 142, 250 / 659),
        (4, 0.0, 2.5 / (2.59 + 4 * 0.25), 250 / 1859),
        (4, 0.9, 2.5 / (2.59 + 4 * 0.25), 250 / 419),
    ],
)


@HAND
def test_noise_of_whole_epochs_by_hand(batch, momentum, one_step, loss):
    step, n = 2.5 / 20 / (1 - momentum), 30
    found = recommend_weight(
        case_f(), learning_rate=1 / 20, batch_size=batch, momentum=momentum, steps_per_epoch=n
    )
    a = max(1 - step, 0.0)
    share = (n - (1 + a) / (1 - a) * (1 - a**n) / (1 + a**n)) / (n - 1)
    growth = ((2 - step) / step if step < 1 else 1) / share
    assert found.settings["noise_left"] == pytest.approx(share)
    assert found.one_step.value == pytest.approx(one_step)
    assert found.horizon.value == pytest.approx(2.5 / (2.59 + batch * growth * 0.25))
    rate = 1 / 20 / (1 - momentum)
    lam = 2.5 / (2.59 + 4 * batch / (rate * share) / 20)
    assert found.loss.value == pytest.approx(lam)
    assert found.floor == pytest.approx(share * 2.5 * rate / (4 * batch))
    left = 1 - 2 * lam + lam**2 * 2.59 / 2.5
    assert found.plateau == pytest.approx(found.floor * left + lam**2 / 20)


def test_a_full_gradient_has_no_noise_to_take_away():
    found = recommend_weight(case_f(), learning_rate=0.05, batch_size=1, steps_per_epoch=1)
    assert found.loss.value == pytest.approx(0.0, abs=1e-6)
    assert found.floor == pytest.approx(0.0, abs=1e-6)


@HAND
def test_weights_by_hand(batch, momentum, one_step, loss):
    found = recommend_weight(case_f(), learning_rate=1 / 20, batch_size=batch, momentum=momentum)
    assert found.one_step.value == pytest.approx(one_step)
    assert found.loss.value == pytest.approx(loss)
    # mu = hbar2 / (2 D_T) = 5/2; 1 + kappa = (2 - gamma mu) / (gamma mu).
    step = 2.5 / 20 / (1 - momentum)
    growth = (2 - step) / step if step < 1 else 1
    assert found.kappa == pytest.approx(growth - 1)
    assert found.horizon.value == pytest.approx(2.5 / (2.59 + batch * growth * 0.25))
    assert found.floor == pytest.approx(2.5 / 20 / (1 - momentum) / (4 * batch))
    lam = loss
    left = 1 - 2 * lam + lam**2 * 2.59 / 2.5
    assert found.plateau == pytest.approx(found.floor * left + lam**2 / 20)
    assert {one.status for one in (found.one_step, found.horizon, found.loss)} == {"resolved"}


@pytest.mark.parametrize("steps", [1, 3, 10**6])
def test_a_horizon_of_some_steps(steps):
    """gamma mu = 1/8: 15 (1 - r^t) / (1 + r^t) with r = 7/8."""
    found = recommend_weight(case_f(), learning_rate=1 / 20, batch_size=1, horizon=steps)
    power = (7 / 8) ** steps
    assert found.horizon.value == pytest.approx(
        2.5 / (2.59 + 0.25 * 15 * (1 - power) / (1 + power))
    )


def test_four_samples_do_not_resolve_it():
    found = recommend_weight(four_samples(), learning_rate=0.1, batch_size=2, horizon=4)
    assert found.horizon.raw == pytest.approx(5 / 277)
    assert found.horizon.status == "unresolved"
    assert (found.horizon.lower, found.horizon.upper) == (0.0, 1.0)
    assert found.loss is None
    assert found.plateau is None
    assert "unresolved" in str(found)
    assert "0.018" not in str(found)


def test_without_curvature_the_long_run_is_not_known():
    found = recommend_weight(case_f(curvature=None), learning_rate=0.05, batch_size=1)
    assert found.kappa is None
    assert found.horizon.status == "unresolved"
    assert found.horizon.lower == 0.0
    assert found.horizon.upper == found.one_step.upper


def test_a_bias_that_is_not_seen_gives_no_number_but_for_one_step():
    found = recommend_weight(
        case_f(standard_errors={"hbar2": 0.2}), learning_rate=0.05, batch_size=1
    )
    assert found.one_step.status == "resolved"
    assert found.horizon.status == found.loss.status == "unresolved"
    assert found.diagnosis == "unresolved"


def test_a_solver_that_did_not_converge_gives_no_number():
    made = case_f(curvature=curvature(0.05, converged=False))
    found = recommend_weight(made, learning_rate=0.05, batch_size=1)
    assert found.loss.status == "unresolved"
    assert found.loss.settings["solver"] == "not converged"
    assert found.horizon.status == "resolved"


def test_the_jackknife_is_a_wide_interval_where_the_bias_is_noisy():
    exact, noisy = (
        recommend_weight(
            case_f(curvature=curvature(0.05, error=error)), learning_rate=0.05, batch_size=1
        ).loss
        for error in (0.0, 0.01)
    )
    assert exact.upper - exact.lower < 1e-6
    # d lambda = lambda^2 / tr_gh * 4 B / gamma * dD: 0.046 either side, times t of 15 degrees.
    half = 0.379363**2 / 2.5 * 80 * 0.01 * 2.131
    assert noisy.upper - noisy.lower == pytest.approx(2 * half, rel=0.35)
    assert noisy.lower < 0.379363 < noisy.upper


@pytest.mark.parametrize(
    ("changes", "batch", "name"),
    [
        ({}, 1, "biased teacher"),
        ({"hbar2": 0.01, "curvature": curvature(0.002)}, 1, "healthy"),
        ({"tr_hh": 0.1}, 1, "interpolating teacher"),
        ({"tr_hh": 0.0, "tr_gh": 0.0, "hbar2": 0.0}, 1, "interpolating teacher"),
        ({"tr_gh": -0.1}, 1, "anti-correlated teacher"),
        ({"gbar2": 0.7}, 4, "far from the optimum"),
        ({"gbar2": 0.7}, 1, "biased teacher"),
        ({"standard_errors": {"hbar2": 1.0}}, 1, "unresolved"),
    ],
)
def test_diagnoses(changes, batch, name):
    found = recommend_weight(case_f(**changes), learning_rate=0.05, batch_size=batch)
    assert found.diagnosis == name
    assert found.action.split(" (")[0].split(":")[0] == ACTIONS[name].split(" (")[0].split(":")[0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_an_anti_correlated_teacher_is_told_by_size_and_direction():
    """d = g - h: tr_gd = 2.5 + 2.5 and tr_dd = 2.5 + 5 + 5 = 12.5, so 2.24 times, by 0.89."""
    found = recommend_weight(case_f(tr_gh=-2.5, tr_hh=5.0), learning_rate=0.05, batch_size=1)
    assert found.diagnosis == "anti-correlated teacher"
    assert "2.24 times as large as the task's (correlation 0.89)" in found.action


def test_an_anti_correlated_teacher_gets_weight_0():
    found = recommend_weight(case_f(tr_gh=-0.1), learning_rate=0.05, batch_size=1)
    assert found.loss.value == 0
    assert found.loss.raw < 0


def test_rows_that_are_needed():
    # 3 B_T sqrt(2 / r) = 3 (2.59 / 0.25) sqrt(2 / 50)
    seen = case_f(noise_dimensions=50.0)
    assert rows_needed(seen) == (pytest.approx(6.216), False)
    unseen = case_f(noise_dimensions=50.0, standard_errors={"hbar2": 0.25})
    assert rows_needed(unseen) == (pytest.approx(6.216 * 0.25 / 0.75), True)
    negative = case_f(noise_dimensions=50.0, hbar2=-0.1, standard_errors={"hbar2": 0.25})
    assert rows_needed(negative) == (pytest.approx(6.216 * 0.25 / 0.5), True)
    unknown = case_f(standard_errors={"hbar2": 0.25})
    assert rows_needed(unknown) == (pytest.approx(64 * 3 * 0.25 / 0.75), True)
    never = case_f(hbar2=-1.0, standard_errors={"hbar2": 0.0})
    assert rows_needed(never) == (math.inf, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` > 0"),
        ({"batch_size": 0}, "`batch_size` > 0"),
        ({"momentum": 1.0}, "`momentum` in \\[0, 1\\)"),
        ({"horizon": 0}, "`horizon` of 1 step at least"),
    ],
)
def test_arguments_out_of_range(changes, words):
    with pytest.raises(ArgumentError, match=words):
        recommend_weight(case_f(), **{"learning_rate": 0.1, "batch_size": 4} | changes)


def test_the_teacher_that_is_the_labels():
    """h is zero: a status, no NaN anywhere."""
    student, (x, y) = mlp(5, 1), rows(40)
    said = torch.nn.functional.one_hot(y, 3).double()
    found = gradient_moments(
        student, lambda batch: Outputs(said[batch.index]), (x, y),
        loss=lambda s, t: -(s.log_softmax(1) * t).sum(1).mean(),
    )  # fmt: skip
    assert found.tr_hh == 0
    advice = recommend_weight(found, learning_rate=0.1, batch_size=8)
    assert advice.diagnosis == "interpolating teacher"
    assert advice.one_step.status == "unresolved"
    json.dumps(found.to_dict(), allow_nan=False)
    json.dumps(advice.to_dict(), allow_nan=False)


def test_a_better_teacher_gets_more_weight():
    """Against the law (1 - lambda)^2 A + lambda^2 Delta in a linear model: precision addition."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=source, dtype=torch.float64)
    y = x @ torch.randn(6, 1, generator=source, dtype=torch.float64)
    y = y + 0.7 * torch.randn(400, 1, generator=source, dtype=torch.float64)
    optimum = torch.linalg.lstsq(x, y).solution
    away = torch.randn(6, 1, generator=source, dtype=torch.float64)
    student = torch.nn.Linear(6, 1, bias=False).double()
    student.weight.data = optimum.T.clone()
    for size in (0.02, 0.1):
        teacher = torch.nn.Linear(6, 1, bias=False).double()
        teacher.weight.data = (optimum + size * away).T.clone()
        moments = gradient_moments(
            student, teacher, (x, y), n=400, task="regression",
            loss=lambda s, t: ((s - t) ** 2).mean(),
        )  # fmt: skip
        found = recommend_weight(moments, learning_rate=0.02, batch_size=4)
        excess = ((x @ (size * away)) ** 2).mean().item()
        floor = 0.02 * moments.tr_gg / 16
        bottom = moments.tr_hh / moments.tr_gh * floor + excess
        assert found.loss.raw == pytest.approx(floor / bottom, rel=0.15)
        assert found.loss.lower <= floor / (floor + excess) * 1.1


def coin(batch_size):
    """A bias alone as student, balanced labels, a teacher that says 1/2: mean of h exactly zero."""
    model = torch.nn.Linear(1, 2).double()
    for one in model.parameters():
        torch.nn.init.zeros_(one)
    data = torch.zeros(64, 1).double(), torch.tensor([0, 1] * 32)

    def plain(s, t):
        return torch.nn.functional.cross_entropy(s, t.softmax(1))

    moments = gradient_moments(model, model, data, n=64, loss=plain, curvature=False)
    return moments, recommend_weight(moments, learning_rate=0.1, batch_size=batch_size, horizon=9)


@pytest.mark.parametrize("batch_size", [16, 512])
def test_a_squared_length_below_zero_does_not_turn_the_weight_into_zero(batch_size):
    """The estimate is -tr_hh / 64: times a batch of 512 it outweighs tr_hh itself."""
    moments, advice = coin(batch_size)
    assert moments.hbar2 == pytest.approx(-moments.tr_hh / 64)
    for estimate in (advice.one_step, advice.horizon):
        assert estimate.value == estimate.raw == pytest.approx(1.0)
        assert estimate.upper == 1.0
    assert advice.one_step.status == ("unresolved" if batch_size == 512 else "resolved")
    assert advice.horizon.status == "unresolved"
    assert advice.diagnosis == "unresolved"


def test_the_interval_holds_a_weight_that_took_the_bias_for_zero():
    """tr_gh = 0.5, tr_hh = 1 and hbar2 = -0.3: the interval is about 0.5 / 0.7, the weight 0.5."""
    made = dataclasses.replace(case_f(), tr_gh=0.5, tr_gg=1.0, tr_hh=1.0, hbar2=-0.3)
    found = recommend_weight(made, learning_rate=0.1, batch_size=1).one_step
    assert found.value == found.raw == found.lower == 0.5
    assert found.upper == pytest.approx(0.5 / 0.7, rel=1e-3)


@pytest.mark.parametrize("n", [16, 256])
def test_a_metric_of_one_factor_is_a_learning_rate(n):
    """With D = 3 all weights are those of three times the rate, the bias seen or not."""
    student, teacher, data = mlp(5, 1), mlp(8, 2), rows(n)
    factors = {name: torch.full_like(p, 3.0) for name, p in student.named_parameters()}
    found = [
        recommend_weight(
            gradient_moments(student, teacher, data, n=n, preconditioner=metric),
            learning_rate=rate,
            batch_size=4,
        )
        for metric, rate in ((factors, 0.01), (None, 0.03))
    ]
    assert found[0].horizon.raw == pytest.approx(found[1].horizon.raw, rel=1e-6)
    assert found[0].loss.raw == pytest.approx(found[1].loss.raw, rel=1e-6)
    assert found[0].kappa == pytest.approx(found[1].kappa, rel=1e-6)
    assert found[0].floor == pytest.approx(found[1].floor, rel=1e-6)
