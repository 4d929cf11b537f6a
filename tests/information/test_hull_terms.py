"""Which hull scores which rows, and what becomes of the scores."""

import numpy as np
import pytest
import torch

from limbeck.information.hull_estimate import Terms, figures_of, hull_terms


def test_each_row_is_scored_at_its_place_by_a_hull_that_others_chose():
    targets = np.repeat(np.arange(3), 20)
    random = np.random.default_rng(5)
    teacher, student = (
        torch.tensor(2.0 * np.eye(3)[targets] + random.normal(size=(60, 3)))
        .softmax(1)
        .float()
        .numpy()
        for _ in range(2)
    )
    found, hulls = hull_terms(teacher, student, targets, seed=0)
    index = np.arange(60)
    scores = np.stack(
        [
            sum(part[index, targets] for part in hull.duals(*map(torch.tensor, (teacher, student))))
            for hull in hulls
        ]
    )
    by_first, by_second = (np.isclose(found, score, rtol=1e-4) for score in scores)
    assert (by_first ^ by_second).all()
    # Every class is split evenly, and a hull changes with the rows that it does not score.
    assert np.bincount(targets[by_first]).tolist() == [10, 10, 10]
    moved = teacher.copy()
    moved[by_first] = moved[by_first][:, [1, 2, 0]]
    again = hull_terms(moved, student, targets, seed=0)[1]
    assert torch.equal(again[0].vertices, hulls[0].vertices)
    assert not torch.equal(again[1].vertices, hulls[1].vertices)


def drawn_terms() -> tuple[Terms, Terms, np.ndarray]:
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), [200, 100, 60, 40])
    full, quarter = (Terms(*random.normal(-1.0, 0.5, size=(4, 400))) for _ in range(2))
    return full, quarter, targets


def test_what_the_quarter_lacks_is_extrapolated_by_a_third():
    full, quarter, targets = drawn_terms()
    found = figures_of(full, quarter, targets)
    shares = np.array([0.5, 0.25, 0.15, 0.1])
    entropy = -(shares @ np.log2(shares)) + 3 / (2 * 400 * np.log(2))  # as Miller and Madow have it
    measured = {
        "mutual_teacher": entropy + full.teacher.mean() / np.log(2),
        "unique_teacher": (full.union - full.student).mean() / np.log(2),
        "redundant": entropy + (full.teacher + full.student - full.union).mean() / np.log(2),
        "synergistic": (full.joint - full.union).mean() / np.log(2),
    }
    lacks = {
        "mutual_teacher": (full.teacher - quarter.teacher).mean() / np.log(2) / 3,
        "synergistic": (full.joint - full.union - quarter.joint + quarter.union).mean()
        / np.log(2)
        / 3,
    }
    for name, value in measured.items():
        assert found.measured[name] == pytest.approx(value)
    for name, value in lacks.items():
        assert found.values[name] - found.measured[name] == pytest.approx(value)


def test_intervals_have_the_rows_error_the_extrapolation_and_the_gap():
    full, quarter, targets = drawn_terms()
    alone = figures_of(full, full, targets)
    rows = (full.union - full.student) / np.log(2)
    error = 1.96 * rows.std() / 20
    assert alone.below["unique_teacher"] == pytest.approx(error)
    assert alone.above["unique_teacher"] == pytest.approx(error)
    # I(Y;T) varies with how rare the labels are, too.
    own = full.teacher / np.log(2) - np.log2(np.array([0.5, 0.25, 0.15, 0.1])[targets])
    assert alone.above["mutual_teacher"] == pytest.approx(1.96 * own.std() / 20)

    both = figures_of(full, quarter, targets)
    step = both.values["unique_teacher"] - both.measured["unique_teacher"]
    rows = rows + ((full.union - full.student) - (quarter.union - quarter.student)) / np.log(2) / 3
    assert both.above["unique_teacher"] == pytest.approx(np.hypot(1.96 * rows.std() / 20, step))

    wider = figures_of(full, full, targets, gap=0.25)
    reach = {
        name: (wider.below[name] - alone.below[name], wider.above[name] - alone.above[name])
        for name in ("unique_teacher", "unique_student", "redundant", "synergistic")
    }
    up, down = pytest.approx((0.0, 0.25)), pytest.approx((0.25, 0.0))
    assert reach == {
        "unique_teacher": up,
        "unique_student": up,
        "redundant": down,
        "synergistic": down,
    }
