"""LumiNet against a golden value, plain loops and what standardised columns do not see."""

import math

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, logits, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import LumiNet, luminet_loss
from limbeck.types import Outputs


def test_golden_value():
    assert luminet_loss(*logits()).item() == pytest.approx(33.706802234742, rel=1e-11)


def by_loops(student, teacher, scale, temperature, eps):
    rows = []
    for z in (student, teacher):
        columns = []
        for column in z.T.tolist():
            mean = sum(column) / len(column)
            variance = sum((value - mean) ** 2 for value in column) / len(column)
            columns.append([(value - mean) / math.sqrt(variance + eps) for value in column])
        rows.append([softmax(row, temperature) for row in zip(*columns, strict=True)])
    return scale**2 * sum(divergence(t, s) for s, t in zip(*rows, strict=True)) / len(student)


def test_plain_loops():
    student, teacher = logits()
    found = luminet_loss(student, teacher, scale=3.0, temperature=2.5, eps=0.1)
    assert found.item() == pytest.approx(by_loops(student, teacher, 3.0, 2.5, 0.1), rel=1e-12)


def test_the_value_does_not_shrink_with_the_number_of_classes():
    """Repeating every class keeps the divergence; a mean over entries would halve it."""
    student, teacher = logits()
    one, two = luminet_loss(student, teacher), luminet_loss(*(z.repeat(1, 2) for z in logits()))
    assert two.item() == pytest.approx(one.item(), rel=1e-12)


def test_shift_and_scale_of_a_class_change_nothing():
    student, teacher = logits()
    expected = luminet_loss(student, teacher, eps=1e-12).item()
    found = luminet_loss(
        student * (1 + drawn(5).abs()) + drawn(5), 50 * teacher - drawn(5), eps=1e-12
    )
    assert found.item() == pytest.approx(expected, rel=1e-9)
    assert luminet_loss(3 * teacher + drawn(5), teacher, eps=1e-12).item() < 1e-12


def test_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    assert torch.autograd.gradcheck(lambda z: luminet_loss(z, teacher.detach()), student)
    found = torch.autograd.grad(luminet_loss(student, teacher), (student, teacher), allow_unused=1)
    assert found[1] is None
    assert found[0].sum(0).abs().max() < 1e-12  # the value does not see a shift of a class


@pytest.mark.parametrize("value", [0.1, 1e4, -3e7])
def test_constant_columns_count_as_zero(value):
    teacher = drawn(7, 3).float()
    student = torch.full((7, 3), value).requires_grad_()
    loss = luminet_loss(student, teacher)
    expected = by_loops(torch.zeros(7, 3), teacher, 33.0, 4.0, 1e-5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_edges_give_zero():
    for shape in ((0, 3), (1, 3), (4, 1)):
        student = drawn(*shape).requires_grad_()
        loss = luminet_loss(student, drawn(*shape, seed=1))
        assert loss.item() == pytest.approx(0.0, abs=1e-13)
        loss.backward()


def test_two_classes():
    student, teacher = (z[:, :2] for z in logits())
    assert luminet_loss(student, teacher).item() == pytest.approx(
        by_loops(student, teacher, 33.0, 4.0, 1e-5), rel=1e-12
    )


def test_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    loss = luminet_loss(student.requires_grad_(), teacher)
    small = by_loops(student.detach() / 1e4, teacher / 1e4, 33.0, 4.0, 1e-13)
    assert loss.item() == pytest.approx(small, rel=1e-4)
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_bfloat16_is_widened():
    student, teacher = (z.bfloat16() for z in logits())
    narrow = luminet_loss(student, teacher)
    exact = luminet_loss(student.double(), teacher.double())
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-5)


def test_module_is_the_function():
    student, teacher = logits()
    args = Outputs(student), Outputs(teacher), batch_of(6)
    value = LumiNet(scale=7.0, temperature=2.0, eps=1e-3)(*args)
    assert value.item() == pytest.approx(by_loops(student, teacher, 7.0, 2.0, 1e-3), rel=1e-12)
    assert LumiNet()(*args).item() == pytest.approx(33.706802234742, rel=1e-11)
    assert LumiNet.published_weights == (2.0, 1.0)
    assert LumiNet().across_ranks


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"luminet_loss: .*teacher_logits \(6, 4\)"):
        luminet_loss(student, teacher[:, :4])
    for name in ("scale", "temperature", "eps"):
        with pytest.raises(ArgumentError, match=f"luminet_loss: expected `{name}` > 0"):
            luminet_loss(student, teacher, **{name: 0.0})
        with pytest.raises(ArgumentError, match=f"LumiNet: expected `{name}` > 0"):
            LumiNet(**{name: -1.0})
    with pytest.raises(ArgumentError, match=r"LumiNet: .*none from teacher"):
        LumiNet()(Outputs(student), Outputs(None), batch_of(6))
