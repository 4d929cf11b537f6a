"""RKD: golden values, plain loops, invariances, tiles and edges."""

import math

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, turned, value_and_gradient, vectors

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import RKD, rkd, rkd_loss


def distance_term(student, teacher, **settings):
    return rkd_loss(student, teacher, distance_weight=1.0, angle_weight=0.0, **settings)


def angle_term(student, teacher, **settings):
    return rkd_loss(student, teacher, distance_weight=0.0, angle_weight=1.0, **settings)


def test_equals_the_authors():
    assert distance_term(*vectors()).item() == pytest.approx(0.075366284854, **DIGITS)
    assert angle_term(*vectors()).item() == pytest.approx(0.121778706556, **DIGITS)
    assert rkd_loss(*vectors()).item() == pytest.approx(7.973092449171, **DIGITS)


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def plain_distances(rows: list) -> list:
    found = [[math.dist(a, b) for b in rows] for a in rows]
    positive = [one for row in found for one in row if one > 0]
    mean = sum(positive) / len(positive)
    return [[one / mean for one in row] for row in found]


def plain_angle(rows: list, i: int, j: int, k: int) -> float:
    def direction(other: int) -> list:
        gap = [b - a for a, b in zip(rows[i], rows[other], strict=True)]
        length = max(math.sqrt(sum(one * one for one in gap)), 1e-12)
        return [one / length for one in gap]

    return sum(a * b for a, b in zip(direction(j), direction(k), strict=True))


@pytest.mark.parametrize("rows", [2, 3, 6])
def test_equals_plain_loops(rows):
    """One pair is far apart, so that the linear part of the smooth absolute value is met."""
    student, teacher = drawn(rows, 3), drawn(rows, 5, seed=1)
    student[0] *= 20.0
    one, two = student.tolist(), teacher.tolist()
    near, far = plain_distances(one), plain_distances(two)
    every = range(rows)
    distances = [huber(near[i][j] - far[i][j]) for i in every for j in every]
    angles = [
        huber(plain_angle(one, i, j, k) - plain_angle(two, i, j, k))
        for i in every
        for j in every
        for k in every
    ]
    if rows == 6:
        assert any(abs(near[i][j] - far[i][j]) > 1 for i in every for j in every)
    expected = sum(distances) / rows**2, sum(angles) / rows**3
    assert distance_term(student, teacher).item() == pytest.approx(expected[0], rel=1e-12)
    assert angle_term(student, teacher).item() == pytest.approx(expected[1], rel=1e-12)
    weighted = rkd_loss(student, teacher, distance_weight=2.0, angle_weight=3.0).item()
    assert weighted == pytest.approx(2 * expected[0] + 3 * expected[1], rel=1e-12)


def test_hand_computed_angle():
    """A right angle at the first of three points, none for the student: x = 1 in 4 of 27 triples.

    There the student's directions are alike (cosine 1) and the teacher's orthogonal. At the two
    others the cosine of 45 degrees stands against -1 and 1: gaps 1 + 0.7071 and 1 - 0.7071.
    """
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    student = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    half = math.sqrt(0.5)
    total = 2 * huber(1.0) + 2 * huber(-1.0 - half) + 2 * huber(1.0 - half)
    assert angle_term(student, teacher).item() == pytest.approx(total / 27, rel=1e-12)


def test_rotation_shift_and_scale_do_not_matter():
    student, teacher = vectors()
    value = rkd_loss(student, teacher).item()
    for one, two in [
        (student @ turned(4), teacher),
        (student * 13.0 + 2.0, teacher),
        (student, teacher @ turned(4) * 0.1 - 1.0),
    ]:
        assert rkd_loss(one, two).item() == pytest.approx(value, rel=1e-11)
    assert rkd_loss(student @ turned(4) * 3, student).item() == pytest.approx(0, abs=1e-26)


