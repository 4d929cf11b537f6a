"""SP: golden value, plain loops, invariances and edges."""

import math

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, maps, turned, vectors

from limbeck.checks import ShapeError
from limbeck.losses import SP, similarity_loss


def test_equals_the_authors():
    assert similarity_loss(*vectors()).item() == pytest.approx(0.125795367719, **DIGITS)


def plain_similarities(rows: list) -> list:
    gram = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]
    lengths = [math.sqrt(sum(one * one for one in row)) for row in gram]
    return [[one / length for one in row] for row, length in zip(gram, lengths, strict=True)]


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_equals_plain_loops(rows):
    student, teacher = drawn(rows, 3, 2, 2), drawn(rows, 5, seed=1)
    one, two = (plain_similarities(z.flatten(1).tolist()) for z in (student, teacher))
    total = sum((one[i][j] - two[i][j]) ** 2 for i in range(rows) for j in range(rows))
    value = similarity_loss(student, teacher).item()
    assert value == pytest.approx(total / rows**2, rel=1e-12, abs=1e-30)


def test_hand_computed_value():
    """Rows (1, 1)/√2 twice against (1, -1)/√2 and (-1, 1)/√2: two gaps of √2, squared 2, over 4."""
    student, teacher = torch.ones(2, 1), torch.tensor([[1.0], [-1.0]])
    assert similarity_loss(student, teacher).item() == pytest.approx(1.0, rel=1e-6)


def test_rotation_and_scale_do_not_matter():
    student, teacher = vectors()
    value = similarity_loss(student, teacher).item()
    for one, two in [
        (student @ turned(4), teacher),
        (student, teacher @ turned(4)),
        (student * 7.0, teacher * 1e-2),
        (student[:, [2, 0, 3, 1]], teacher),
    ]:
        assert similarity_loss(one, two).item() == pytest.approx(value, rel=1e-11)
    assert similarity_loss(student @ turned(4) * 3, student).item() == pytest.approx(0, abs=1e-28)


def test_gradients():
    student, teacher = (z.requires_grad_() for z in vectors())
    assert torch.autograd.gradcheck(lambda z: similarity_loss(z, teacher), student)
    found = torch.autograd.grad(
        similarity_loss(student, teacher), (student, teacher), allow_unused=True
    )
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_zero_and_constant_features_are_finite():
    student, teacher = drawn(5, 3).float(), drawn(5, 4, seed=1).float()
    dead = student.clone()
    dead[2] = 0.0
    for one in (dead, torch.zeros(5, 3), torch.full((5, 3), 0.3), student * 1e4, student * 1e-4):
        assert_finite(lambda z: similarity_loss(z, teacher), one)
        assert_finite(lambda z, one=one: similarity_loss(z, one), teacher)


def test_a_zero_row_has_no_similarity():
    """Two rows, the student's second zero: (1, 0) and (0, 0) against the identity."""
    student = torch.tensor([[3.0], [0.0]])
    assert similarity_loss(student, torch.eye(2)).item() == pytest.approx(1 / 4)


def test_narrow_floats_autocast_and_no_rows():
    student, teacher = drawn(8, 6).bfloat16(), drawn(8, 5, seed=1).bfloat16()
    value = similarity_loss(student, teacher)
    assert value.dtype == torch.float32
    exact = similarity_loss(student.double(), teacher.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert similarity_loss(student.float(), teacher.float()).item() == value.item()
    assert similarity_loss(student[:0], teacher[:0]).item() == 0.0


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"similarity_loss: .*student \(2, 3\), teacher \(1, 3\)"):
        similarity_loss(drawn(2, 3), drawn(1, 3))


def test_module_flattens_maps_and_averages_tokens():
    student, teacher = maps(4, 2, 4, 0.3), maps(4, 3, 2, 1.0)
    expected = similarity_loss(student.flatten(1), teacher.flatten(1)).item()
    loss = SP()
    assert loss.published_weights == (1.0, 3000.0)
    value = loss(*args({"layer3": student}, {"layer3": teacher})).item()
    assert value == pytest.approx(expected, rel=1e-13)
    tokens = drawn(4, 3, 5)
    of_tokens = SP("a")(*args({"a": tokens}, {"a": drawn(4, 6, 2, seed=1)})).item()
    means = similarity_loss(tokens.mean(1), drawn(4, 6, 2, seed=1).mean(1)).item()
    assert of_tokens == pytest.approx(means, rel=1e-12)
    both = SP(("a", "b"))(
        *args({"a": tokens, "b": student}, {"a": drawn(4, 6, 2, seed=1), "b": teacher})
    )
    assert both.item() == pytest.approx(means + expected, rel=1e-12)
