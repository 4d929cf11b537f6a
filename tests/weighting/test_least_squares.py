"""Exact least squares against fractions, all batches, simulation and paths of students."""

import itertools
import math
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.weighting.theory import enumeration
from limbeck.weighting.theory.enumeration import propagate_by_enumeration
from limbeck.weighting.theory.least_squares import (
    LeastSquares,
    exact_error,
    exact_weight,
    stationary_covariance,
)


QUICK = settings(max_examples=25, deadline=None, derandomize=True)
LINE = LeastSquares(np.array([[1.0], [1], [2], [2]]), np.array([2.0, 0, 3, 1]))
PLANE = LeastSquares(np.array([[2.0, 0], [0, 1], [2, 1], [2, -1]]), np.array([0.0, -1, 2, 4]))
SIXTH, TENTHS = np.array([1.2]), np.array([1.1, -0.6])


def near(fraction, rel=1e-9):
    return pytest.approx(float(fraction), rel=rel)


def test_the_problem_on_a_line():
    assert LINE.optimum == near(1)
    assert LINE.residuals == pytest.approx(np.array([1, -1, 1, -1]), abs=1e-12)
    assert (LINE.mu, LINE.smoothness) == (near(Q(5, 2)), near(Q(5, 2)))
    assert LINE.expected_smoothness == near(Q(17, 5))


def test_the_problem_in_the_plane():
    assert PLANE.optimum == pytest.approx(np.array([1, -1]), abs=1e-12)
    assert PLANE.residuals == pytest.approx(np.array([-2, 0, 1, 1]), abs=1e-12)
    assert PLANE.hessian == pytest.approx(np.diag([3, 0.75]), abs=1e-12)
    assert (PLANE.mu, PLANE.smoothness) == (near(0.75), near(3))
    assert PLANE.expected_smoothness == near(Q(14, 3))


STEP = {"learning_rate": 0.05, "batch_size": 1}


@pytest.mark.parametrize(
    ("batch", "value", "rel"),
    [(1, Q(5, 183), 1e-9), (2, 0.013495276653171391, 1e-12), (4, Q(10, 1491), 1e-9)],
)
def test_spread_on_a_line(batch, value, rel):
    spread = stationary_covariance(LINE, learning_rate=0.05, batch_size=batch)
    assert spread.shape == (1, 1)
    assert spread[0, 0] == near(value, rel)


@pytest.mark.parametrize(
    ("batch", "errors", "weight", "best"),
    [
        (
            1,
            {0: Q(5, 183), 0.25: Q(109, 6100), 0.5: Q(77, 4575), 1: Q(1, 25)},
            Q(125, 308),
            Q(5, 308),
        ),
        (
            4,
            {0: Q(10, 1491), 0.25: Q(1247, 198800), 0.5: Q(1741, 149100)},
            Q(250, 1741),
            Q(10, 1741),
        ),
    ],
)
def test_errors_on_a_line(batch, errors, weight, best):
    step = {"learning_rate": 0.05, "batch_size": batch}
    for at, error in errors.items():
        assert exact_error(LINE, at, SIXTH, **step) == near(error)
    found = exact_weight(LINE, SIXTH, **step)
    assert found == near(weight)
    assert exact_error(LINE, found, SIXTH, **step) == near(best)
    # In one dimension the norm is a factor.
    assert exact_weight(LINE, SIXTH, **step, norm="loss") == near(weight)
    assert exact_error(LINE, found, SIXTH, **step, norm="loss") == near(best * Q(5, 4))


@pytest.mark.parametrize(
    ("batch", "spread", "plain", "weights", "halves"),
    [
        (
            1,
            (0.020884003742, 0.007296538821),
            (0.028180542563, 0.034062207671),
            (0.142196313514, 0.312319073657),
            (0.049545135641, 0.027265551918),
        ),
        (
            2,
            (0.010374792087, 0.003502309099),
            (0.013877101186, 0.016875554042),
            (0.075469436359, 0.183678392127),
            (0.045969275296, 0.022968888511),
        ),
    ],
)
def test_errors_in_the_plane(batch, spread, plain, weights, halves):
    step = {"learning_rate": 0.02, "batch_size": batch}
    found = stationary_covariance(PLANE, **step)
    assert found == pytest.approx(np.diag(spread), abs=1e-12)
    for number, norm in enumerate(("distance", "loss")):
        call = {**step, "norm": norm}
        assert exact_error(PLANE, 0, TENTHS, **call) == pytest.approx(plain[number], abs=1e-12)
        assert exact_error(PLANE, 0.5, TENTHS, **call) == pytest.approx(halves[number], abs=1e-12)
        assert exact_weight(PLANE, TENTHS, **call) == pytest.approx(weights[number], abs=1e-11)
    assert exact_error(PLANE, 1.0, TENTHS, **step) == near(0.17)
    assert exact_error(PLANE, 1.0, TENTHS, **step, norm="loss") == near(0.075)
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    # 2 * 0.01 + 2 * 0.5 * 0.1 * 0.4 + 0.16
    assert exact_error(PLANE, 1.0, TENTHS, **step, norm=matrix) == near(0.22)
    wanted = 2 * spread[0] + spread[1]
    assert exact_error(PLANE, 0, TENTHS, **step, norm=matrix) == pytest.approx(wanted, abs=1e-11)


