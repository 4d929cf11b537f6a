"""Small-step laws against exact fractions, loops and linear systems in two states."""

import math
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import solve_discrete_lyapunov

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.weighting.theory.laws import (
    loss_factor,
    loss_weight,
    noise_floor,
    noise_left,
    relative_bias,
    shrinkage,
    shrinkage_weight,
)
from limbeck.weighting.theory.masks import mask_excess, mask_factor, mask_weight
from limbeck.weighting.theory.noise_scale import (
    teacher_noise_scale,
    weight_from_alpha,
    weight_from_noise_scale,
)
from limbeck.weighting.theory.step_laws import (
    averaging_ratio,
    effective_learning_rate,
    heavy_ball_variance,
    horizon,
)


QUICK = settings(max_examples=60, deadline=None, derandomize=True)
# Squared error, a = (1, 1, 2, 2), b = (2, 0, 3, 1), teacher 6/5, of which 1/20 is excess loss
TRACES = {"tr_gg": 2.5, "tr_gh": 2.5, "tr_hh": 2.59}


def near(fraction):
    return pytest.approx(float(fraction), rel=1e-9)


@pytest.mark.parametrize(
    ("batch", "momentum", "floor", "shrunk", "general"),
    [
        (1, 0.0, Q(1, 32), Q(5, 13), Q(250, 659)),
        (4, 0.0, Q(1, 128), Q(5, 37), Q(250, 1859)),
        (4, 0.9, Q(10, 128), Q(50, 82), Q(250, 419)),
    ],
)
def test_four_points(batch, momentum, floor, shrunk, general):
    step = {"learning_rate": 0.05, "batch_size": batch, "momentum": momentum}
    found = noise_floor(2.5, **step)
    assert found == near(floor)
    assert shrinkage_weight(found, 0.05) == near(shrunk)
    assert loss_weight(2.5, 2.59, 0.05, **step) == near(general)
    # tr_gg = tr_gh here, so that the factor is one minus the weight
    assert loss_factor(2.5, 2.5, 2.59, 0.05, **step) == near(1 - general)


def test_the_factor_of_unequal_traces():
    step = {"learning_rate": 0.1, "batch_size": 2}
    # 1 - 9 / (8 * (2 + 80 * 0.05))
    assert loss_factor(8.0, -3.0, 2.0, 0.05, **step) == near(Q(39, 48))
    assert loss_weight(-3.0, 2.0, 0.05, **step) == near(Q(-1, 2))


@pytest.mark.parametrize(
    ("batch", "floor", "shrunk", "general"),
    [
        (1, 0.0325, 0.302325581395, 0.294930875576),
        (2, 0.01625, 0.178082191781, 0.174386920981),
    ],
)
def test_two_dimensions(batch, floor, shrunk, general):
    step = {"learning_rate": 0.02, "batch_size": batch}
    assert noise_floor(6.5, **step) == near(floor)
    assert shrinkage_weight(floor, 0.075) == pytest.approx(shrunk, abs=1e-12)
    assert loss_weight(6.4, 6.7, 0.075, **step) == pytest.approx(general, abs=1e-12)


@pytest.mark.parametrize(
    ("batch", "floor", "general", "shrunk"),
    [
        (1, Q(3, 320), Q(9, 49), 0.139823562236),
        (16, Q(3, 5120), Q(9, 649), 0.010057334161),
    ],
)
def test_intercept_only_logistic_regression(batch, floor, general, shrunk):
    step = {"learning_rate": 0.2, "batch_size": batch}
    assert noise_floor(3 / 16, **step) == near(floor)
    # hbar = 1/8 and H = 3/16: 1/2 * (1/64) / (3/16) = 1/24
    assert loss_weight(3 / 16, 3 / 16, 1 / 24, **step) == near(general)
    assert shrinkage_weight(float(floor), 1 / 24) == near(general)
    excess = 0.75 * math.log(0.75 / 0.875) + 0.25 * math.log(0.25 / 0.125)
    assert excess == pytest.approx(0.057673785270, abs=1e-12)
    assert shrinkage_weight(float(floor), excess) == pytest.approx(shrunk, abs=1e-12)


