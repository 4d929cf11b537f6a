"""KD against golden values, closed forms and finite differences."""

import math

import jaxtyping
import pytest
import torch

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import KD, kd_loss
from limbeck.types import Batch, Outputs


def logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Section 8.3 of the reference: 6 samples, 5 classes."""
    i = torch.arange(6, dtype=torch.float64)[:, None]
    j = torch.arange(5, dtype=torch.float64)
    student = 2 * torch.sin(0.4 + 1.1 * i + 0.6 * j + 0.3 * i * j)
    return student, 3 * torch.cos(0.2 + 0.7 * i - 0.9 * j + 0.2 * i * j)


def test_golden_value():
    assert kd_loss(*logits()).item() == pytest.approx(1.314412399596, rel=1e-12)


def test_plain_loops():
    student, teacher = logits()
    temperature, total = 2.5, 0.0
    for row_s, row_t in zip(student.tolist(), teacher.tolist(), strict=True):
        sum_s = sum(math.exp(z / temperature) for z in row_s)
        sum_t = sum(math.exp(z / temperature) for z in row_t)
        for z_s, z_t in zip(row_s, row_t, strict=True):
            p_t, p_s = math.exp(z_t / temperature) / sum_t, math.exp(z_s / temperature) / sum_s
            total += temperature**2 * p_t * math.log(p_t / p_s) / 6
    assert kd_loss(student, teacher, temperature=2.5).item() == pytest.approx(total, rel=1e-12)


def test_gradient_is_the_difference_of_the_distributions():
    student, teacher = (z.requires_grad_() for z in logits())
    found = torch.autograd.grad(kd_loss(student, teacher), (student, teacher), allow_unused=True)
    expected = 4 * (torch.softmax(student / 4, 1) - torch.softmax(teacher / 4, 1)) / 6
    torch.testing.assert_close(found[0], expected, rtol=1e-11, atol=1e-15)
    assert found[1] is None
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, teacher), student)


def test_zero_when_they_agree_and_indifferent_to_shifts():
    student, teacher = logits()
    assert kd_loss(teacher + 3, teacher).item() == pytest.approx(0.0, abs=1e-14)
    shifted = kd_loss(student - 7, teacher + 2).item()
    assert shifted == pytest.approx(kd_loss(student, teacher).item(), rel=1e-12)


def test_opposite_certainty_at_scale_1e4():
    student = torch.tensor([[1e4, 0.0]]).requires_grad_()
    loss = kd_loss(student, torch.tensor([[0.0, 1e4]]))
    assert loss.item() == pytest.approx(16 * 1e4 / 4)
    assert torch.autograd.grad(loss, student)[0].tolist() == [[4.0, -4.0]]


def test_float_types():
    student, teacher = logits()
    narrow = kd_loss(student.bfloat16(), teacher.bfloat16())
    exact = kd_loss(student.bfloat16().double(), teacher.bfloat16().double())
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-6)
    assert exact.dtype == torch.float64


def test_no_rows():
    student = torch.zeros(0, 3).requires_grad_()
    loss = kd_loss(student, torch.zeros(0, 3))
    assert loss.item() == 0.0
    loss.backward()


def test_messages():
    student, teacher = logits()
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ShapeError, match=r"kd_loss: .*student_logits \(6, 5\), teacher_logits"):
            kd_loss(student, teacher[:, :4])
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ArgumentError, match="kd_loss: expected `temperature` > 0"):
            kd_loss(student, teacher, temperature=wrong)
        with pytest.raises(ArgumentError, match="KD: expected `temperature` > 0"):
            KD(temperature=wrong)


def test_module():
    student, teacher = logits()
    batch = Batch(student, None, torch.arange(6), torch.arange(6))
    value = KD(temperature=2.0)(Outputs(student), Outputs(teacher), batch)
    assert value.item() == kd_loss(student, teacher, temperature=2.0).item()
    assert list(KD().parameters()) == []
    assert KD.published_weights == (0.1, 0.9)
    with pytest.raises(ArgumentError, match=r"KD: .*none from teacher\. Keep the logits"):
        KD()(Outputs(student), Outputs(None), batch)
    with pytest.raises(ArgumentError, match="none from student and teacher"):
        KD()(Outputs(None), Outputs(None), batch)
