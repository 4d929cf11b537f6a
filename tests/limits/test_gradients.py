"""Gradients at one token position: the reference's digits, and finite differences of the losses."""

import numpy as np
import pytest

from limbeck.limits.tables.gradients import (
    control_weight,
    count_gradient,
    log_ratio_gradient,
    naive_gradient,
    ratio_gradient,
    truncated_gradients,
)


T = np.array([0.5, 0.25, 0.125, 0.1, 0.025])
X = np.array([1, 0.5, 0, -0.5, 0.2])
P = np.exp(X) / np.exp(X).sum()
ONE = np.array([[0, 1, 0, 0, 0]])
DIGITS = 6e-11
TABLE = {  # limits reference, section 9.3: sampled label 1, K = {0, 1}
    "cross-entropy": "0.3778048384, -0.7708497821, 0.1389866328, 0.0842996541, 0.1697586567",
    "naive": "0.0944512096, -0.1927124455, 0.0347466582, 0.0210749135, 0.0424396642",
    "squared error": "0.0329004377, -0.0671280318, 0.0121033946, 0.0073410799, 0.0147831196",
    "k3": "0.0315085942, -0.0642881999, 0.0115913640, 0.0070305177, 0.0141577240",
    "half": "0.2046567163, -0.4175689910, 0.0752889984, 0.0456650859, 0.0919581904",
    "raw": "-0.2166463712, -0.0781373366, 0.1042399746, 0.0632247406, 0.1273189925",
    "renormalised": "-0.2888618282, -0.1041831154, 0.1389866328, 0.0842996541, 0.1697586567",
    "tail_bucket": "-0.1221951616, -0.0208497821, 0.0505828542, 0.0306800519, 0.0617820376",
}


def test_gradients_of_one_position():
    found = {
        "cross-entropy": count_gradient(P, ONE)[0],
        "naive": naive_gradient(P, T, ONE)[0],
        "squared error": log_ratio_gradient(P, T, ONE)[0],
        "k3": ratio_gradient(P, T, ONE)[0],
        "half": ratio_gradient(P, T, ONE, weight=0.5)[0],
        **truncated_gradients(P, T, 2),
    }
    assert found.keys() == TABLE.keys()
    for name, text in TABLE.items():
        np.testing.assert_allclose(found[name], [float(x) for x in text.split(",")], atol=DIGITS)


def test_means_over_labels():
    each = np.eye(5, dtype=np.int64)
    for weight in (0.0, 0.3, 1.0):
        mean = T @ ratio_gradient(P, T, each, weight=weight)
        np.testing.assert_allclose(mean, P - T, atol=1e-15)
    np.testing.assert_allclose(T @ count_gradient(P, each), P - T, atol=1e-15)
    said = "-0.0956023351, 0.0052276091, 0.0296333593, -0.0071470868, 0.0678884536"
    right = [float(x) for x in said.split(",")]
    np.testing.assert_allclose(T @ log_ratio_gradient(P, T, each), right, atol=DIGITS)
    said = "-0.1220186110, 0.0151246363, 0.0314567219, 0.0185565078, 0.0568807450"
    right = [float(x) for x in said.split(",")]
    np.testing.assert_allclose(T @ naive_gradient(P, T, each), right, atol=DIGITS)


def test_the_control_weight_has_the_least_variance():
    best, each = control_weight(P, T), np.eye(5, dtype=np.int64)
    assert best == pytest.approx(0.4728980252, abs=DIGITS)

    def error(weight):
        away = ratio_gradient(P, T, each, weight=weight) - (P - T)
        return float(T @ (away**2).sum(1))

    # Mean squared deviations at 0, 1 and the best weight.
    assert error(0.0) == pytest.approx(0.66125, abs=6e-6)
    assert error(1.0) == pytest.approx(0.7471596602, abs=DIGITS)
    assert error(best) == pytest.approx(0.3068072722, abs=DIGITS)
    assert error(best) < min(error(best - 0.01), error(best + 0.01))


def test_several_draws_are_averaged():
    counts = np.array([[2, 1, 0, 0, 1]])
    each = np.eye(5, dtype=np.int64)
    for of in (log_ratio_gradient, ratio_gradient, naive_gradient):
        one = of(P, T, each)
        right = (2 * one[0] + one[1] + one[4]) / 4
        np.testing.assert_allclose(of(P, T, counts)[0], right, atol=1e-15)
    right = (2 * (P - each[0]) + (P - each[1]) + (P - each[4])) / 4
    np.testing.assert_allclose(count_gradient(P, counts)[0], right, atol=1e-15)