def turned():
    """Five rows in three dimensions, drawn unequally, without any symmetry."""
    rng = np.random.default_rng(3)
    weights = np.array([1.0, 2, 1, 3, 0.5])
    return LeastSquares(rng.normal(size=(5, 3)), rng.normal(size=5), weights), rng.normal(size=3)


@pytest.mark.parametrize("weight", [0, 0.25, 0.8, 1, 1.3])
@pytest.mark.parametrize(
    ("name", "rate", "batch"),
    [
        *(("line", 0.05, 1), ("line", 0.05, 2), ("line", 0.05, 4), ("plane", 0.02, 1)),
        *(("plane", 0.02, 2), ("plane", 0.1, 3), ("turned", 0.05, 1), ("turned", 0.1, 3)),
    ],
)
def test_all_batches_agree_with_the_linear_system(name, rate, batch, weight):
    cases = {"line": (LINE, SIXTH), "plane": (PLANE, TENTHS), "turned": turned()}
    problem, teacher = cases[name]
    step = {"learning_rate": rate, "batch_size": batch}
    found = propagate_by_enumeration(problem, weight, teacher, **step)
    middle = problem.optimum + weight * (teacher - problem.optimum)
    assert found.mean == pytest.approx(middle, abs=1e-12)
    spread = (1 - weight) ** 2 * stationary_covariance(problem, **step)
    away = middle - problem.optimum
    assert found.second == pytest.approx(spread + np.outer(away, away), abs=1e-12)
    for norm, matrix in (("distance", np.eye(len(away))), ("loss", problem.hessian / 2)):
        error = exact_error(problem, weight, teacher, **step, norm=norm)
        assert error == pytest.approx(float((matrix * found.second).sum()), rel=1e-9, abs=1e-12)


def test_moments_of_a_few_steps_are_those_of_all_paths():
    problem, teacher = turned()
    shares = problem.weights / problem.weights.sum()
    start = np.array([0.3, -1.0, 0.5])
    step = {"learning_rate": 0.1, "batch_size": 2}
    mean, second = np.zeros(3), np.zeros((3, 3))
    for path in itertools.product(range(5), repeat=4):  # two steps of two
        x = start
        for batch in (path[:2], path[2:]):
            gradient = np.zeros(3)
            for n in batch:
                a, b = problem.inputs[n], problem.targets[n]
                gradient += (0.4 * (a @ x - b) + 0.6 * (a @ x - a @ teacher)) * a / 2
            x = x - 0.1 * gradient
        odds = math.prod(shares[n] for n in path)
        mean += odds * x
        second += odds * np.outer(x - problem.optimum, x - problem.optimum)
    found = propagate_by_enumeration(problem, 0.6, teacher, **step, steps=2, start=start)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.second == pytest.approx(second, abs=1e-12)
    still = propagate_by_enumeration(problem, 0.6, teacher, **step, steps=0, start=start)
    assert still.mean == pytest.approx(start, abs=1e-15)
    away = start - problem.optimum
    assert still.second == pytest.approx(np.outer(away, away), abs=1e-15)
    still = propagate_by_enumeration(problem, 0.6, teacher, **step, steps=0)
    assert np.array_equal(still.mean, problem.optimum)


def test_batches_in_chunks(monkeypatch):
    problem, teacher = turned()
    step = {"learning_rate": 0.1, "batch_size": 3}
    whole = propagate_by_enumeration(problem, 0.6, teacher, **step)
    monkeypatch.setattr(enumeration, "CHUNK", 7)
    parts = propagate_by_enumeration(problem, 0.6, teacher, **step)
    assert parts.second == pytest.approx(whole.second, abs=1e-14)


