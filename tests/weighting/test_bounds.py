"""Plateau bounds against exact fractions of small cases, and against simulated students."""

import math
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError
from limbeck.weighting.theory.bounds import (
    bound_weight,
    noise_at_optimum,
    noise_bound,
    noise_bound_unbiased,
    noise_to_signal,
    reduction_factor,
)
from limbeck.weighting.theory.further_bounds import (
    compressed_bound,
    noise_bound_pl,
    nonconvex_bound,
    tilted_bound,
)


QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def four_points(batch):
    """Moments a batch of squared error, a = (1, 1, 2, 2), b = (2, 0, 3, 1), teacher 6/5."""
    rows = [(1, 2), (1, 0), (2, 3), (2, 1)]
    g = [a * (a * 1 - b) for a, b in rows]
    h = [a * (a * Q(6, 5) - b) for a, b in rows]
    hbar = sum(h) / 4
    assert sum(g) == 0
    return {
        "sigma2": float(sum(x * x for x in g) / Q(4 * batch)),
        "c": float(sum(x * y for x, y in zip(g, h, strict=True)) / (4 * batch)),
        "v": float((sum(y * y for y in h) / 4 - hbar**2) / batch),
        "hbar2": float(hbar**2),
    }


STEP = {"learning_rate": 0.05, "mu": 2.5}


def near(fraction):
    return pytest.approx(float(fraction), rel=1e-9)


def chosen(moments, kappa):
    return bound_weight(moments["c"], moments["v"], moments["hbar2"], kappa=kappa)


def test_four_points_have_the_stated_moments():
    assert four_points(1) == {"sigma2": 2.5, "c": 2.5, "v": 2.59, "hbar2": 0.25}


@pytest.mark.parametrize(
    ("weight", "value"), [(0, Q(5, 2)), (0.5, Q(71, 100)), (1.0, Q(17, 50)), (-1.0, Q(1034, 100))]
)
def test_noise_at_the_optimum(weight, value):
    assert noise_at_optimum(weight, **four_points(1)) == near(value)


@pytest.mark.parametrize(
    ("batch", "best", "beta", "factor"),
    [
        (1, Q(125, 242), Q(259, 484), Q(117, 242)),
        (4, Q(250, 1159), Q(259, 1159), Q(909, 1159)),
    ],
)
def test_best_weight_beta_and_factor(batch, best, beta, factor):
    moments = four_points(batch)
    assert chosen(moments, 8) == near(best)
    assert noise_to_signal(moments["v"], moments["hbar2"], kappa=8) == near(beta)
    assert reduction_factor(**moments, kappa=8) == near(factor)


@pytest.mark.parametrize(
    ("batch", "values"),
    [
        (1, (Q(1, 10), Q(121, 2500), Q(117, 1250), Q(117, 2420))),
        (4, (Q(1, 40), Q(1159, 40000), Q(909, 10000), Q(909, 46360))),
    ],
)
def test_bound_of_theorem_one(batch, values):
    moments = four_points(batch)
    for weight, value in zip((0, 0.5, 1.0, chosen(moments, 8)), values, strict=True):
        assert noise_bound(weight, **moments, **STEP, kappa=8) == near(value)


def test_weight_at_other_horizons():
    moments = four_points(1)
    assert chosen(moments, 0) == near(Q(125, 142))
    assert chosen(moments, 100) == near(Q(125, 1392))
    assert chosen(moments, math.inf) == 0
    assert bound_weight(2.5, 2.59, 0.0, kappa=math.inf) == near(Q(250, 259))
    assert bound_weight(-2.5, 2.59, 0.25, kappa=8) == near(Q(-125, 242))


def test_bound_under_pl():
    steps = {**STEP, "smoothness": 2.5}
    assert noise_bound_pl(0.5, **four_points(1), **steps, kappa=8) == near(Q(121, 2000))
    # L gamma / mu * (V + kappa / 4 * hbar2), with L, mu and 1 / (L gamma) all different
    steps = {"learning_rate": 0.05, "mu": 1.6, "smoothness": 2.5}
    wanted = Q(25, 10) * Q(5, 100) / Q(16, 10) * (Q(71, 100) + Q(3, 4) * Q(1, 4))
    assert noise_bound_pl(0.5, **four_points(1), **steps, kappa=3) == near(wanted)