def test_gradients():
    student, teacher = (z.requires_grad_() for z in vectors())
    for settings in ({}, {"max_numbers": 100}):
        assert torch.autograd.gradcheck(lambda z, s=settings: rkd_loss(z, teacher, **s), student)
    found = torch.autograd.grad(rkd_loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


@pytest.mark.parametrize("max_numbers", [1, 200, 1000])
def test_tiles_change_neither_value_nor_gradient(max_numbers):
    student, teacher = drawn(11, 3), drawn(11, 4, seed=1)
    one, gradient = value_and_gradient(lambda z: rkd_loss(z, teacher), student)
    two, tiled = value_and_gradient(
        lambda z: rkd_loss(z, teacher, max_numbers=max_numbers), student
    )
    assert two == pytest.approx(one, rel=1e-13)
    torch.testing.assert_close(tiled, gradient, rtol=1e-11, atol=1e-14)


def test_no_more_numbers_than_said_are_held(monkeypatch):
    seen, relations = [], rkd._relations

    def watched(student, teacher, start, stop, with_angles):
        rows = min(stop, len(student)) - start
        seen.append(rows * len(student) * (len(student) + teacher.shape[1]))
        return relations(student, teacher, start, stop, with_angles)

    monkeypatch.setattr(rkd, "_relations", watched)
    rkd_loss(drawn(30, 4), drawn(30, 20, seed=1), max_numbers=5000)
    assert max(seen) <= 5000
    assert sum(seen) == 30 * 30 * (30 + 20)


def test_angles_of_weight_zero_are_not_computed(monkeypatch):
    student, teacher = vectors()
    relations = rkd._relations

    def watched(*given):
        assert given[-1] is False
        return relations(*given)

    monkeypatch.setattr(rkd, "_relations", watched)
    distance_term(student, teacher)


def test_equal_zero_and_constant_rows_are_finite():
    student, teacher = drawn(5, 3).float(), drawn(5, 4, seed=1).float()
    twice = student.clone()
    twice[2] = twice[1]
    for one in (twice, torch.zeros(5, 3), torch.full((5, 3), 0.3), student * 1e4, student * 1e-4):
        _, gradient = value_and_gradient(lambda z: rkd_loss(z, teacher), one)
        assert gradient.abs().max() < 1e6
        assert_finite(lambda z, one=one: rkd_loss(z, one), teacher)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_give_zero_with_a_graph(rows):
    value, gradient = value_and_gradient(lambda z: rkd_loss(z, drawn(rows, 4)), drawn(rows, 3))
    assert value == 0.0
    assert (gradient == 0).all()


def test_narrow_floats_and_autocast():
    student, teacher = drawn(8, 6).bfloat16(), drawn(8, 5, seed=1).bfloat16()
    value = rkd_loss(student, teacher)
    assert value.dtype == torch.float32
    exact = rkd_loss(student.double(), teacher.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rkd_loss(student.float(), teacher.float()).item() == value.item()


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"rkd_loss: .*student \(2, 3\), teacher \(1, 3\)"):
        rkd_loss(drawn(2, 3), drawn(1, 3))
    for name in ("distance_weight", "angle_weight"):
        with pytest.raises(ArgumentError, match=f"rkd_loss: expected `{name}`"):
            rkd_loss(*vectors(), **{name: -1.0})
        with pytest.raises(ArgumentError, match=f"RKD: expected `{name}`"):
            RKD(**{name: -1.0})
    with pytest.raises(ArgumentError, match="expected `max_numbers` > 0"):
        rkd_loss(*vectors(), max_numbers=0)


def test_module_is_the_function_of_pooled_features():
    student, teacher = drawn(5, 3, 2, 2), drawn(5, 4, seed=1)
    given = args({"a": student, "b": student}, {"a": teacher, "b": teacher})
    expected = rkd_loss(student.mean((2, 3)), teacher, distance_weight=2.0, angle_weight=3.0)
    one = RKD("a", distance_weight=2.0, angle_weight=3.0)
    two = RKD(("a", "b"), distance_weight=2.0, angle_weight=3.0)
    assert one(*given).item() == pytest.approx(expected.item(), rel=1e-12)
    assert two(*given).item() == pytest.approx(2 * expected.item(), rel=1e-12)
    defaults = RKD()(*args(*vectors()))
    assert defaults.item() == pytest.approx(7.973092449171, **DIGITS)
    assert RKD().published_weights == (1.0, 1.0)
