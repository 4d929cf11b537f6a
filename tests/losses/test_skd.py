"""The Gram and Mahalanobis term of SKD against a golden value and plain loops."""

import math

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, logits, pairs, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import SKD, gram_mahalanobis_loss
from limbeck.types import Outputs


def test_golden_value():
    assert gram_mahalanobis_loss(*logits()).item() == pytest.approx(0.796816945496, rel=1e-11)


def solved(matrix, right):
    """Solve by elimination; the matrix is positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    n = len(rows)
    for k in range(n):
        for i in range(n):
            if i != k:
                ratio = rows[i][k] / rows[k][k]
                rows[i] = [x - ratio * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[n] / row[k] for k, row in enumerate(rows)]


def by_loops(student, teacher, ridge):
    b, c = student.shape
    gram = []
    for z in (student, teacher):
        units = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z.tolist()]
        gram.append([[sum(x * y for x, y in zip(p, q, strict=True)) for q in units] for p in units])
    d = [[(gram[0][i][j] - gram[1][i][j]) / c for j in range(b)] for i in range(b)]
    means = [sum(row[j] for row in d) / b for j in range(b)]
    sigma = [
        [
            sum((row[j] - means[j]) * (row[k] - means[k]) for row in d) / (b - 1) + ridge * (j == k)
            for k in range(b)
        ]
        for j in range(b)
    ]
    forms = [sum(x * y for x, y in zip(row, solved(sigma, row), strict=True)) for row in d]
    return sum(math.sqrt(form) for form in forms) / b


@pytest.mark.parametrize(("classes", "ridge"), [(2, 0.1), (5, 0.003), (5, 2.0)])
def test_plain_loops(classes, ridge):
    student, teacher = (z[:, :classes] for z in logits())
    found = gram_mahalanobis_loss(student, teacher, ridge=ridge)
    assert found.item() == pytest.approx(by_loops(student, teacher, ridge), rel=1e-10)


def test_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    assert torch.autograd.gradcheck(
        lambda z: gram_mahalanobis_loss(z, teacher.detach(), ridge=0.01), student
    )
    loss = gram_mahalanobis_loss(student, teacher)
    found = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert found[1] is None


def test_lengths_and_rotations_change_nothing():
    student, teacher = logits()
    expected = gram_mahalanobis_loss(student, teacher).item()
    lengths = 0.5 + 9 * drawn(6, 1).abs()
    turn = torch.linalg.qr(drawn(5, 5))[0]
    found = gram_mahalanobis_loss(lengths * student @ turn, 40 * teacher).item()
    assert found == pytest.approx(expected, rel=1e-12)
    shifted = gram_mahalanobis_loss(student + 3, teacher).item()
    assert shifted != pytest.approx(expected, rel=1e-3)


def test_a_student_that_agrees_gives_zero_and_no_nan_in_the_gradient():
    teacher = drawn(6, 5).float()
    student = teacher.clone().requires_grad_()
    loss = gram_mahalanobis_loss(student, teacher)
    assert loss.item() == 0.0
    assert (torch.autograd.grad(loss, student)[0] == 0).all()


def test_large_differences_are_measured_by_their_spread():
    """Without a ridge worth mentioning the scale of D cancels: half the classes, twice the D."""
    student, teacher = (z.repeat(1, 2) for z in logits())
    found = gram_mahalanobis_loss(student, teacher, ridge=1e-9).item()
    assert found == pytest.approx(by_loops(*logits(), 4e-9), rel=1e-6)
    assert gram_mahalanobis_loss(*logits(), ridge=1e8).item() < 1e-3


@pytest.mark.parametrize("rows", [0, 1])
def test_without_two_rows_there_is_no_angle(rows):
    student = torch.ones(rows, 3).requires_grad_()
    loss = gram_mahalanobis_loss(student, torch.zeros(rows, 3))
    assert loss.item() == 0.0
    loss.backward()
    assert (student.grad == 0).all()


def test_two_rows():
    student, teacher = (z[:2] for z in logits())
    found = gram_mahalanobis_loss(student, teacher)
    assert found.item() == pytest.approx(by_loops(student, teacher, 0.1), rel=1e-12)


def test_rows_of_zeros_and_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    student[2], teacher[3] = 0.0, 0.0
    loss = gram_mahalanobis_loss(student.requires_grad_(), teacher)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_narrow_floats_and_autocast_are_widened():
    student, teacher = (z.bfloat16() for z in logits())
    exact = gram_mahalanobis_loss(student.double(), teacher.double())
    with torch.autocast("cpu", torch.bfloat16):
        narrow = gram_mahalanobis_loss(student, teacher)
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-4)


def test_module_adds_kd():
    student, teacher = logits()
    args = Outputs(student), Outputs(teacher), batch_of(6)
    assert SKD()(*args).item() == pytest.approx(1.314412399596 + 0.796816945496, rel=1e-11)
    kl = sum(divergence(softmax(t, 2.0), softmax(s, 2.0)) for s, t in pairs(student, teacher))
    expected = 4 * kl / 6 + 3 * by_loops(student, teacher, 0.5)
    loss = SKD(temperature=2.0, gram_weight=3.0, ridge=0.5)
    assert loss(*args).item() == pytest.approx(expected, rel=1e-12)
    assert SKD.published_weights == (0.1, 0.9)
    assert loss.across_ranks


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"gram_mahalanobis_loss: .*teacher_logits \(6, 4\)"):
        gram_mahalanobis_loss(student, teacher[:, :4])
    with pytest.raises(ArgumentError, match="gram_mahalanobis_loss: expected `ridge` > 0"):
        gram_mahalanobis_loss(student, teacher, ridge=0.0)
    for name in ("temperature", "ridge"):
        with pytest.raises(ArgumentError, match=f"SKD: expected `{name}` > 0"):
            SKD(**{name: -1.0})
    with pytest.raises(ArgumentError, match=r"SKD: expected `gram_weight` in \[0.0, inf\]"):
        SKD(gram_weight=-1.0)
    with pytest.raises(ArgumentError, match=r"SKD: .*none from teacher"):
        SKD()(Outputs(student), Outputs(None), batch_of(6))