def test_weights_are_repeated_rows():
    problem, teacher = turned()
    rows = np.repeat(np.arange(5), (2 * problem.weights).astype(int))
    repeated = LeastSquares(problem.inputs[rows], problem.targets[rows])
    assert problem.optimum == pytest.approx(repeated.optimum, abs=1e-12)
    assert problem.hessian == pytest.approx(repeated.hessian, abs=1e-12)
    assert problem.expected_smoothness == near(repeated.expected_smoothness)
    step = {"learning_rate": 0.1, "batch_size": 2}
    assert exact_weight(problem, teacher, **step) == near(exact_weight(repeated, teacher, **step))
    whole = LeastSquares(np.array([[1], [1], [2], [2]]), np.array([2, 0, 3, 1]), np.full(4, 3))
    assert stationary_covariance(whole, **STEP)[0, 0] == near(Q(5, 183))


def appendix_problem():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 8)) * np.linspace(0.6, 1.4, 8)
    return LeastSquares(inputs, inputs @ rng.standard_normal(8) + 0.7 * rng.standard_normal(400))


@pytest.mark.parametrize(
    ("share", "distance", "loss"), [(8, 0.01809, 0.00995), (2, 0.08650, 0.04813)]
)
def test_four_hundred_points(share, distance, loss):
    problem = appendix_problem()
    assert problem.mu == pytest.approx(0.3125, abs=5e-5)
    assert problem.smoothness == pytest.approx(2.1169, abs=5e-5)
    assert problem.expected_smoothness == pytest.approx(13.503, abs=5e-4)
    step = {"learning_rate": 1 / (share * 13.503), "batch_size": 1}
    for norm, value in (("distance", distance), ("loss", loss)):
        found = exact_error(problem, 0, problem.optimum, **step, norm=norm)
        assert found == pytest.approx(value, abs=6e-6)


def test_simulated_students_follow_the_law():
    problem = appendix_problem()
    rng = np.random.default_rng(0)
    weights, chains, steps = np.array([0.0, 0.3, 0.6, 1.0]), 96, 2500
    direction = np.random.default_rng(5).standard_normal(8)
    teacher = problem.optimum + 0.2 * direction / np.linalg.norm(direction)
    rate = 1 / (2 * 13.503)
    labels = np.outer(1 - weights, problem.targets) + np.outer(weights, problem.inputs @ teacher)
    x, total = np.tile(problem.optimum, (4, chains, 1)), np.zeros(4)
    for step in range(steps):
        drawn = rng.integers(400, size=chains)
        error = np.einsum("wcd,cd->wc", x, problem.inputs[drawn]) - labels[:, drawn]
        x = x - rate * error[..., None] * problem.inputs[drawn]
        if step >= 500:
            total += ((x - problem.optimum) ** 2).sum(-1).mean(-1) / (steps - 500)
    law = [
        exact_error(problem, float(w), teacher, learning_rate=rate, batch_size=1) for w in weights
    ]
    assert total == pytest.approx(np.array(law), rel=0.03)


@QUICK
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(["distance", "loss"]))
def test_precisions_add_and_larger_batches_want_less(seed, batch, norm):
    rng = np.random.default_rng(seed)
    problem = LeastSquares(rng.normal(size=(9, 2)), rng.normal(size=9))
    teacher = problem.optimum + 0.1 * rng.normal(size=2)
    call = {"learning_rate": 0.1 / problem.expected_smoothness, "norm": norm}
    weight = exact_weight(problem, teacher, **call, batch_size=batch)
    assert 0 <= weight <= 1
    ends = [exact_error(problem, w, teacher, **call, batch_size=batch) for w in (0, 1, weight)]
    assert 1 / ends[2] == pytest.approx(1 / ends[0] + 1 / ends[1], rel=1e-9)
    assert exact_weight(problem, teacher, **call, batch_size=batch + 1) < weight


def test_coordinates_do_not_matter():
    problem, teacher = turned()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    other = LeastSquares(problem.inputs @ turn, problem.targets, problem.weights)
    for norm in ("distance", "loss"):
        call = {"learning_rate": 0.1, "batch_size": 2, "norm": norm}
        assert exact_error(other, 0.4, turn.T @ teacher, **call) == near(
            exact_error(problem, 0.4, teacher, **call)
        )


def sgd(gradients, state):
    state["t"] += 1
    return -0.05 / math.sqrt(state["t"]) * gradients, state


