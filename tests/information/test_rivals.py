"""The cheap figures: by hand, and by the fixture of the ITRD losses."""

import numpy as np
import pytest
from helpers.features import vectors
from scipy.stats import norm

from limbeck.information.rivals import held_out_r2, linear_cka, rivals


TARGETS = np.array([0, 1, 1, 0])
TEACHER = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0], [0.9, 0.1]])
STUDENT = np.array([[0.25, 0.75], [0.5, 0.5], [0.5, 0.5], [0.45, 0.55]])


def test_differences_by_hand():
    """The student has half the teacher's probability in three rows, two thirds in the other."""
    found = rivals(TARGETS, TEACHER, STUDENT)
    bits = (1 + np.log2(1.5) + 1 + 1) / 4
    assert found["cross_entropy_difference"] == pytest.approx(bits)
    # Of two equal probabilities the first class is named.
    assert found["accuracy_difference"] == 1.0
    assert found["agreement"] == 0.0
    same = rivals(TARGETS, TEACHER, TEACHER)
    assert same == {"cross_entropy_difference": 0.0, "accuracy_difference": 0.0, "agreement": 1.0}


def test_a_label_that_was_ruled_out_costs_a_finite_number_of_bits():
    sure = np.eye(2)[1 - TARGETS]
    found = rivals(TARGETS, np.eye(2)[TARGETS], sure)
    assert found["cross_entropy_difference"] == pytest.approx(12 * np.log2(10))


def test_cka_of_the_fixture_and_where_nothing_varies():
    student, teacher = (side.numpy() for side in vectors())
    assert linear_cka(student, teacher) == pytest.approx(0.709417360445, abs=1e-12)
    assert linear_cka(student, 3.0 - 2.0 * student) == pytest.approx(1.0)
    assert linear_cka(student, np.ones((len(student), 2))) == 0.0


def test_r2_of_a_line_with_noise():
    random = np.random.default_rng(0)
    rows = random.normal(size=(4000, 3))
    targets = rows[:, :1] + 0.5 * random.normal(size=(4000, 1))
    assert held_out_r2(targets, rows) == pytest.approx(0.8, abs=0.02)
    assert held_out_r2(targets, rows[:, 1:]) == pytest.approx(0.0, abs=0.01)
    # Three classes by thresholds at -0.5 and 0.5; a line explains squared differences of densities.
    classes = np.select([rows[:, 0] < -0.5, rows[:, 0] < 0.5], [2, 0], 1)
    edge, outer = norm.pdf(0.5), norm.cdf(-0.5)
    whole = 2 * outer * (1 - outer) + (1 - 2 * outer) * 2 * outer
    assert held_out_r2(classes, rows) == pytest.approx(2 * edge**2 / whole, abs=0.02)
