"""How far the hull may be from the best set, against tables with known union information."""

import numpy as np
import pytest
import torch

from limbeck.information import broja_pid
from limbeck.information.bracket import ROWS, hull_gap
from limbeck.information.hull import Hull, fit_hull
from limbeck.information.hull_estimate import INFORMATIONS, Terms, figures_of
from limbeck.information.known import SOURCES
from limbeck.information.pid import ATOMS
from limbeck.information.probes import floored


def one_bit_each():
    """Return posteriors of a label of two bits: the teacher sees the one, the student the other."""
    teacher = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    student = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]])
    return tuple(
        np.repeat(np.maximum(p, 1e-5), ROWS // 2, 0).astype("float32") for p in (teacher, student)
    )


def test_a_single_point_lacks_what_the_other_side_knows():
    """Each side knows one bit of its own: two bits in total, of which a point sees one."""
    for turned in (False, True):
        point = Hull(torch.ones(1, 4), turned)
        assert hull_gap(point, *one_bit_each(), seed=0) == pytest.approx(1.0, abs=2e-3)


def test_the_best_set_lacks_nothing():
    """The student's own posteriors are the hull of which the teacher is a bit outside."""
    teacher, student = one_bit_each()
    own = Hull(torch.tensor(student[[0, -1]]), turned=False)
    assert 0.0 <= hull_gap(own, teacher, student, seed=0) < 3e-3


def test_a_fitted_hull_lacks_little_on_other_rows():
    sample = SOURCES["mixed10_line"].draw(2000, seed=0, dimension=8)
    teacher, student = (floored(p) for p in (sample.teacher_posteriors, sample.student_posteriors))
    first = [torch.as_tensor(rows[:1000]) for rows in (teacher, student, sample.targets)]
    point = Hull(torch.ones(1, 10), turned=False)
    gap, worse = (
        hull_gap(hull, teacher[1000:], student[1000:], seed=0)
        for hull in (fit_hull(*first, seed=0), point)
    )
    assert gap < 0.005
    assert worse > 0.4


def test_unequal_shares_of_the_labels_are_made_equal():
    """Where teacher and student expect other shares, no joint law has both: means of both hold."""
    teacher, student = one_bit_each()
    teacher[:, 0] *= 2.0
    teacher /= teacher.sum(1, keepdims=True)
    shares = 0.5 * (teacher.mean(0) + student.mean(0))
    columns = [(p / p.sum(0) * shares)[[0, -1]] * ROWS / 2 for p in (teacher, student)]
    pmf = np.einsum("ty,sy->yts", columns[0], columns[1] / shares).astype(float)
    exact = broja_pid(pmf / pmf.sum())
    for turned, known in ((False, exact.mutual_teacher), (True, exact.mutual_student)):
        gap = hull_gap(Hull(torch.ones(1, 4), turned), teacher, student, seed=0)
        assert gap == pytest.approx(exact.union - known, abs=2e-3)


def test_more_than_100_classes_have_none():
    p = np.full((10, 101), 1 / 101, dtype=np.float32)
    assert hull_gap(Hull(torch.ones(1, 101), turned=False), p, p, seed=0) is None


def test_intervals_reach_as_far_as_the_gap_on_the_side_that_it_leaves_open():
    random = np.random.default_rng(0)
    rows = random.normal(-1, 0.1, (4, 500))
    full, coarse = Terms(*rows), Terms(*(rows - 0.01))
    targets = random.integers(3, size=500)
    without, found = (figures_of(full, coarse, targets, gap) for gap in (0.0, 0.25))
    assert found.values == without.values
    up = {"unique_teacher", "unique_student", "union"}
    for name in (*ATOMS, *INFORMATIONS):
        below, above = (
            getattr(found, side)[name] - getattr(without, side)[name] for side in ("below", "above")
        )
        assert above == pytest.approx(0.25 * (name in up))
        assert below == pytest.approx(0.25 * (name in {"redundant", "synergistic"}))
