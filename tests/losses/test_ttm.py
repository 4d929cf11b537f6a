"""TTM and WTTM against golden values and plain loops."""

import math

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, logits, pairs, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import TTM, WTTM, kd_loss, ttm_loss, wttm_loss
from limbeck.types import Outputs


both = pytest.mark.parametrize("loss", [ttm_loss, wttm_loss])


@pytest.mark.parametrize(
    ("loss", "expected"), [(ttm_loss, 0.730497177438), (wttm_loss, 2.278212213110)]
)
def test_golden_values(loss, expected):
    assert loss(*logits(), exponent=0.25).item() == pytest.approx(expected, rel=1e-11)


def by_loops(student, teacher, exponent, weighted):
    total = 0.0
    for row_s, row_t in pairs(student, teacher):
        powers = [p**exponent for p in softmax(row_t)]
        flatness = sum(powers)
        kl = divergence([power / flatness for power in powers], softmax(row_s))
        total += kl * flatness if weighted else kl
    return total / len(student)


@pytest.mark.parametrize("exponent", [0.1, 0.7, 1.0, 2.0])
def test_plain_loops(exponent):
    student, teacher = logits()
    for loss, weighted in ((ttm_loss, False), (wttm_loss, True)):
        expected = by_loops(student, teacher, exponent, weighted)
        assert loss(student, teacher, exponent=exponent).item() == pytest.approx(
            expected, rel=1e-12
        )


@both
def test_with_exponent_one_it_is_kd_at_temperature_one(loss):
    student, teacher = logits()
    expected = kd_loss(student, teacher, temperature=1.0).item()
    assert loss(student, teacher, exponent=1.0).item() == pytest.approx(expected, rel=1e-12)


@both
def test_zero_where_the_student_is_the_transformed_teacher_and_shifts_change_nothing(loss):
    student, teacher = logits()
    assert loss(0.3 * teacher - 5, teacher, exponent=0.3).item() == pytest.approx(0.0, abs=1e-14)
    expected = loss(student, teacher).item()
    assert loss(student + drawn(6, 1), teacher + 9).item() == pytest.approx(expected, rel=1e-12)


@both
def test_gradient_agrees_with_differences_and_the_teacher_has_none(loss):
    student, teacher = (z.requires_grad_() for z in logits())
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher.detach()), student)
    found = torch.autograd.grad(loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[1] is None


def test_a_flat_teacher_weighs_as_many_classes_allow():
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    plain = ttm_loss(student, torch.zeros(1, 2).double(), exponent=0.25).item()
    weighted = wttm_loss(student, torch.zeros(1, 2).double(), exponent=0.25).item()
    assert weighted == pytest.approx(2**0.75 * plain, rel=1e-12)
    sure = torch.tensor([[1e4, 0.0]]).double()
    assert wttm_loss(student, sure).item() == pytest.approx(math.log(4 / 3), rel=1e-12)


@both
def test_opposite_certainty_at_logits_of_1e4_is_finite(loss):
    student = torch.tensor([[1e4, 0.0]]).requires_grad_()
    value = loss(student, torch.tensor([[0.0, 1e4]]))
    assert value.item() == pytest.approx(1e4)
    assert torch.autograd.grad(value, student)[0].tolist() == [[1.0, -1.0]]


@both
def test_no_rows_and_a_single_class_give_zero(loss):
    for shape in ((0, 3), (2, 1)):
        student = torch.ones(shape).requires_grad_()
        value = loss(student, torch.zeros(shape))
        assert value.item() == 0.0
        value.backward()


@both
def test_bfloat16_is_widened(loss):
    student, teacher = (z.bfloat16() for z in logits())
    exact = loss(student.double(), teacher.double())
    assert loss(student, teacher).dtype == torch.float32
    assert loss(student, teacher).item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize(("module", "weighted"), [(TTM, False), (WTTM, True)])
def test_module_is_the_function(module, weighted):
    student, teacher = logits()
    args = Outputs(student), Outputs(teacher), batch_of(6)
    expected = by_loops(student, teacher, 0.4, weighted)
    assert module(exponent=0.4)(*args).item() == pytest.approx(expected, rel=1e-12)
    expected = by_loops(student, teacher, 0.1, weighted)
    assert module()(*args).item() == pytest.approx(expected, rel=1e-12)


def test_weights_are_those_of_a_published_pair():
    assert TTM.published_weights == (1.0, 76.0)
    assert WTTM.published_weights == (1.0, 3.0)


@pytest.mark.usefixtures("without_shape_hook")
@pytest.mark.parametrize(
    ("loss", "module", "name"), [(ttm_loss, TTM, "ttm"), (wttm_loss, WTTM, "wttm")]
)
def test_messages_say_what_to_do(loss, module, name):
    student, teacher = logits()
    with pytest.raises(ShapeError, match=rf"^{name}_loss: .*teacher_logits \(6, 4\)"):
        loss(student, teacher[:, :4])
    with pytest.raises(ArgumentError, match=f"^{name}_loss: expected `exponent` > 0"):
        loss(student, teacher, exponent=0.0)
    with pytest.raises(ArgumentError, match=f"^{name.upper()}: expected `exponent` > 0"):
        module(exponent=-1.0)
    with pytest.raises(ArgumentError, match=rf"^{name.upper()}: .*none from teacher"):
        module()(Outputs(student), Outputs(None), batch_of(6))
