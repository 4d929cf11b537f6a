"""RLD against a golden value, plain loops and the rows that mask everything."""

import math

import pytest
import torch
from helpers.logits import LABELS, batch_of, divergence, drawn, logits, pairs, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import RLD, rld_loss
from limbeck.types import Outputs


def test_golden_value():
    assert rld_loss(*logits(), LABELS).item() == pytest.approx(8.225626498442, rel=1e-11)


def by_loops(student, teacher, targets, temperature, alpha, beta):
    total, count = 0.0, 0
    for row_s, row_t, y in pairs(student, teacher, targets):
        if y < 0:
            continue
        top, own = max(softmax(row_t)), softmax(row_s)[y]
        total += alpha * divergence([top, 1 - top], [own, 1 - own])
        below = [k for k in range(len(row_t)) if row_t[k] < row_t[y]]
        rest_s, rest_t = (softmax([row[k] for k in below], temperature) for row in (row_s, row_t))
        total += beta * temperature**2 * divergence(rest_t, rest_s)
        count += 1
    return total / count


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.7, 3.0)])
def test_plain_loops_over_the_labelled_rows(alpha, beta):
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    found = rld_loss(
        student,
        teacher,
        targets,
        temperature=2.5,
        confidence_weight=alpha,
        correlation_weight=beta,
    )
    assert found.item() == pytest.approx(
        by_loops(student, teacher, targets, 2.5, alpha, beta), rel=1e-12
    )


def test_unlabelled_rows_contribute_nothing():
    student, teacher = (z.requires_grad_() for z in logits())
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    found = torch.autograd.grad(
        rld_loss(student, teacher, targets), (student, teacher), allow_unused=True
    )
    assert found[1] is None
    assert (found[0][torch.tensor([1, 4])] == 0).all()
    assert (found[0][torch.tensor([0, 2, 3, 5])] != 0).any(1).all()


def test_the_student_is_not_told_what_the_teacher_prefers_to_the_label():
    """Only the sum of the preferred classes counts: exchanging their scores changes nothing."""
    student, teacher = drawn(1, 5), torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]]).double()
    exchanged = student[:, torch.tensor([1, 0, 2, 3, 4])]
    targets = torch.tensor([2])
    one, two = (rld_loss(z, teacher, targets).item() for z in (student, exchanged))
    assert one == pytest.approx(two, rel=1e-12)
    lower = student[:, torch.tensor([0, 1, 2, 4, 3])]
    assert rld_loss(lower, teacher, targets).item() != pytest.approx(one, rel=1e-3)


def test_a_class_that_ties_with_the_label_is_masked():
    student, teacher = drawn(1, 3), torch.tensor([[2.0, 2.0, 1.0]]).double()
    rest = rld_loss(student, teacher, torch.tensor([0]), confidence_weight=0.0)
    assert rest.item() == 0.0  # one class is left, and its share is 1 for both


def test_where_the_teacher_puts_the_label_last_the_second_term_is_zero():
    student = drawn(2, 4).requires_grad_()
    teacher = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).double()
    loss = rld_loss(student, teacher, torch.tensor([3, 1]), confidence_weight=0.0)
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, student)
    assert (gradient == 0).all()


def test_gradient_agrees_with_differences():
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    assert torch.autograd.gradcheck(
        lambda z: rld_loss(z, teacher, targets), student.requires_grad_()
    )


def test_shifts_of_a_row_change_nothing():
    student, teacher = logits()
    found = rld_loss(student - drawn(6, 1), teacher + 4, LABELS).item()
    assert found == pytest.approx(rld_loss(student, teacher, LABELS).item(), rel=1e-12)


def test_two_classes_leave_the_first_term():
    student, teacher = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[math.log(9.0), 0.0]])
    loss = rld_loss(student, teacher, torch.tensor([0]), confidence_weight=2.0)
    expected = 2 * divergence([0.9, 0.1], [0.25, 0.75])
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_confident_student_gives_no_infinity():
    student = torch.tensor([[1e4, 0.0, 0.0]]).requires_grad_()
    teacher = torch.tensor([[1.0, 2.0, 0.0]])
    loss = rld_loss(student, teacher, torch.tensor([0]), correlation_weight=0.0)
    top = softmax([1.0, 2.0, 0.0])[1]
    entropy = -top * math.log(top) - (1 - top) * math.log(1 - top)
    expected = (1 - top) * (1e4 - math.log(2)) - entropy
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[0, 0].item() == pytest.approx(1 - top, rel=1e-5)


def test_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    loss = rld_loss(student.requires_grad_(), teacher, torch.arange(8) % 4)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_no_rows_and_no_labels_give_zero():
    for student, targets in ((torch.zeros(0, 3), []), (torch.randn(2, 3), [-1, -1])):
        student.requires_grad_()
        loss = rld_loss(student, student.detach() * 2, torch.tensor(targets, dtype=torch.int64))
        assert loss.item() == 0.0
        loss.backward()
        assert (student.grad == 0).all()


def test_bfloat16_is_widened():
    student, teacher = (z.bfloat16() for z in logits())
    narrow = rld_loss(student, teacher, LABELS)
    exact = rld_loss(student.double(), teacher.double(), LABELS)
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-5)


def test_module_is_the_function():
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    loss = RLD(temperature=2.0, confidence_weight=0.5, correlation_weight=2.0)
    value = loss(Outputs(student), Outputs(teacher), batch_of(6, targets))
    expected = by_loops(student, teacher, targets, 2.0, 0.5, 2.0)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert RLD.published_weights == (1.0, 1.0)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"rld_loss: .*teacher_logits \(6, 4\)"):
        rld_loss(student, teacher[:, :4], LABELS)
    with pytest.raises(ShapeError, match=r"rld_loss: .*one target a row; got .*targets \(5,\)"):
        rld_loss(student, teacher, LABELS[:5])
    with pytest.raises(ArgumentError, match="rld_loss: expected `temperature` > 0"):
        rld_loss(student, teacher, LABELS, temperature=0.0)
    with pytest.raises(ArgumentError, match=r"RLD: expected `correlation_weight` in \[0.0, inf\]"):
        RLD(correlation_weight=-1.0)
    with pytest.raises(ArgumentError, match=r"RLD: expected class indices .* Give labels"):
        RLD()(Outputs(student), Outputs(teacher), batch_of(6))
    with pytest.raises(ArgumentError, match=r"RLD: .*none from student"):
        RLD()(Outputs(None), Outputs(teacher), batch_of(6, LABELS))