def test_unbiased_bound():
    moments = {name: value for name, value in four_points(1).items() if name != "hbar2"}
    assert noise_bound_unbiased(250 / 259, **moments, **STEP) == near(Q(9, 2590))
    assert noise_bound_unbiased(1.0, **moments, **STEP) == near(Q(9, 2500))
    # 4 gamma calL / mu * excess loss of the teacher, with calL = 17/5 and 1/20 of excess
    assert noise_bound_unbiased(1.0, **moments, **STEP) <= 4 * 0.05 * 3.4 / 2.5 * 0.05


def test_compressed_bound():
    moments = four_points(1)
    limits = {"omega": 1 / 32, "optimum2": 1.0}
    found = compressed_bound(chosen(moments, 8), **moments, **STEP, kappa=8, **limits)
    assert found == near(Q(21349, 19360))
    limits = {"omega": 0.0, "optimum2": 7.0}
    assert compressed_bound(0.5, **moments, **STEP, kappa=8, **limits) == near(Q(121, 1250))
    limits = {"omega": 1 / 64, "optimum2": 3.0}
    wanted = 2 * Q(66, 64) * Q(121, 2500) + Q(4, 64) * 8 * 3
    assert compressed_bound(0.5, **moments, **STEP, kappa=8, **limits) == near(wanted)


@pytest.mark.parametrize(
    ("batch", "weight"), [(1, 0.338983050847), (2, 0.206052801030), (None, None)]
)
def test_two_dimensions(batch, weight):
    if batch:
        assert bound_weight(6.4 / batch, 6.7 / batch, 0.18, kappa=200 / 3) == pytest.approx(
            weight, abs=1e-12
        )
        return
    moments = {"sigma2": 6.5, "c": 6.4, "v": 6.7, "hbar2": 0.18}
    steps = {"learning_rate": 0.02, "mu": 0.75, "kappa": 200 / 3}
    for at, second, bound in (
        (0, 6.5, 0.346666666667),
        (0.5, 1.82, 0.257066666667),
        (1, 0.58, 0.670933333333),
    ):
        assert noise_at_optimum(at, **moments) == near(second)
        assert noise_bound(at, **moments, **steps) == pytest.approx(bound, abs=1e-12)


@pytest.mark.parametrize(
    ("batch", "long", "one"), [(1, Q(36, 119), Q(12, 13)), (16, Q(9, 341), Q(3, 7))]
)
def test_intercept_only_logistic_regression(batch, long, one):
    moments = (3 / 16 / batch, 3 / 16 / batch, 1 / 64)
    assert bound_weight(*moments, kappa=80 / 3) == near(long)
    assert bound_weight(*moments, kappa=0) == near(one)


def test_teachers_at_the_ends():
    same = {"sigma2": 2.0, "c": 2.0, "v": 2.0, "hbar2": 0.0}  # the teacher equals the student
    assert bound_weight(2.0, 2.0, 0.0, kappa=8) == 1
    assert reduction_factor(**same, kappa=8) == 0
    assert noise_bound(1.0, **same, **STEP, kappa=8) == 0
    labels = {"sigma2": 2.0, "c": 0.0, "v": 0.0, "hbar2": 0.0}  # the teacher repeats the labels
    assert reduction_factor(**labels, kappa=math.inf) == 1
    assert noise_at_optimum(0.7, **labels) == 2
    assert noise_to_signal(0.0, 1.0, kappa=0) == 0
    assert noise_to_signal(1.0, 0.0, kappa=math.inf) == 1
    # Rounding: a covariance a hair above the product of the deviations leaves no negative noise.
    hair = {"sigma2": 1.0, "c": 1.0 + 1e-10, "v": 1.0, "hbar2": 0.0}
    assert noise_at_optimum(1.0, **hair) == 0
    assert reduction_factor(**hair, kappa=0) == 0


