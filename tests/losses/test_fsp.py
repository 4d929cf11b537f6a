"""FSP: against plain loops, the authors' value and what a change of network must leave alone."""

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared, turned
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import FSP, fsp_loss, fsp_matrix


def looped(first, second) -> list[list[list[float]]]:
    """Return the matrices of maps of one size, number by number."""
    first, second = first.flatten(2).tolist(), second.flatten(2).tolist()
    return [
        [[sum(x * y for x, y in zip(a, b, strict=True)) / len(a) for b in two] for a in one]
        for one, two in zip(first, second, strict=True)
    ]


def test_matrix_equals_plain_loops():
    first, second = drawn(2, 3, 2, 4), drawn(2, 5, 2, 4, seed=1)
    expected = torch.tensor(looped(first, second), dtype=torch.float64)
    torch.testing.assert_close(fsp_matrix(first, second), expected, rtol=1e-13, atol=1e-13)
    flat = fsp_matrix(first.flatten(2), second.flatten(2))
    torch.testing.assert_close(flat, expected, rtol=1e-13, atol=1e-13)


def test_larger_map_is_average_pooled():
    first, second = drawn(2, 3, 4, 4), drawn(2, 5, 2, 2, seed=1)
    expected = torch.tensor(looped(F.avg_pool2d(first, 2), second), dtype=torch.float64)
    torch.testing.assert_close(fsp_matrix(first, second), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fsp_matrix(second, first), expected.mT, rtol=1e-12, atol=1e-12)


def test_matrix_of_vectors_is_their_outer_product():
    first, second = drawn(4, 3), drawn(4, 2, seed=1)
    expected = torch.einsum("ia,ib->iab", first, second)
    torch.testing.assert_close(fsp_matrix(first, second), expected)


def test_authors_value():
    """Section 8.3 of the reference."""
    student = maps(2, 3, 4, 0.3), maps(2, 3, 4, 0.7)
    teacher = maps(2, 3, 4, 1.0), maps(2, 3, 4, 1.4)
    assert fsp_loss(student, teacher).item() == pytest.approx(0.000498200963, abs=1e-12)


def test_value_is_the_mean_squared_error_of_the_matrices():
    student = drawn(2, 3, 2, 2), drawn(2, 4, 2, 2, seed=1)
    teacher = drawn(2, 3, 3, 3, seed=2), drawn(2, 4, 3, 3, seed=3)
    mine, theirs = (torch.tensor(looped(*side), dtype=torch.float64) for side in (student, teacher))
    errors = [(a - b) ** 2 for a, b in zip(mine.flatten(), theirs.flatten(), strict=True)]
    assert len(errors) == 2 * 3 * 4
    value = fsp_loss(student, teacher).item()
    assert value == pytest.approx(float(sum(errors)) / len(errors), rel=1e-12)


def test_the_order_of_positions_is_irrelevant():
    student = drawn(2, 3, 6), drawn(2, 4, 6, seed=1)
    teacher = drawn(2, 3, 5, seed=2), drawn(2, 4, 5, seed=3)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    moved = fsp_loss((student[0][..., order], student[1][..., order]), teacher).item()
    assert moved == pytest.approx(fsp_loss(student, teacher).item(), rel=1e-12)
    one_alone = fsp_loss((student[0][..., order], student[1]), teacher).item()
    assert one_alone != pytest.approx(moved, rel=1e-3)


def test_padded_tokens_do_not_count_whatever_they_hold():
    first, second = drawn(2, 3, 4), drawn(2, 5, 4, seed=1)
    mask = torch.tensor([[True, False, False, True], [True, True, True, True]])
    expected = looped(first[:1, :, [0, 3]], second[:1, :, [0, 3]]) + looped(first[1:], second[1:])
    broken = first.masked_fill(~mask[:, None], torch.nan)
    found = fsp_matrix(broken, second.masked_fill(~mask[:, None], torch.nan), mask=mask)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    nothing = fsp_matrix(first, second, mask=torch.zeros_like(mask))
    assert (nothing == 0).all()
    other = drawn(2, 3, 4, seed=2), drawn(2, 5, 4, seed=3)
    kept = [(first, second), other]
    half = [tuple(side[:1, :, [0, 3]] for side in pair) for pair in kept]
    whole = [tuple(side[1:] for side in pair) for pair in kept]
    average = (fsp_loss(*half) + fsp_loss(*whole)).item() / 2
    assert fsp_loss(*kept, mask=mask).item() == pytest.approx(average, rel=1e-12)