def momentum(gradients, state):
    state["u"] = 0.9 * state["u"] + gradients
    return -0.01 * state["u"], state


def nesterov(gradients, state):
    state["u"] = 0.9 * state["u"] + gradients
    return -0.01 * (gradients + 0.9 * state["u"]), state


def adam(gradients, state):
    state["t"] += 1
    state["u"] = 0.9 * state["u"] + 0.1 * gradients
    state["v"] = 0.999 * state["v"] + 0.001 * gradients**2
    mean = state["u"] / (1 - 0.9 ** state["t"])
    return -0.05 * mean / (np.sqrt(state["v"] / (1 - 0.999 ** state["t"])) + 1e-8), state


def path(rule, problem, labels, start):
    rng = np.random.default_rng(2)
    x, state, visited = start, {"t": 0, "u": 0.0, "v": 0.0}, []
    for _ in range(300):
        drawn = rng.integers(len(labels), size=4)
        rows = problem.inputs[drawn]
        move, state = rule(rows.T @ (rows @ x - labels[drawn]) / 4, state)
        x = x + move
        visited.append(x)
    return np.array(visited)


def gap(rule, same_start):
    """How far distillation is from mixing the students of labels and of teacher."""
    problem = appendix_problem()
    rng = np.random.default_rng(4)
    teacher, start, weight = problem.optimum + rng.normal(size=8), rng.normal(size=8), 0.7
    told = problem.inputs @ teacher
    plain = path(rule, problem, problem.targets, start)
    first = start if same_start else (1 - weight) * start + weight * teacher
    mixed = path(rule, problem, (1 - weight) * problem.targets + weight * told, first)
    other = path(rule, problem, told, start) if same_start else teacher
    return np.abs(mixed - (1 - weight) * plain - weight * other).max()


@pytest.mark.parametrize("same_start", [True, False])
@pytest.mark.parametrize("rule", [sgd, momentum, nesterov])
def test_distillation_is_interpolation_on_every_path(rule, same_start):
    assert gap(rule, same_start) < 1e-12


@pytest.mark.parametrize("same_start", [True, False])
def test_adam_does_not_interpolate(same_start):
    assert gap(adam, same_start) > 0.01


@pytest.mark.parametrize(("batch", "limit"), [(1, Q(10, 17)), (2, Q(40, 59))])
def test_steps_up_to_the_limit_of_stability(batch, limit):
    """In one dimension 2 H / (E a^4 / B + (1 - 1/B) H^2)."""
    below, above = 0.999 * float(limit), 1.001 * float(limit)
    assert stationary_covariance(LINE, learning_rate=below, batch_size=batch)[0, 0] > 1
    with pytest.raises(
        ArgumentError, match=rf"below {float(limit):.6g} at a batch of {batch}; got"
    ):
        stationary_covariance(LINE, learning_rate=above, batch_size=batch)
    call = {"learning_rate": above, "batch_size": batch}
    with pytest.raises(ArgumentError, match=r"^propagate_by_enumeration: .* stable in mean square"):
        propagate_by_enumeration(LINE, 0.5, SIXTH, **call)
    assert propagate_by_enumeration(LINE, 0.5, SIXTH, **call, steps=3).second[0, 0] > 0