@st.composite
def moments_of_vectors(draw):
    size = st.floats(1e-3, 1e3)
    sigma2, v = draw(size), draw(size)
    rho = draw(st.floats(0, 1))
    hbar2 = draw(st.floats(0, 1e3))
    return {"sigma2": sigma2, "c": rho * math.sqrt(sigma2 * v), "v": v, "hbar2": hbar2}


@QUICK
@given(moments_of_vectors(), st.floats(0, 1e4))
def test_the_best_weight_is_best(moments, kappa):
    best = chosen(moments, kappa)
    at = {w: noise_bound(w, **moments, **STEP, kappa=kappa) for w in (0, 1, best, 0.98 * best)}
    slack = 1 + 1e-9
    assert at[best] <= min(at.values()) * slack
    assert reduction_factor(**moments, kappa=kappa) == pytest.approx(at[best] / at[0], abs=1e-9)


@QUICK
@given(moments_of_vectors(), st.floats(0, 1e4))
def test_factors_are_shares(moments, kappa):
    beta = noise_to_signal(moments["v"], moments["hbar2"], kappa=kappa)
    rho2 = moments["c"] ** 2 / (moments["sigma2"] * moments["v"])
    factor = reduction_factor(**moments, kappa=kappa)
    assert 0 <= beta <= 1
    assert 0 <= factor <= 1
    assert factor == pytest.approx(1 - rho2 * beta, abs=1e-9)


@QUICK
@given(moments_of_vectors(), st.floats(0, 1e4), st.integers(1, 512))
def test_the_weight_falls_in_batch_and_horizon(moments, kappa, batch):
    c, v, hbar2 = (moments[name] for name in ("c", "v", "hbar2"))
    here = bound_weight(c / batch, v / batch, hbar2, kappa=kappa)
    slack = here * 1e-12
    assert bound_weight(c / (2 * batch), v / (2 * batch), hbar2, kappa=kappa) <= here + slack
    assert bound_weight(c / batch, v / batch, hbar2, kappa=2 * kappa + 1) <= here + slack


@QUICK
@given(moments_of_vectors(), st.floats(0, 1e4), st.floats(0.01, 100))
def test_the_unit_of_the_loss_does_not_matter(moments, kappa, unit):
    scaled = {name: value * unit**2 for name, value in moments.items()}
    assert chosen(scaled, kappa) == pytest.approx(chosen(moments, kappa), rel=1e-9)
    assert reduction_factor(**scaled, kappa=kappa) == pytest.approx(
        reduction_factor(**moments, kappa=kappa), abs=1e-9
    )


def test_tilted_bound():
    steps = {"learning_rate": 0.05, "mu": 2.5}
    found = tilted_bound(0.5, noise=0.625, hbar2=0.25, **steps)
    assert found == near((0.1 + math.sqrt(0.025)) ** 2)
    assert tilted_bound(-0.5, noise=0.625, hbar2=0.25, **steps) == near(found)
    assert tilted_bound(0.5, noise=0.0, hbar2=0.25, **steps) == near(Q(1, 100))
    # Four points exactly: noise (1 - w)^2 5/2, error (1 - w)^2 5/183 + w^2/25.
    for weight in np.linspace(0, 1, 11):
        left = (1 - weight) ** 2
        bound = tilted_bound(float(weight), noise=float(2.5 * left), hbar2=0.25, **steps)
        assert left * 5 / 183 + weight**2 / 25 <= bound + 1e-15


def test_nonconvex_bound():
    path = {"noise": 0.5, "hbar2": 0.4, "gap": 3.0, "steps": 40}
    # 2 * 3 / (0.1 * 40) + 0.25 * 0.4 + 2 * 0.1 * 0.5
    assert nonconvex_bound(0.5, **path, learning_rate=0.1, smoothness=2.0) == near(Q(17, 10))
    # x^2 with steps x <- x - rate (2 x - w hbar + noise), first two moments step by step
    rate, weight, hbar, noise, start, steps = 0.3, 0.7, 1.1, 0.8, 2.0, 60
    mean, second, total = start, start**2, 0.0
    for _ in range(steps):
        total += 4 * second
        push = rate * weight * hbar
        keep = 1 - 2 * rate
        second = keep**2 * second + 2 * keep * push * mean + push**2 + rate**2 * noise
        mean = keep * mean + push
    path = {"noise": noise, "hbar2": hbar**2, "gap": start**2, "steps": steps}
    bound = nonconvex_bound(weight, **path, learning_rate=rate, smoothness=2.0)
    assert total / steps <= bound
    # Its best weight is that of the horizon 1 / (L gamma) - 1.
    c, v, hbar2, curve = 0.9, 1.0, 0.5, 2.0 * 0.3
    best = bound_weight(c, v, hbar2, kappa=1 / curve - 1)
    assert best == near(c / (v + hbar2 / curve))