def test_gradients():
    first, second = (drawn(2, 3, 2, 2, seed=n).requires_grad_() for n in (0, 1))
    teacher = tuple(drawn(2, 3, 2, 2, seed=n).requires_grad_() for n in (2, 3))
    assert torch.autograd.gradcheck(lambda a, b: fsp_loss((a, b), teacher), (first, second))
    value = fsp_loss((first, second), teacher)
    found = torch.autograd.grad(value, (first, second, *teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1].abs().max() > 0
    assert found[2] is None
    assert found[3] is None


def test_narrow_floats_autocast_and_no_rows():
    student = drawn(2, 3, 2, 2).bfloat16(), drawn(2, 4, 2, 2, seed=1).bfloat16()
    teacher = drawn(2, 3, 2, 2, seed=2).bfloat16(), drawn(2, 4, 2, 2, seed=3).bfloat16()
    expected = fsp_loss(*(tuple(one.double() for one in side) for side in (student, teacher)))
    with torch.autocast("cpu", torch.bfloat16):
        value = fsp_loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    nobody = tuple(one[:0] for one in student)
    assert fsp_loss(nobody, nobody).item() == 0.0


def three(width: int, side: int, seed: int) -> dict[str, torch.Tensor]:
    return {name: drawn(4, width, side, side, seed=seed + n) for n, name in enumerate("abc")}


def test_module_sums_neighbours_and_owns_nothing_where_channels_agree():
    student, teacher = three(3, 4, 0), three(3, 2, 5)
    loss = prepared(FSP(("a", "b", "c")), given := args(student, teacher))
    assert list(loss.parameters()) == []
    expected = sum(
        fsp_loss((student[one], student[two]), (teacher[one], teacher[two])).item()
        for one, two in ("ab", "bc")
    )
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)


def test_unlike_channels_are_mapped_once_a_layer():
    """The map turns the student's matrices: W from the right of a b, from the left of b c."""
    student, teacher = three(3, 4, 0), three(3, 4, 5) | {"b": drawn(4, 5, 4, 4, seed=9)}
    loss = prepared(FSP(("a", "b", "c")), given := args(student, teacher))
    kinds = [type(one) for one in loss.connectors]
    assert kinds == [nn.Identity, nn.Conv2d, nn.Identity]
    assert loss.connectors[1].bias is None
    with torch.no_grad():
        weight = turned(5)[:, :3]
        loss.connectors[1].weight.copy_(weight[:, :, None, None])
    wanted = {
        "ab": fsp_matrix(student["a"], student["b"]) @ weight.T,
        "bc": weight @ fsp_matrix(student["b"], student["c"]),
    }
    expected = sum(
        F.mse_loss(found, fsp_matrix(teacher[one], teacher[two])).item()
        for (one, two), found in wanted.items()
    )
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)
    before = loss.connectors[1].weight.clone()
    loss.prepare(*given)  # a second time changes nothing
    assert len(loss.connectors) == 3
    assert torch.equal(loss.connectors[1].weight, before)


def test_every_layer_gets_a_map_of_its_own():
    loss = prepared(FSP(("a", "b")), args(three(3, 4, 0), three(5, 4, 5)))
    assert not torch.equal(*(one.weight for one in loss.connectors))


def test_masked_tokens_in_the_module():
    student, teacher = (
        {"a": drawn(2, 4, 3, seed=n), "b": drawn(2, 4, 3, seed=n + 1)} for n in (0, 2)
    )
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    loss = prepared(FSP(("a", "b")), given := args(student, teacher, mask=mask))
    sides = [tuple(one.transpose(1, 2) for one in side.values()) for side in (student, teacher)]
    expected = fsp_loss(*sides, mask=mask == 1).item()
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), three(5, 4, 5)
    given = args(dict.fromkeys("ab", features), teacher)
    loss = prepared(FSP(("a", "b")), given)
    assert_finite(lambda z: loss(*args(dict.fromkeys("ab", z), teacher)), features)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    first, second = drawn(2, 3, 4, 4), drawn(2, 5, 4, 4)
    with pytest.raises(ShapeError, match=r"fsp_matrix: .*got \(2, 3, 4, 4\) and \(2, 3\)"):
        fsp_matrix(first, drawn(2, 3))
    with pytest.raises(ShapeError, match=r"fsp_matrix: .*and \(1, 5, 4, 4\)"):
        fsp_matrix(first, second[:1])
    with pytest.raises(ShapeError, match=r"fsp_loss: .*student \(2, 3, 5\), teacher \(2, 3, 4\)"):
        fsp_loss((first, second), (first, drawn(2, 4, 4, 4)))
    with pytest.raises(ArgumentError, match=r"FSP: expected at least two layers .*got layer3"):
        FSP("layer3")
    with pytest.raises(ArgumentError, match=r"FSP: .*not prepared"):
        FSP(("a", "b"))(*args(three(3, 4, 0), three(3, 4, 5)))
    loss = prepared(FSP(("a", "b")), args(three(3, 4, 0), three(3, 4, 5)))
    with pytest.raises(ShapeError, match=r"FSP: .*expected 3 and 3 channels"):
        loss(*args(three(4, 4, 0), three(4, 4, 5)))
