"""DKD against golden values, plain loops and the faults of other libraries."""

import math

import pytest
import torch
from helpers.logits import LABELS, batch_of, divergence, drawn, logits, pairs, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import DKD, dkd_loss, kd_loss
from limbeck.types import Outputs


@pytest.mark.parametrize(
    ("target_weight", "nontarget_weight", "expected"),
    [
        (1.0, 0.0, 0.442359735606),
        (0.0, 1.0, 1.173530920807),
        (1.0, 8.0, 9.830607102061),
    ],
)
def test_golden_values(target_weight, nontarget_weight, expected):
    found = dkd_loss(
        *logits(), LABELS, target_weight=target_weight, nontarget_weight=nontarget_weight
    )
    assert found.item() == pytest.approx(expected, rel=1e-11)


def test_the_defaults_are_the_published_ones():
    assert dkd_loss(*logits(), LABELS).item() == pytest.approx(9.830607102061, rel=1e-11)


def by_loops(student, teacher, targets, temperature, target_weight, nontarget_weight):
    total, count = 0.0, 0
    for row_s, row_t, y in pairs(student, teacher, targets):
        if y < 0:
            continue
        p_s, p_t = softmax(row_s, temperature), softmax(row_t, temperature)
        total += target_weight * divergence([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]])
        rest_s, rest_t = (
            softmax([z for k, z in enumerate(row) if k != y], temperature) for row in (row_s, row_t)
        )
        total += nontarget_weight * divergence(rest_t, rest_s)
        count += 1
    return temperature**2 * total / count


def test_plain_loops_over_the_labelled_rows():
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    found = dkd_loss(
        student, teacher, targets, temperature=2.5, target_weight=0.7, nontarget_weight=3.0
    )
    expected = by_loops(student, teacher, targets, 2.5, 0.7, 3.0)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_unlabelled_rows_contribute_nothing():
    student, teacher = (z.requires_grad_() for z in logits())
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    loss = dkd_loss(student, teacher, targets)
    rows = torch.tensor([0, 2, 3, 5])
    alone = dkd_loss(student[rows], teacher[rows], targets[rows])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-12)
    found = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert found[1] is None
    assert (found[0][torch.tensor([1, 4])] == 0).all()
    assert (found[0][rows] != 0).any()


def test_the_parts_make_up_plain_kd():
    """KD = TCKD + (1 - p_y) NCKD, row by row: the identity that the method starts from."""
    student, teacher = logits()
    for row in range(6):
        one = slice(row, row + 1)
        parts = [
            dkd_loss(
                student[one], teacher[one], LABELS[one], target_weight=a, nontarget_weight=1 - a
            ).item()
            for a in (1.0, 0.0)
        ]
        rest = 1 - softmax(teacher[row].tolist(), 4.0)[LABELS[row]]
        whole = kd_loss(student[one], teacher[one]).item()
        assert parts[0] + rest * parts[1] == pytest.approx(whole, rel=1e-12)


def test_gradient_agrees_with_differences():
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    assert torch.autograd.gradcheck(
        lambda z: dkd_loss(z, teacher, targets), student.requires_grad_()
    )


def test_shifts_of_a_row_change_nothing():
    student, teacher = logits()
    found = dkd_loss(student - 7, teacher + drawn(6, 1), LABELS).item()
    assert found == pytest.approx(dkd_loss(student, teacher, LABELS).item(), rel=1e-12)
    assert dkd_loss(teacher + 3, teacher, LABELS).item() == pytest.approx(0.0, abs=1e-13)


def test_the_second_term_of_two_classes_is_zero():
    student, teacher = (z[:, :2] for z in logits())
    targets = torch.tensor([0, 1, 1, 0, 1, 0])
    loss = dkd_loss(student, teacher, targets, temperature=3.0)
    assert loss.item() == pytest.approx(kd_loss(student, teacher, temperature=3.0).item())
    rest = dkd_loss(student, teacher, targets, target_weight=0.0)
    assert rest.item() == 0.0


@pytest.mark.parametrize("sure_of", [0, 1])
def test_a_confident_student_gives_no_infinity(sure_of):
    """Peers take the logarithm of 1 - p, which is 0 in float32 from a logit of 70 at T = 4."""
    student = torch.zeros(1, 3)
    student[0, sure_of] = 1e4
    student.requires_grad_()
    loss = dkd_loss(student, torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0]))
    p = softmax([1.0, 2.0, 3.0], 4.0)[0]
    miss = 1 - p if sure_of == 0 else p
    assert loss.isfinite()
    if sure_of == 0:
        rest = softmax([2.0, 3.0], 4.0)
        expected = 16 * (miss * (2500.0 - math.log(2)) - entropy(p, 1 - p))
        expected += 8 * 16 * divergence(rest, [0.5, 0.5])
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert gradient[0, 0].item() == pytest.approx(4 * (miss if sure_of == 0 else -miss), rel=1e-5)


def entropy(*p: float) -> float:
    return -sum(x * math.log(x) for x in p)


def test_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    loss = dkd_loss(student.requires_grad_(), teacher, torch.arange(8) % 4)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_no_rows_and_no_labels_give_zero():
    for student, targets in ((torch.zeros(0, 3), []), (torch.randn(2, 3), [-1, -1])):
        student.requires_grad_()
        loss = dkd_loss(student, student.detach() + 1, torch.tensor(targets, dtype=torch.int64))
        assert loss.item() == 0.0
        loss.backward()
        assert (student.grad == 0).all()


def test_bfloat16_is_widened():
    student, teacher = (z.bfloat16() for z in logits())
    narrow = dkd_loss(student, teacher, LABELS)
    exact = dkd_loss(student.double(), teacher.double(), LABELS)
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-5)


def test_module_is_the_function():
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    loss = DKD(temperature=2.0, target_weight=0.5, nontarget_weight=2.0)
    value = loss(Outputs(student), Outputs(teacher), batch_of(6, targets))
    expected = by_loops(student, teacher, targets, 2.0, 0.5, 2.0)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert DKD.published_weights == (1.0, 1.0)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"dkd_loss: .*teacher_logits \(6, 4\)"):
        dkd_loss(student, teacher[:, :4], LABELS)
    with pytest.raises(ShapeError, match=r"dkd_loss: .*one target a row; got .*targets \(5,\)"):
        dkd_loss(student, teacher, LABELS[:5])
    with pytest.raises(ShapeError, match=r"dkd_loss: .*two classes or more"):
        dkd_loss(student[:, :1], teacher[:, :1], LABELS * 0)
    with pytest.raises(ArgumentError, match="dkd_loss: expected `temperature` > 0"):
        dkd_loss(student, teacher, LABELS, temperature=0.0)
    with pytest.raises(ArgumentError, match=r"DKD: expected `nontarget_weight` in \[0.0, inf\]"):
        DKD(nontarget_weight=-1.0)
    with pytest.raises(ArgumentError, match=r"DKD: expected class indices .* Give labels"):
        DKD()(Outputs(student), Outputs(teacher), batch_of(6))
    with pytest.raises(ArgumentError, match=r"DKD: .*none from student"):
        DKD()(Outputs(None), Outputs(teacher), batch_of(6, LABELS))
