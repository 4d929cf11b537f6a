"""AB: against plain loops, the authors' value and torchdistill's; its connectors and factors."""

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared, value_and_gradient
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import AB, activation_boundary_loss


def looped(student, teacher, margin=1.0) -> float:
    """Return the loss by the two cases of the reference, entry by entry."""
    total = 0.0
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    for s, t in pairs:
        if s > -margin and t <= 0:
            total += (s + margin) ** 2
        if s <= margin and t > 0:
            total += (s - margin) ** 2
    return total / len(student)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 3)])
def test_equals_plain_loops(shape):
    student, teacher = 2 * drawn(*shape), drawn(*shape, seed=1)
    for margin in (1.0, 0.3):
        value = activation_boundary_loss(student, teacher, margin=margin).item()
        assert value == pytest.approx(looped(student, teacher, margin), rel=1e-13)


def test_every_case_by_hand():
    """Right side and far enough, right and near, wrong: for both sides, and zero counts as off."""
    teacher = torch.tensor([[5.0, 5.0, 5.0, -5.0, -5.0, -5.0, 0.0]])
    student = torch.tensor([[2.0, 0.5, -1.0, -2.0, -0.5, 1.0, 0.0]])
    value, gradient = value_and_gradient(lambda z: activation_boundary_loss(z, teacher), student)
    assert value == 0 + 0.25 + 4 + 0 + 0.25 + 4 + 1
    assert gradient.tolist() == [[0, -1, -4, 0, 1, 4, 2]]


def test_values_of_the_authors_and_of_torchdistill():
    """Section 8.3 of the reference; AltActTransferLoss of torchdistill 1.1.5, printed once."""
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 3, 4, 1.0)
    value = activation_boundary_loss(student, teacher).item()
    assert value == pytest.approx(26.61433584362689, rel=1e-12)
    assert 3 / 1000 * value == pytest.approx(0.079843007531, abs=1e-12)


def test_only_the_teachers_signs_count():
    student, teacher = drawn(4, 3), drawn(4, 3, seed=1)
    value = activation_boundary_loss(student, teacher).item()
    for other in (teacher.relu(), 100 * teacher, teacher.sign()):
        assert activation_boundary_loss(student, other).item() == value


def test_maps_of_unlike_size_are_compared_at_the_smaller():
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 2, 2, seed=1)
    expected = looped(F.avg_pool2d(student, 2), teacher)
    assert activation_boundary_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    expected = looped(teacher, F.avg_pool2d(student, 2))
    assert activation_boundary_loss(teacher, student).item() == pytest.approx(expected, rel=1e-12)


def test_padded_tokens_do_not_count():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    mask = torch.tensor([[True, False, False, True], [True, True, True, True]])
    kept = looped(student[:1, :, [0, 3]], teacher[:1, :, [0, 3]])
    expected = (kept + looped(student[1:], teacher[1:])) / 2
    value = activation_boundary_loss(student, teacher, mask=mask).item()
    assert value == pytest.approx(expected, rel=1e-12)


def test_gradients():
    student, teacher = maps(2, 3, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: activation_boundary_loss(z, teacher), student)
    value = activation_boundary_loss(student, teacher)
    assert torch.autograd.grad(value, teacher, allow_unused=True) == (None,)


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(4, 3).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    value = activation_boundary_loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(looped(student.double(), teacher.double()), rel=1e-6)
    assert activation_boundary_loss(student[:0], teacher[:0]).item() == 0.0


def test_module_is_the_weighted_sum_behind_convolution_and_batch_norm():
    """Of three layers the last counts 1, the one before 1/2, the first 1/4, all by 3/1000."""
    student = {name: drawn(4, 3, 4, 4, seed=place) for place, name in enumerate("abc")}
    teacher = {name: drawn(4, 5, 4, 4, seed=place + 5) for place, name in enumerate("abc")}
    loss = prepared(AB(("a", "b", "c"), margin=0.5), given := args(student, teacher))
    assert not torch.equal(loss.connectors[0][0].weight, loss.connectors[1][0].weight)
    expected = 0.0
    for name, factor, made in zip("abc", (0.25, 0.5, 1.0), loss.connectors, strict=True):
        hidden = F.conv2d(student[name], made[0].weight)
        hidden = F.batch_norm(hidden, None, None, training=True)
        expected += factor * looped(hidden, teacher[name], 0.5) * 3 / 1000
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*given)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_larger_student_maps_are_convolved_with_stride():
    student, teacher = {"a": drawn(2, 3, 8, 8)}, {"a": drawn(2, 5, 4, 4)}
    loss = prepared(AB("a"), args(student, teacher))
    assert loss.connectors[0][0].stride == (2, 2)


def test_vectors_and_tokens_get_a_linear_connector():
    student, teacher = {"a": drawn(4, 3)}, {"a": drawn(4, 5, seed=1)}
    loss = prepared(AB("a"), given := args(student, teacher))
    (linear,) = loss.connectors[0]
    assert isinstance(linear, nn.Linear)
    expected = looped(linear(student["a"]), teacher["a"]) * 3 / 1000
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)
    student, teacher = {"a": drawn(2, 4, 3)}, {"a": drawn(2, 4, 5, seed=1)}
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    loss = prepared(AB("a"), given := args(student, teacher, mask=mask))
    mine = loss.connectors[0](student["a"].mT).mT
    kept = looped(mine[:1, :2], teacher["a"][:1, :2]) + looped(mine[1:], teacher["a"][1:])
    assert loss(*given).item() == pytest.approx(kept / 2 * 3 / 1000, rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 2, 2), 0.3)}
    loss = prepared(AB("a"), args({"a": features}, teacher))
    assert_finite(lambda z: loss(*args({"a": z}, teacher)), features)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    where = r"activation_boundary_loss: "
    with pytest.raises(ShapeError, match=where + r".*student \(2, 3\), teacher \(2, 4\)"):
        activation_boundary_loss(drawn(2, 3), drawn(2, 4))
    with pytest.raises(ArgumentError, match=where + "expected `margin` > 0"):
        activation_boundary_loss(drawn(2, 3), drawn(2, 3), margin=0.0)
    with pytest.raises(ArgumentError, match="AB: expected `margin` > 0"):
        AB(margin=-1.0)
    given = args({"a": drawn(4, 3)}, {"a": drawn(4, 2)})
    with pytest.raises(ArgumentError, match=r"AB: .*not prepared"):
        AB("a")(*given)
    loss = prepared(AB("a"), given)
    with pytest.raises(ShapeError, match=r"AB: .*expected 3 and 2 channels"):
        loss(*args({"a": drawn(4, 4)}, {"a": drawn(4, 2)}))