def test_shrinkage_is_a_parabola_between_floor_and_bias():
    assert shrinkage(0, floor=3.0, bias=7.0) == 3
    assert shrinkage(1, floor=3.0, bias=7.0) == 7
    assert shrinkage(0.25, floor=3.0, bias=7.0) == 2.125
    assert shrinkage(-1.0, floor=3.0, bias=7.0) == 19
    assert shrinkage_weight(0.0, 1.0) == 0
    assert shrinkage_weight(1.0, 0.0) == 1


@QUICK
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_errors_add_as_precisions(floor, bias):
    weight = shrinkage_weight(floor, bias)
    best = shrinkage(weight, floor=floor, bias=bias)
    assert 1 / best == pytest.approx(1 / floor + 1 / bias, rel=1e-9)
    assert best == pytest.approx((1 - weight) * floor, rel=1e-9, abs=1e-12 * floor)


@st.composite
def traces(draw):
    size = st.floats(1e-3, 1e3)
    tr_gg, tr_hh = draw(size), draw(size)
    return tr_gg, draw(st.floats(-1, 1)) * math.sqrt(tr_gg * tr_hh), tr_hh


@QUICK
@given(traces(), st.floats(0, 10), st.floats(1e-4, 1), st.integers(1, 512))
def test_loss_factor_is_a_share_and_what_the_weight_gives(given_traces, bias, rate, batch):
    tr_gg, tr_gh, tr_hh = given_traces
    step = {"learning_rate": rate, "batch_size": batch}
    weight = loss_weight(tr_gh, tr_hh, bias, **step)
    factor = loss_factor(tr_gg, tr_gh, tr_hh, bias, **step)
    assert 0 <= factor <= 1
    left = tr_gg - 2 * weight * tr_gh + weight**2 * tr_hh
    excess = rate / (4 * batch) * left + weight**2 * bias
    assert excess / (rate / (4 * batch) * tr_gg) == pytest.approx(factor, abs=1e-8)
    step["batch_size"] = 2 * batch
    assert abs(loss_weight(tr_gh, tr_hh, bias, **step)) <= abs(weight) * (1 + 1e-12)


def test_noise_left_and_relative_bias():
    assert noise_left(0.5, **TRACES) == near(Q(259, 1000))
    assert noise_left(-1.0, tr_gg=2.0, tr_gh=-1.0, tr_hh=3.0) == near(Q(3, 2))
    assert noise_left(1.0, tr_gg=2.0, tr_gh=2.0 + 1e-10, tr_hh=2.0) == 0
    for batch, bias in ((1, Q(1, 40)), (4, Q(1, 10))):
        assert relative_bias(0.5, tr_gg=2.5, hbar2=0.25, batch_size=batch) == near(bias)


def test_noise_scale_and_its_weight():
    assert teacher_noise_scale(2.59, 0.25) == near(Q(259, 25))
    assert teacher_noise_scale(3 / 16, 1 / 64) == near(12)
    assert teacher_noise_scale(6.7, 0.18) == pytest.approx(37.222222222, abs=1e-9)
    assert teacher_noise_scale(1.0, 0.0) == math.inf
    assert teacher_noise_scale(0.0, 1.0) == 0
    for batch, kappa, weight in (
        (1, 8, Q(125, 242)),
        (4, 8, Q(250, 1159)),
        (1, 0, Q(125, 142)),
        (1, 100, Q(125, 1392)),
    ):
        found = weight_from_noise_scale(250 / 259, 10.36, batch_size=batch, kappa=kappa)
        assert found == near(weight)
    assert weight_from_noise_scale(0.9, math.inf, batch_size=8, kappa=math.inf) == 0.9
    assert weight_from_noise_scale(0.9, 5.0, batch_size=8, kappa=math.inf) == 0


def test_additive_objectives():
    found = weight_from_alpha(7 / 3)
    assert found.distillation_weight == near(Q(7, 10))
    assert found.step_factor == near(Q(10, 3))
    assert weight_from_alpha(0) == (0, 1)


@pytest.mark.parametrize(
    ("steps", "value"),
    [(1, 1), (3, 2.986183074), (10, 9.463738403), (50, 23.268916446), (math.inf, 24)],
)
def test_horizon(steps, value):
    assert horizon(steps, learning_rate=0.1, curvature=0.8) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("shrunk", [1e-3, 0.3, 0.97, 1.0, 1.4, 1.9])
