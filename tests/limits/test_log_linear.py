"""Log-linear students: gradients against finite differences, recovery, an independent optimiser."""

from typing import get_args

import numpy as np
import pytest
from scipy.optimize import minimize

from limbeck.checks import ArgumentError, ShapeError
from limbeck.limits.tables import log_linear
from limbeck.limits.tables.log_linear import (
    LogLinearTeacher,
    Loss,
    fit_log_linear,
    log_probabilities,
    transfer_error,
)


def drawn(seed, n, dimension=4, labels=6):
    random = np.random.default_rng(seed)
    teacher = LogLinearTeacher.random(dimension, labels, random)
    features = teacher.features(n, random)
    rows = teacher.rows(features)
    label = np.array([random.choice(labels, p=row) for row in rows])
    return teacher, features, rows, label, teacher.features(500, random)


def plain_loss(parameters, features, label, rows, loss):
    """The losses as loops over samples."""
    total = 0.0
    for phi, a, t in zip(features, label, rows, strict=True):
        scores = [float(one @ parameters) for one in phi]
        weights = np.exp(np.array(scores) - max(scores))
        p = weights / weights.sum()
        r = p[a] / t[a]
        total += {
            "cross_entropy": -np.log(p[a]),
            "naive_cross_entropy": -t[a] * np.log(p[a]),
            "squared_error": np.log(r) ** 2 / 2,
            "k3": r - 1 - np.log(r),
            "kl_divergence": sum(t * np.log(t / p)),
        }[loss]
    return total / len(label)


@pytest.mark.parametrize("loss", get_args(Loss))
def test_values_and_gradients(loss):
    _, features, rows, label, _ = drawn(1, 9)
    at = np.array([0.3, -0.2, 0.5, 0.1])
    value, gradient, curvature = log_linear._expand(at, features, label, rows, loss)
    assert value == pytest.approx(plain_loss(at, features, label, rows, loss), abs=1e-13)
    steps = np.eye(4) * 1e-5
    numeric = [
        (plain_loss(at + step, features, label, rows, loss)
         - plain_loss(at - step, features, label, rows, loss)) / 2e-5
        for step in steps
    ]  # fmt: skip
    np.testing.assert_allclose(gradient, numeric, atol=1e-9)
    assert np.linalg.eigvalsh(curvature).min() > -1e-12


@pytest.mark.parametrize("loss", ["cross_entropy", "naive_cross_entropy"])
def test_noisy_fits_are_those_of_another_optimiser(loss):
    _, features, rows, label, _ = drawn(2, 300)
    found = fit_log_linear(features, label, rows, loss=loss)

    def value(parameters):
        said = log_probabilities(features, parameters)[np.arange(300), label]
        weights = rows[np.arange(300), label] if loss == "naive_cross_entropy" else 1.0
        return -(weights * said).mean()

    right = minimize(value, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(found, right, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "k3", "kl_divergence"])
def test_probabilities_give_the_teacher_away(loss):
    teacher, features, rows, label, test = drawn(3, 10)
    found = fit_log_linear(features, label, rows, loss=loss)
    assert transfer_error(test, found, teacher.parameters) < 1e-12


def test_labels_that_can_be_separated_give_a_finite_student():
    teacher, features, rows, label, test = drawn(4, 2)
    for loss in ("cross_entropy", "naive_cross_entropy"):
        found = fit_log_linear(features, label, rows, loss=loss)
        assert np.isfinite(found).all()
        assert transfer_error(test, found, teacher.parameters) > 0.1


def test_what_is_refused(without_shape_hook):
    _, features, rows, label, _ = drawn(1, 5)
    with pytest.raises(ArgumentError, match="Did you mean k3"):
        fit_log_linear(features, label, rows, loss="k2")
    with pytest.raises(ShapeError, match="expected 5 labels"):
        fit_log_linear(features, label[:4], rows, loss="k3")
    with pytest.raises(ArgumentError, match="`labels` >= 2"):
        LogLinearTeacher.random(3, 1, np.random.default_rng(0))