def appendix_problem():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 8)) * np.linspace(0.6, 1.4, 8)
    targets = inputs @ rng.standard_normal(8) + 0.7 * rng.standard_normal(400)
    return inputs, targets


def test_simulated_students_stay_below_the_bound():
    inputs, targets = appendix_problem()
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    hessian = inputs.T @ inputs / 400
    mu = float(np.linalg.eigvalsh(hessian)[0])
    rate = 1 / (4 * 13.503)
    direction = np.random.default_rng(5).standard_normal(8)
    teacher = best + 0.13 * direction / np.linalg.norm(direction)
    task = inputs * (inputs @ best - targets)[:, None]
    told = inputs * (inputs @ teacher - targets)[:, None]
    hbar = told.mean(0)
    moments = {
        "sigma2": float((task**2).sum(1).mean()),
        "c": float((task * told).sum(1).mean()),
        "v": float(((told - hbar) ** 2).sum(1).mean()),
        "hbar2": float(hbar @ hbar),
    }
    weights = np.array([0.0, 0.3, 0.6, 1.0])
    rng = np.random.default_rng(0)
    x, total, steps = np.tile(best, (4, 48, 1)), np.zeros(4), 2500
    for step in range(steps):
        drawn = rng.integers(400, size=48)
        a = inputs[drawn]
        error = np.einsum("wcd,cd->wc", x, a) - targets[drawn]
        x = x - rate * (error[..., None] * a - weights[:, None, None] * told[drawn])
        if step >= 800:
            total += ((x - best) ** 2).sum(-1).mean(-1) / (steps - 800)
    bounds = [
        noise_bound(float(w), **moments, learning_rate=rate, mu=mu, kappa=1 / (rate * mu))
        for w in weights
    ]
    assert np.all(total < bounds)
    assert np.all(total > np.array(bounds) / 40)  # the level is a bound's tenth or so, not nothing


GOOD = {"sigma2": 2.5, "c": 2.5, "v": 2.59, "hbar2": 0.25}
LONG = {**GOOD, **STEP, "kappa": 8}
PATH = {"noise": 0.5, "hbar2": 0.4, "gap": 3.0, "steps": 40, "learning_rate": 0.1}
TILT = {"noise": 0.625, "hbar2": 0.25, **STEP}