@pytest.mark.parametrize("steps", [1, 2, 7, 400])
def test_horizon_against_a_loop(shrunk, steps):
    """What t steps make of a unit of bias and of noise."""
    bias = spread = 0.0
    for _ in range(steps):
        bias = (1 - shrunk) * bias + 0.5
        spread = (1 - shrunk) ** 2 * spread + 0.25
    found = horizon(steps, learning_rate=0.5, curvature=2 * shrunk)
    assert found == pytest.approx(bias**2 / spread, rel=1e-9)


def test_horizon_of_tiny_steps_counts_them():
    assert horizon(1000, learning_rate=1e-9, curvature=1e-6) == pytest.approx(1000, rel=1e-9)
    assert horizon(1, learning_rate=1e-12, curvature=1.0) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "curvature", "momentum", "value"),
    [
        (0.05, 2.5, 0.9, 0.103401360544),
        (0.1, 1.0, 0.5, 0.103448275862),
        (0.3, 2.0, 0.9, 0.890625),
        (0.7, 1.5, 0.0, None),
    ],
)
def test_heavy_ball(rate, curvature, momentum, value):
    found = heavy_ball_variance(1.0, learning_rate=rate, curvature=curvature, momentum=momentum)
    if value is not None:
        assert found == pytest.approx(value, abs=1e-12)
    move = np.array([[1 - rate * curvature, -rate * momentum], [curvature, momentum]])
    noise = np.array([-rate, 1.0])
    spread = solve_discrete_lyapunov(move, np.outer(noise, noise))
    assert found == near(spread[0, 0])
    tripled = heavy_ball_variance(3.0, learning_rate=rate, curvature=curvature, momentum=momentum)
    assert tripled == near(3 * spread[0, 0])


def test_momentum_to_leading_order():
    exact = heavy_ball_variance(1.0, learning_rate=1e-7, curvature=2.0, momentum=0.8)
    rate = effective_learning_rate(1e-7, momentum=0.8)
    assert rate == near(5e-7)
    plain = heavy_ball_variance(1.0, learning_rate=rate, curvature=2.0, momentum=0.0)
    assert exact == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("contraction", "rate", "value"),
    [
        (0.875, 0.01, 0.070116939839),
        (0.999, 0.001, 0.500000125),
        (0.9, 0.2, 0.682539682540),
        (-0.5, 0.3, None),
        (0.3, 1.0, 1.0),
    ],
)
def test_averaging(contraction, rate, value):
    found = averaging_ratio(contraction=contraction, rate=rate)
    if value is not None:
        assert found == pytest.approx(value, abs=1e-9)
    move = np.array([[contraction, 0.0], [rate * contraction, 1 - rate]])
    noise = np.array([1.0, rate])
    spread = solve_discrete_lyapunov(move, np.outer(noise, noise))
    assert found == near(spread[1, 1] / spread[0, 0])


# Two dimensions, inputs (2,0), (0,1), (2,1), (2,-1), the first kept; the teacher fits best.
MASKED = {
    "squares": np.array([4.0, 0, 4, 4]),
    "student_residuals": np.array([-2.0, -1, 0, 2]),
    "teacher_residuals": np.array([-2.0, 0, 1, 1]),
}


def test_masked_students():
    assert mask_weight(**MASKED) == near(1)
    assert mask_factor(**MASKED) == near(Q(1, 4))
    step = {"learning_rate": 0.02, "batch_size": 2}
    for weight, mean in ((0, 8), (0.5, Q(7, 2)), (1.0, 2), (2.0, 8)):
        # E |a|^2 (e_m - w e)^2, for instance (4 + 0 + 1/4 * 4 + 9/4 * 4) / 4 at a half
        assert mask_excess(weight, **MASKED, **step) == near(Q(2, 100) / 8 * mean)
    moving = mask_excess(0.5, **MASKED, **step, momentum=0.9)
    assert moving == near(Q(20, 100) / 8 * Q(7, 2))