EYE, TWO = np.eye(2), np.ones(2)
NAN = np.array([1.0, np.nan])


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((TWO, TWO), ShapeError, r"inputs \[n, d\] .* got shapes \(2,\), \(2,\). Pass one"),
        ((EYE, np.ones(3)), ShapeError, r"got shapes \(2, 2\), \(3,\)"),
        ((EYE, EYE), ShapeError, r"got shapes \(2, 2\), \(2, 2\)"),
        ((EYE, TWO, np.ones(3)), ShapeError, r"got shapes \(2, 2\), \(2,\), \(3,\)"),
        ((EYE, NAN), DataError, "finite inputs, targets and weights"),
        ((EYE, TWO, NAN), DataError, "finite inputs, targets and weights"),
        ((EYE, TWO, -TWO), DataError, "weights >= 0, some above 0"),
        ((EYE, TWO, 0 * TWO), DataError, "weights >= 0, some above 0"),
        ((np.ones((2, 2)), TWO), DataError, "full column rank; got rank 1 of 2 columns. Drop"),
        ((EYE, TWO, np.array([1.0, 0])), DataError, "full column rank; got rank 1 of 2"),
        ((np.ones((0, 2)), np.ones(0)), DataError, "full column rank; got rank 0 of 2"),
        ((np.ones((2, 0)), TWO), DataError, "full column rank; got rank 0 of 0"),
    ],
)
def test_bad_problems(arrays, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^LeastSquares: expected .*{message}"):
        LeastSquares(*arrays)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: stationary_covariance(LINE, learning_rate=0.0, batch_size=1),
            ArgumentError,
            "stationary_covariance: expected `learning_rate` > 0",
        ),
        (
            lambda: stationary_covariance(LINE, learning_rate=0.1, batch_size=0),
            ArgumentError,
            "stationary_covariance: expected `batch_size` in",
        ),
        (
            lambda: stationary_covariance(
                LeastSquares(np.eye(49), np.ones(49)), learning_rate=0.1, batch_size=1
            ),
            DataError,
            "stationary_covariance: expected at most 48 dimensions; got 49. Project",
        ),
        (
            lambda: exact_error(LINE, math.nan, SIXTH, **STEP),
            ArgumentError,
            "exact_error: expected finite `distillation_weight`",
        ),
        (
            lambda: exact_error(LINE, 0.5, np.ones(2), **STEP),
            ShapeError,
            r"exact_error: expected `teacher` of shape \(1,\); got shape \(2,\). Pass one",
        ),
        (
            lambda: exact_weight(LINE, np.array([np.inf]), **STEP),
            DataError,
            "exact_weight: expected a finite `teacher`; got 1 other",
        ),
        (
            lambda: exact_error(LINE, 0.5, SIXTH, **STEP, norm="los"),
            ArgumentError,
            "exact_error: expected `norm` to be one of distance, loss; got 'los'. Did you mean",
        ),
        (
            lambda: exact_error(LINE, 0.5, SIXTH, **STEP, norm=EYE),
            ShapeError,
            r"exact_error: expected `norm` of shape \(1, 1\); got shape \(2, 2\)",
        ),
        (
            lambda: exact_error(PLANE, 0.5, TENTHS, **STEP, norm=np.array([[1.0, 2], [0, 1]])),
            DataError,
            "exact_error: expected a finite symmetric `norm`",
        ),
        (
            lambda: exact_weight(LINE, SIXTH, **STEP, norm=np.array([[np.nan]])),
            DataError,
            "exact_weight: expected a finite symmetric `norm`",
        ),
        (
            lambda: exact_weight(LINE, SIXTH, **STEP, norm=np.zeros((1, 1))),
            DataError,
            "exact_weight: expected SGD or a teacher with an error above 0",
        ),
        (
            lambda: propagate_by_enumeration(LINE, math.nan, SIXTH, **STEP),
            ArgumentError,
            "propagate_by_enumeration: expected finite `distillation_weight`",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, SIXTH, learning_rate=0.05, batch_size=10),
            ArgumentError,
            r"propagate_by_enumeration: expected at most 1000000 batches; got 4\^10. Use",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, SIXTH, learning_rate=0.05, batch_size=0),
            ArgumentError,
            "propagate_by_enumeration: expected `batch_size`",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, SIXTH, learning_rate=-1.0, batch_size=1),
            ArgumentError,
            "propagate_by_enumeration: expected `learning_rate` > 0",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, SIXTH, **STEP, steps=1.5),
            ArgumentError,
            "propagate_by_enumeration: expected `steps` .* got 1.5. Count",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, SIXTH, **STEP, steps=-1),
            ArgumentError,
            "propagate_by_enumeration: expected `steps` .* got -1",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, np.ones(2), **STEP),
            ShapeError,
            "propagate_by_enumeration: expected `teacher` of shape",
        ),
        (
            lambda: propagate_by_enumeration(LINE, 0.5, SIXTH, **STEP, start=np.ones(2)),
            ShapeError,
            "propagate_by_enumeration: expected `start` of shape",
        ),
    ],
)
def test_bad_arguments(call, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_as_many_batches_as_are_allowed(monkeypatch):
    monkeypatch.setattr(enumeration, "MOST_BATCHES", 16)
    found = propagate_by_enumeration(LINE, 0.5, SIXTH, learning_rate=0.05, batch_size=2)
    assert found.mean[0] == near(1.1)
    with pytest.raises(ArgumentError, match=r"at most 16 batches; got 4\^3"):
        propagate_by_enumeration(LINE, 0.5, SIXTH, learning_rate=0.05, batch_size=3)
