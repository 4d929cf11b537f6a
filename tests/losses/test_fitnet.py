"""FitNet: against plain loops, torch and finite differences; its regressor."""

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared, value_and_gradient
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ShapeError
from limbeck.losses import FitNet, hint_loss


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 3)])
def test_equals_plain_loops(shape):
    student, teacher = drawn(*shape), drawn(*shape, seed=1)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    errors = [(one - two) ** 2 for one, two in pairs]
    value = hint_loss(student, teacher).item()
    assert value == pytest.approx(sum(errors) / len(errors), rel=1e-13)


def test_hand_computed_value_and_gradient():
    """The fixture of two samples in section 5.8 of the PID reference: squares 1, 4, 4, 1."""
    teacher = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    student = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    value, gradient = value_and_gradient(lambda z: hint_loss(z, teacher), student)
    assert value == 2.5
    assert gradient.tolist() == [[-0.5, -1.0], [-1.0, 0.5]]


def test_maps_of_unlike_size_are_compared_at_the_smaller():
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 3, 2, 1.0)
    expected = F.mse_loss(F.avg_pool2d(student, 2), teacher)
    assert hint_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-13)
    assert hint_loss(teacher, student).item() == pytest.approx(expected.item(), rel=1e-13)


def test_padded_tokens_do_not_count():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    mask = torch.tensor([[True, False, False, True], [True, True, True, True]])
    errors = (student - teacher) ** 2
    expected = (errors[0][:, [0, 3]].mean() + errors[1].mean()) / 2
    assert hint_loss(student, teacher, mask=mask).item() == pytest.approx(expected.item())


def test_gradients():
    student, teacher = maps(2, 3, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: hint_loss(z, teacher), student)
    found = torch.autograd.grad(hint_loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_a_shift_of_both_changes_nothing():
    student, teacher = drawn(4, 3), drawn(4, 3, seed=1)
    shifted = hint_loss(student + 5.0, teacher + 5.0).item()
    assert shifted == pytest.approx(hint_loss(student, teacher).item(), rel=1e-12)


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(4, 3).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    value = hint_loss(student, teacher)
    assert value.dtype == torch.float32
    expected = F.mse_loss(student.double(), teacher.double()).item()
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert hint_loss(student[:0], teacher[:0]).item() == 0.0


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"hint_loss: .*student \(2, 3\), teacher \(2, 4\)"):
        hint_loss(drawn(2, 3), drawn(2, 4))
    with pytest.raises(ShapeError, match=r"hint_loss: .*student \(2, 3\), teacher \(1, 3\)"):
        hint_loss(drawn(2, 3), drawn(1, 3))


def test_module_is_the_function_of_its_regressor():
    student, teacher = {"a": drawn(4, 3), "b": drawn(4, 2)}, {"a": drawn(4, 5), "b": drawn(4, 6)}
    given = args(student, teacher)
    loss = prepared(FitNet(("a", "b")), given)
    assert [type(made[0]) for made in loss.regressors] == [nn.Linear, nn.Linear]
    expected = sum(
        F.mse_loss(made(student[layer]), teacher[layer]).item()
        for layer, made in zip("ab", loss.regressors, strict=True)
    )
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*given)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_regressor_of_maps_is_convolution_batch_norm_and_relu():
    student, teacher = drawn(4, 3, 4, 4), drawn(4, 5, 4, 4).relu()
    loss = prepared(FitNet("a"), given := args({"a": student}, {"a": teacher}))
    convolution = loss.regressors[0][0]
    hidden = F.conv2d(student, convolution.weight)
    expected = F.mse_loss(F.batch_norm(hidden, None, None, training=True).relu(), teacher)
    assert loss(*given).item() == pytest.approx(expected.item(), rel=1e-12)


def test_no_relu_where_the_teacher_is_negative_unless_asked():
    student, signed = {"a": drawn(4, 3, 4, 4)}, {"a": drawn(4, 5, 4, 4)}
    positive = {"a": signed["a"].relu()}

    def has_relu(loss, teacher):
        last = prepared(loss, args(student, teacher)).regressors[0][-1]
        return isinstance(last, nn.ReLU)

    assert has_relu(FitNet("a"), positive)
    assert not has_relu(FitNet("a"), signed)
    assert has_relu(FitNet("a", relu=True), signed)
    assert not has_relu(FitNet("a", relu=False), positive)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 8, 8), 0.3)}
    loss = prepared(FitNet("a"), args({"a": features}, teacher))
    assert_finite(lambda z: loss(*args({"a": z}, teacher)), features)