def test_masked_students_against_a_loop():
    rng = np.random.default_rng(0)
    rows = dict(zip(MASKED, (rng.random(9), rng.normal(size=9), rng.normal(size=9)), strict=True))
    parts = np.zeros(4)
    for square, own, teachers in zip(*rows.values(), strict=True):
        parts += square * np.array([own**2, own * teachers, teachers**2, (own - teachers / 2) ** 2])
    assert mask_weight(**rows) == near(parts[1] / parts[2])
    assert mask_factor(**rows) == near(1 - parts[1] ** 2 / (parts[0] * parts[2]))
    found = mask_excess(0.5, **rows, learning_rate=0.1, batch_size=3)
    assert found == near(0.1 / 12 * parts[3] / 9)


def test_masked_students_at_the_ends():
    fits = {**MASKED, "student_residuals": np.zeros(4)}
    labels = {**MASKED, "teacher_residuals": np.zeros(4)}
    step = {"learning_rate": 0.02, "batch_size": 1}
    assert mask_excess(0.0, **fits, **step) == 0
    assert mask_excess(0.5, **fits, **step) == near(Q(2, 400) * Q(1, 4) * Q(24, 4))
    assert mask_factor(**labels) == 1
    with pytest.raises(DataError, match=r"^mask_weight: expected .* It repeats the labels"):
        mask_weight(**labels)
    with pytest.raises(DataError, match=r"^mask_factor: expected .* nothing to reduce"):
        mask_factor(**fits)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"squares": np.ones(3)}, ShapeError, r"got shapes \(3,\), \(4,\), \(4,\)"),
        (dict.fromkeys(MASKED, np.ones((2, 2))), ShapeError, "three vectors of one length"),
        (dict.fromkeys(MASKED, np.ones(0)), DataError, "got 0 samples"),
        ({"squares": np.array([4.0, -1, 4, 4])}, DataError, "1 negative squares. Pass squared"),
        ({"teacher_residuals": np.full(4, np.nan)}, DataError, "4 values not finite"),
    ],
)
def test_bad_masks(change, error, message, without_shape_hook):
    rows = {**MASKED, **change}
    for function in (mask_weight, mask_factor):
        with pytest.raises(error, match=f"^{function.__name__}: expected .*{message}"):
            function(**rows)
    with pytest.raises(error, match=f"^mask_excess: expected .*{message}"):
        mask_excess(0.5, **rows, learning_rate=0.1, batch_size=1)