@pytest.mark.parametrize(
    ("function", "weight", "arguments", "message"),
    [
        (noise_at_optimum, math.nan, GOOD, "finite `distillation_weight`; got nan"),
        (noise_at_optimum, 0.5, {**GOOD, "c": 2.6}, "covariance of at most .* got 2.6. Take all"),
        (noise_at_optimum, 0.5, {**GOOD, "c": math.nan}, "finite `shared`; got nan"),
        (noise_at_optimum, 0.5, {**GOOD, "v": -1.0}, "`teacher` >= 0; got -1.0. Clip"),
        (noise_at_optimum, 0.5, {**GOOD, "hbar2": -0.1}, "`hbar2` >= 0; got -0.1. Clip"),
        (noise_bound, 0.5, {**LONG, "kappa": -1}, "`kappa` >= 0; got -1"),
        (noise_bound, 0.5, {**LONG, "kappa": math.inf}, "`kappa` >= 0; got inf"),
        (noise_bound, 0.5, {**LONG, "learning_rate": 0.0}, "`learning_rate` > 0; got 0.0"),
        (noise_bound, 0.5, {**LONG, "mu": 6.0}, r"at most 0.25; got 0.05 \* 6.0 = .* Lower"),
        (
            noise_bound_pl,
            0.5,
            {**LONG, "smoothness": 2.0},
            "`smoothness` >= `mu`; got 2.0 and 2.5. .* exchanged",
        ),
        (noise_bound_pl, 0.5, {**LONG, "smoothness": math.nan}, "got nan and 2.5"),
        (noise_bound_pl, 0.5, {**LONG, "smoothness": 4.0}, "curvature of at most 0.25"),
        (noise_bound_pl, 0.5, {**LONG, "mu": 0.0, "smoothness": 4.0}, "`mu` > 0; got 0.0"),
        (
            compressed_bound,
            0.5,
            {**LONG, "omega": 0.0313, "optimum2": 1.0},
            r"`omega` <= learning_rate \* mu / 4 = 0.03125; got 0.0313. Compress less",
        ),
        (compressed_bound, 0.5, {**LONG, "c": 3.0, "omega": 0.0, "optimum2": 1.0}, "at most sqrt"),
        (compressed_bound, 0.5, {**LONG, "mu": 6.0, "omega": 0.0, "optimum2": 1.0}, "most 0.25"),
        (compressed_bound, 0.5, {**LONG, "omega": -0.1, "optimum2": 1.0}, "`omega` >= 0"),
        (compressed_bound, 0.5, {**LONG, "omega": 0.0, "optimum2": -1.0}, "`optimum2` >= 0"),
        (nonconvex_bound, 0.5, {**PATH, "smoothness": 11.0}, "at most 1.0; got 0.1 "),
        (nonconvex_bound, 0.5, {**PATH, "smoothness": 2.0, "steps": 0}, "`steps` > 0; got 0"),
        (nonconvex_bound, 0.5, {**PATH, "smoothness": 2.0, "gap": -1.0}, "`gap` >= 0; got -1"),
        (nonconvex_bound, math.inf, {**PATH, "smoothness": 2.0}, "finite `distillation_weight`"),
        (tilted_bound, 0.5, {**TILT, "noise": -1.0}, "`noise` >= 0; got -1.0"),
        (tilted_bound, 0.5, {**TILT, "mu": 5.1}, "at most 0.25; got"),
        (tilted_bound, math.nan, TILT, "finite `distillation_weight`; got nan"),
    ],
)
def test_bad_numbers(function, weight, arguments, message):
    with pytest.raises(ArgumentError, match=f"^{function.__name__}: expected .*{message}"):
        function(weight, **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bound_weight(math.inf, 1.0, 1.0, kappa=1), "bound_weight: expected finite `c`"),
        (lambda: bound_weight(1.0, -1.0, 1.0, kappa=1), "bound_weight: expected .* `v` >= 0"),
        (lambda: bound_weight(1.0, 1.0, 1.0, kappa=-1), r"bound_weight: expected `kappa` in \[0.0"),
        (lambda: bound_weight(0.0, 0.0, 0.0, kappa=1), "bound_weight: .* repeats the labels"),
        (lambda: noise_to_signal(0.0, 0.0, kappa=1), "noise_to_signal: expected `v` or `hbar2`"),
        (
            lambda: reduction_factor(sigma2=0.0, c=0.0, v=1.0, hbar2=1.0, kappa=1),
            "reduction_factor: expected `sigma2` > 0; got 0. Without noise",
        ),
        (
            lambda: reduction_factor(sigma2=1.0, c=-1.1, v=1.0, hbar2=1.0, kappa=1),
            "reduction_factor: expected a covariance of at most .* got -1.1",
        ),
        (
            lambda: reduction_factor(sigma2=1.0, c=1.0, v=1.0, hbar2=-1.0, kappa=1),
            "reduction_factor: expected finite `hbar2` >= 0",
        ),
        (
            lambda: noise_bound_unbiased(1.0, sigma2=1.0, c=1.0, v=1.0, learning_rate=0.3, mu=2.0),
            "noise_bound_unbiased: expected learning rate times curvature of at most 0.5",
        ),
    ],
)
def test_bad_moments(call, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        call()
