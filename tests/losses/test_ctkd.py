"""CTKD: its value, its reversed gradient and the ramp of that."""

import math

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, logits, pairs, softmax
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import CTKD, ctkd_loss, kd_loss
from limbeck.types import Outputs


def theta_of(temperature: float) -> Tensor:
    share = (temperature - 1) / 20
    return torch.tensor(math.log(share / (1 - share)), dtype=torch.float64)


def by_loops(student, teacher, temperature):
    total = sum(
        divergence(softmax(row_t, temperature), softmax(row_s, temperature))
        for row_s, row_t in pairs(student, teacher)
    )
    return temperature**2 * total / len(student)


def args_of(student, teacher):
    return Outputs(student), Outputs(teacher), batch_of(len(student))


def test_golden_value_of_kd_at_temperature_4():
    found = ctkd_loss(*logits(), theta_of(4.0))
    assert found.item() == pytest.approx(1.314412399596, rel=1e-11)


def test_plain_loops_at_the_first_temperature():
    student, teacher = logits()
    temperature = 1 + 20 / (1 + math.exp(-1.0))
    assert temperature == pytest.approx(15.6, abs=0.03)
    found = CTKD().double()(*args_of(student, teacher))
    assert found.item() == pytest.approx(by_loops(student, teacher, temperature), rel=1e-12)
    other = CTKD(start=-0.5, lowest=2.0, span=6.0).double()(*args_of(student, teacher))
    temperature = 2 + 6 / (1 + math.exp(0.5))
    assert other.item() == pytest.approx(by_loops(student, teacher, temperature), rel=1e-12)


@pytest.mark.parametrize("reversal", [0.0, 0.3, 1.0])
def test_the_gradient_of_theta_is_reversed_and_the_value_is_not(reversal):
    student, teacher = logits()
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss = ctkd_loss(student, teacher, theta, reversal=reversal)
    temperature = 1 + 20 / (1 + math.exp(-0.7))
    assert loss.item() == pytest.approx(by_loops(student, teacher, temperature), rel=1e-12)
    (found,) = torch.autograd.grad(loss, theta)
    step = 1e-4
    ahead, back = (
        by_loops(student, teacher, 1 + 20 / (1 + math.exp(-0.7 - move))) for move in (step, -step)
    )
    assert found.item() == pytest.approx(-reversal * (ahead - back) / (2 * step), rel=1e-5)


def test_descent_on_theta_is_ascent_of_the_loss():
    student, teacher = logits()
    loss = CTKD(start=-2.0, ramp_steps=1).double()
    optimiser = torch.optim.SGD(loss.parameters(), lr=1.0)
    values = []
    for _ in range(20):
        optimiser.zero_grad()
        value = loss(*args_of(student, teacher))
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values == sorted(set(values))
    assert values[-1] > values[0] + 1e-3


def test_the_students_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    theta = theta_of(3.0)
    assert torch.autograd.gradcheck(lambda z: ctkd_loss(z, teacher.detach(), theta), student)
    loss = ctkd_loss(student, teacher, theta)
    found = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert found[1] is None
    (plain,) = torch.autograd.grad(kd_loss(student, teacher.detach(), temperature=3.0), student)
    torch.testing.assert_close(found[0], plain, rtol=1e-10, atol=1e-14)


def test_the_ramp_is_half_a_cosine_in_ten_stages():
    loss = CTKD(ramp_steps=20)
    args = args_of(*(z.float() for z in logits()))
    found = []
    for _ in range(30):
        found.append(loss.reversal.item())
        loss(*args)
    expected = [(1 - math.cos(math.pi * min(1 + step // 2, 10) / 10)) / 2 for step in range(30)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[0] == pytest.approx(0.0245, abs=1e-4)
    assert found[-1] == pytest.approx(1.0, abs=1e-7)


def test_only_steps_of_training_count():
    loss = CTKD()
    args = args_of(*(z.float() for z in logits()))
    loss(*args)
    with torch.no_grad():
        loss(*args)
    loss.eval()(*args)
    assert loss.steps.item() == 1
    other = CTKD()
    other.load_state_dict(loss.state_dict())
    assert other.steps.item() == 1


def test_the_parameter_is_registered_and_moves_against_the_gradient_by_the_ramp():
    student, teacher = (z.float() for z in logits())
    loss = CTKD(ramp_steps=5)
    assert [name for name, _ in loss.named_parameters()] == ["theta"]
    first = (1 - math.cos(math.pi / 10)) / 2
    loss(*args_of(student, teacher)).backward()
    reversed_fully = torch.tensor(1.0, requires_grad=True)
    ctkd_loss(student, teacher, reversed_fully).backward()
    assert loss.theta.grad.item() == pytest.approx(first * reversed_fully.grad.item(), rel=1e-4)
    assert loss.theta.grad.item() != 0.0
    assert loss.temperature.item() == pytest.approx(15.6211715726, rel=1e-6)


def test_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    loss = CTKD()
    value = loss(*args_of(student.requires_grad_(), teacher))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert loss.theta.grad.isfinite()


def test_edges_give_zero():
    for shape in ((0, 3), (2, 1)):
        student = torch.zeros(shape).requires_grad_()
        value = CTKD()(*args_of(student, torch.ones(shape)))
        assert value.item() == 0.0
        value.backward()


def test_two_classes_and_one_row():
    student, teacher = (z[:1, :2] for z in logits())
    found = ctkd_loss(student, teacher, theta_of(2.0))
    assert found.item() == pytest.approx(by_loops(student, teacher, 2.0), rel=1e-12)


def test_float_types():
    student, teacher = (z.bfloat16() for z in logits())
    narrow = ctkd_loss(student, teacher, torch.tensor(0.0))
    assert narrow.dtype == torch.float32
    exact = ctkd_loss(student.double(), teacher.double(), torch.tensor(0.0))
    assert exact.dtype == torch.float64
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-5)
    wide_theta = ctkd_loss(student.float(), teacher.float(), torch.tensor(0.0).double())
    assert wide_theta.dtype == torch.float32


def test_weights_are_those_of_kd():
    assert CTKD.published_weights == (0.1, 0.9)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    theta = torch.tensor(1.0)
    with pytest.raises(ShapeError, match=r"ctkd_loss: .*teacher_logits \(6, 4\)"):
        ctkd_loss(student, teacher[:, :4], theta)
    with pytest.raises(ArgumentError, match=r"ctkd_loss: expected `reversal` in \[0.0, 1.0\]"):
        ctkd_loss(student, teacher, theta, reversal=-1.0)
    with pytest.raises(ArgumentError, match="ctkd_loss: expected `lowest` > 0"):
        ctkd_loss(student, teacher, theta, lowest=0.0)
    with pytest.raises(ArgumentError, match=r"CTKD: expected `span` in \[0.0, inf\]"):
        CTKD(span=-1.0)
    with pytest.raises(ArgumentError, match="CTKD: expected `ramp_steps` > 0"):
        CTKD(ramp_steps=0)
    with pytest.raises(ArgumentError, match=r"CTKD: .*none from teacher"):
        CTKD()(Outputs(student), Outputs(None), batch_of(6))