STEP = {"learning_rate": 0.05, "batch_size": 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_floor(-1.0, **STEP), "noise_floor: expected finite `tr_gg` >= 0; got -1.0"),
        (
            lambda: noise_floor(1.0, learning_rate=0.1, batch_size=0),
            r"noise_floor: expected `batch_size` in \[1.0, inf\]; got 0",
        ),
        (lambda: noise_floor(1.0, learning_rate=-1.0, batch_size=1), ".*`learning_rate` > 0"),
        (
            lambda: noise_floor(1.0, **STEP, momentum=1.0),
            r".*`momentum` in \[0, 1\); got 1.0. Pass",
        ),
        (lambda: shrinkage(math.nan, floor=1.0, bias=1.0), "shrinkage: .* `distillation_weight`"),
        (lambda: shrinkage(0.5, floor=-1.0, bias=1.0), "shrinkage: .* `floor` >= 0; got -1.0"),
        (lambda: shrinkage_weight(1.0, -1.0), "shrinkage_weight: .* `bias` >= 0; got -1.0. Clip"),
        (lambda: shrinkage_weight(0.0, 0.0), "shrinkage_weight: .* above 0; got zeros. .* use any"),
        (lambda: loss_weight(math.nan, 1.0, 1.0, **STEP), "loss_weight: .* finite `tr_gh`"),
        (lambda: loss_weight(1.0, -1.0, 1.0, **STEP), "loss_weight: .* `tr_hh` >= 0"),
        (lambda: loss_weight(0.0, 0.0, 0.0, **STEP), "loss_weight: .* repeats the labels"),
        (lambda: loss_factor(0.0, 0.0, 1.0, 1.0, **STEP), "loss_factor: .* `tr_gg` > 0; got 0.0"),
        (lambda: loss_factor(1.0, 2.0, 1.0, 1.0, **STEP), "loss_factor: .* covariance of at most"),
        (lambda: loss_factor(1.0, 1.0, 1.0, -1.0, **STEP), "loss_factor: .* `bias` >= 0"),
        (lambda: noise_left(0.5, tr_gg=0.0, tr_gh=0.0, tr_hh=1.0), "noise_left: .* `tr_gg` > 0"),
        (lambda: noise_left(0.5, tr_gg=1.0, tr_gh=3.0, tr_hh=1.0), "noise_left: .* got 3.0. Take"),
        (lambda: noise_left(math.inf, **TRACES), "noise_left: .* `distillation_weight`; got inf"),
        (
            lambda: relative_bias(0.5, tr_gg=1.0, hbar2=-0.1, batch_size=1),
            "relative_bias: .* `hbar2` >= 0; got -0.1",
        ),
        (
            lambda: relative_bias(0.5, tr_gg=1.0, hbar2=0.1, batch_size=0),
            "relative_bias: .* `batch_size` in .* got 0",
        ),
        (
            lambda: relative_bias(0.5, tr_gg=0.0, hbar2=0.1, batch_size=1),
            "relative_bias: .* `tr_gg` > 0",
        ),
        (
            lambda: relative_bias(math.nan, tr_gg=1.0, hbar2=0.1, batch_size=1),
            "relative_bias: .* `distillation_weight`; got nan",
        ),
        (lambda: effective_learning_rate(0.1, momentum=-0.1), ".*`momentum` in .* got -0.1"),
        (lambda: horizon(0, learning_rate=0.1, curvature=1.0), "horizon: .* whole number >= 1"),
        (lambda: horizon(1.5, learning_rate=0.1, curvature=1.0), "horizon: .* got 1.5. Count"),
        (lambda: horizon(math.nan, learning_rate=0.1, curvature=1.0), "horizon: .* got nan"),
        (lambda: horizon(5, learning_rate=0.1, curvature=20.0), r"horizon: .* < 2; got 0.1 \* 20"),
        (lambda: horizon(5, learning_rate=0.1, curvature=0.0), "horizon: .* `curvature` > 0"),
        (
            lambda: heavy_ball_variance(1.0, learning_rate=1.0, curvature=3.0, momentum=0.5),
            "heavy_ball_variance: .* with momentum 0.5. Lower",
        ),
        (
            lambda: heavy_ball_variance(-1.0, learning_rate=1.0, curvature=1.0, momentum=0.5),
            "heavy_ball_variance: .* `noise` >= 0",
        ),
        (
            lambda: heavy_ball_variance(1.0, learning_rate=1.0, curvature=1.0, momentum=1.5),
            "heavy_ball_variance: .* `momentum` in",
        ),
        (lambda: averaging_ratio(contraction=1.0, rate=0.1), "averaging_ratio: .* got 1.0. Pass"),
        (
            lambda: averaging_ratio(contraction=0.5, rate=0.0),
            "averaging_ratio: .* `rate` in .* 0.0",
        ),
        (lambda: teacher_noise_scale(-1.0, 1.0), "teacher_noise_scale: .* `tr_hh` >= 0"),
        (lambda: teacher_noise_scale(0.0, 0.0), "teacher_noise_scale: .* repeats the labels"),
        (
            lambda: weight_from_noise_scale(1.0, 0.0, batch_size=1, kappa=1),
            "weight_from_noise_scale: .* `noise_scale` > 0; got 0.0. A teacher",
        ),
        (
            lambda: weight_from_noise_scale(math.nan, 1.0, batch_size=1, kappa=1),
            "weight_from_noise_scale: .* finite `unbiased_weight`",
        ),
        (
            lambda: weight_from_noise_scale(1.0, 1.0, batch_size=0, kappa=1),
            "weight_from_noise_scale: .* `batch_size`",
        ),
        (
            lambda: weight_from_noise_scale(1.0, 1.0, batch_size=1, kappa=-1),
            "weight_from_noise_scale: .* `kappa`",
        ),
        (lambda: weight_from_alpha(-0.5), "weight_from_alpha: .* `alpha` >= 0; got -0.5"),
    ],
)
def test_bad_numbers(call, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        call()
