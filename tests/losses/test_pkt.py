"""PKT: golden value, plain loops, invariances and edges."""

import math

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, turned, value_and_gradient, vectors

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import PKT, pkt_loss


def test_equals_the_authors():
    assert pkt_loss(*vectors()).item() == pytest.approx(0.061232862413, **DIGITS)


def plain_neighbours(rows: list) -> list:
    units = []
    for row in rows:
        length = math.sqrt(sum(one * one for one in row)) + 1e-7
        units.append([one / length for one in row])
    likeness = [
        [(1 + sum(x * y for x, y in zip(a, b, strict=True))) / 2 for b in units] for a in units
    ]
    return [[one / sum(row) for one in row] for row in likeness]


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_equals_plain_loops(rows):
    student, teacher = drawn(rows, 3), drawn(rows, 5, seed=1)
    one, two = plain_neighbours(student.tolist()), plain_neighbours(teacher.tolist())
    total = sum(
        two[i][j] * math.log((two[i][j] + 1e-7) / (one[i][j] + 1e-7))
        for i in range(rows)
        for j in range(rows)
    )
    assert pkt_loss(student, teacher).item() == pytest.approx(total / rows**2, rel=1e-11)


def test_it_is_the_teachers_divergence_and_no_other():
    """KL(T, S) and KL(S, T) differ; the hand value of the docstring, both ways round."""
    alike, orthogonal = torch.ones(2, 1).double(), torch.eye(2).double()
    ahead = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    back = 1 / 2 * math.log(3 / 4) + 1 / 2 * math.log(3 / 2)
    assert pkt_loss(alike, orthogonal).item() == pytest.approx(ahead / 2, rel=1e-5)
    assert pkt_loss(orthogonal, alike).item() == pytest.approx(back / 2, rel=1e-5)


def test_rotation_and_length_of_each_row_do_not_matter():
    student, teacher = vectors()
    value = pkt_loss(student, teacher).item()
    lengths = torch.tensor([0.5, 2.0, 30.0, 1.0, 4.0, 9.0], dtype=torch.float64)[:, None]
    for one, two in [
        (student @ turned(4), teacher),
        (student * lengths, teacher),
        (student, teacher @ turned(4) * lengths),
    ]:
        assert pkt_loss(one, two).item() == pytest.approx(value, rel=1e-5)  # eps beside the lengths
    assert pkt_loss(student @ turned(4), student).item() == pytest.approx(0, abs=1e-15)


def test_gradients():
    student, teacher = (z.requires_grad_() for z in vectors())
    assert torch.autograd.gradcheck(lambda z: pkt_loss(z, teacher), student)
    found = torch.autograd.grad(pkt_loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_zero_and_constant_rows_are_finite_with_modest_gradients():
    student, teacher = drawn(5, 3).float(), drawn(5, 4, seed=1).float()
    dead, opposite = student.clone(), student.clone()
    dead[2], opposite[1] = 0.0, -opposite[0]
    for one in (dead, opposite, torch.zeros(5, 3), torch.full((5, 3), 0.3), student * 1e4):
        _, gradient = value_and_gradient(lambda z: pkt_loss(z, teacher), one)
        assert gradient.abs().max() < 10.0
        assert_finite(lambda z, one=one: pkt_loss(z, one), teacher)


def test_a_row_of_zeros_has_cosine_zero_to_all():
    """So its distribution is (1/2, 1/2) where the teacher's is (1/3, 2/3); the other row agrees."""
    student = torch.tensor([[3.0, 0.0], [0.0, 0.0]]).double()
    divergence = 1 / 3 * math.log(2 / 3) + 2 / 3 * math.log(4 / 3)
    value = pkt_loss(student, torch.eye(2).double()).item()
    assert value == pytest.approx(divergence / 4, rel=1e-5)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_give_zero_with_a_graph(rows):
    value, gradient = value_and_gradient(lambda z: pkt_loss(z, drawn(rows, 4)), drawn(rows, 3))
    assert value == pytest.approx(0.0, abs=1e-15)
    assert gradient.abs().sum().item() == pytest.approx(0.0, abs=1e-12)


def test_narrow_floats_and_autocast():
    student, teacher = drawn(8, 6).bfloat16(), drawn(8, 5, seed=1).bfloat16()
    value = pkt_loss(student, teacher)
    assert value.dtype == torch.float32
    exact = pkt_loss(student.double(), teacher.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pkt_loss(student.float(), teacher.float()).item() == value.item()


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"pkt_loss: .*student \(2, 3\), teacher \(1, 3\)"):
        pkt_loss(drawn(2, 3), drawn(1, 3))
    with pytest.raises(ArgumentError, match="pkt_loss: expected `eps` > 0"):
        pkt_loss(*vectors(), eps=0.0)
    with pytest.raises(ArgumentError, match="PKT: expected `eps` > 0"):
        PKT(eps=-1.0)


def test_module_is_the_function_of_pooled_features():
    student, teacher = drawn(5, 3, 2, 2), drawn(5, 4, seed=1)
    given = args({"a": student, "b": student}, {"a": teacher, "b": teacher})
    expected = pkt_loss(student.mean((2, 3)), teacher, eps=1e-3).item()
    assert PKT("a", eps=1e-3)(*given).item() == pytest.approx(expected, rel=1e-12)
    assert PKT(("a", "b"), eps=1e-3)(*given).item() == pytest.approx(2 * expected, rel=1e-12)
    assert PKT()(*args(*vectors())).item() == pytest.approx(0.061232862413, **DIGITS)
    assert PKT().published_weights == (1.0, 30000.0)
