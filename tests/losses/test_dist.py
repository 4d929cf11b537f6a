"""DIST against golden values, plain loops and what correlations do not see."""

import math

import pytest
import torch
from helpers.logits import batch_of, drawn, logits, pairs, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import DIST, dist_loss
from limbeck.types import Outputs


@pytest.mark.parametrize(
    ("inter", "intra", "temperature", "expected"),
    [
        (1.0, 0.0, 1.0, 0.958472780887),
        (0.0, 1.0, 1.0, 0.931124745766),
        (1.0, 1.0, 1.0, 1.889597526653),
        (2.0, 2.0, 4.0, 54.885125084461),
    ],
)
def test_golden_values(inter, intra, temperature, expected):
    found = dist_loss(*logits(), temperature=temperature, inter_weight=inter, intra_weight=intra)
    assert found.item() == pytest.approx(expected, rel=1e-11)


def test_defaults_and_weights_are_those_of_cifar():
    assert dist_loss(*logits()).item() == pytest.approx(54.885125084461 / 2, rel=1e-11)
    assert DIST.published_weights == (1.0, 2.0)


def correlation(x, y):
    x, y = ([value - sum(z) / len(z) for value in z] for z in (x, y))
    product = sum(a * b for a, b in zip(x, y, strict=True))
    lengths = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return product / (lengths + 1e-8)


def by_loops(student, teacher, temperature, inter_weight, intra_weight):
    p = [[softmax(row, temperature) for row in z.tolist()] for z in (student, teacher)]
    turned = [list(zip(*one, strict=True)) for one in p]
    rows, columns = (
        [correlation(*both) for both in zip(*each, strict=True)] for each in (p, turned)
    )
    inter, intra = (1 - sum(each) / len(each) for each in (rows, columns))
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def test_plain_loops():
    student, teacher = logits()
    found = dist_loss(student, teacher, temperature=2.5, inter_weight=0.3, intra_weight=1.7)
    assert found.item() == pytest.approx(by_loops(student, teacher, 2.5, 0.3, 1.7), rel=1e-12)


def test_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    assert torch.autograd.gradcheck(lambda z: dist_loss(z, teacher.detach()), student)
    found = torch.autograd.grad(dist_loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[1] is None


def test_shifts_of_a_row_change_nothing():
    student, teacher = logits()
    found = dist_loss(student + drawn(6, 1), teacher - 4).item()
    assert found == pytest.approx(dist_loss(student, teacher).item(), rel=1e-12)


def test_probabilities_that_are_only_damped_count_as_equal():
    """p' = 0.3 p + 0.7 / c keeps every correlation: what plain KL would punish."""
    _, teacher = logits()
    damped = (0.3 * teacher.softmax(1) + 0.14).log()
    for student in (damped, teacher):
        loss = dist_loss(student, teacher, temperature=1.0)
        # The guard of the denominator leaves 2e-6.
        assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_two_classes_anticorrelate_fully():
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [2.0, 0]])
    loss = dist_loss(student, teacher, temperature=1.0, inter_weight=3.0, intra_weight=5.0)
    assert loss.item() == pytest.approx(3 * 2 + 5 * 2, rel=1e-6)


def test_what_is_constant_correlates_with_nothing():
    student = torch.full((3, 4), 1e4).requires_grad_()
    loss = dist_loss(student, drawn(3, 4).float(), temperature=1.0)
    assert loss.item() == 2.0
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_one_row_leaves_the_second_term_at_one():
    student, teacher = (z[:1] for z in logits())
    row_s, row_t = pairs(student, teacher)[0]
    inter = 1 - correlation(softmax(row_s), softmax(row_t))
    loss = dist_loss(student, teacher, temperature=1.0, inter_weight=1.0, intra_weight=10.0)
    assert loss.item() == pytest.approx(inter + 10.0, rel=1e-12)


def test_no_rows_give_zero():
    student = torch.zeros(0, 3).requires_grad_()
    loss = dist_loss(student, torch.zeros(0, 3))
    assert loss.item() == 0.0
    loss.backward()


def test_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    loss = dist_loss(student.requires_grad_(), teacher, temperature=1.0)
    assert 0 <= loss.item() <= 4
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_bfloat16_is_widened():
    student, teacher = (z.bfloat16() for z in logits())
    narrow = dist_loss(student, teacher)
    assert narrow.dtype == torch.float32
    exact = dist_loss(student.double(), teacher.double())
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-5)


def test_module_is_the_function():
    student, teacher = logits()
    loss = DIST(temperature=2.0, inter_weight=0.5, intra_weight=3.0)
    value = loss(Outputs(student), Outputs(teacher), batch_of(6))
    assert value.item() == pytest.approx(by_loops(student, teacher, 2.0, 0.5, 3.0), rel=1e-12)
    assert loss.across_ranks


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"dist_loss: .*teacher_logits \(6, 4\)"):
        dist_loss(student, teacher[:, :4])
    with pytest.raises(ArgumentError, match="dist_loss: expected `temperature` > 0"):
        dist_loss(student, teacher, temperature=-1.0)
    with pytest.raises(ArgumentError, match=r"DIST: expected `inter_weight` in \[0.0, inf\]"):
        DIST(inter_weight=-1.0)
    with pytest.raises(ArgumentError, match=r"DIST: .*none from teacher"):
        DIST()(Outputs(student), Outputs(None), batch_of(6))
