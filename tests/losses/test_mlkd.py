"""MLKD against golden values and plain loops."""

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, logits, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import MLKD, mlkd_loss
from limbeck.types import Outputs


def parts(instance, classes, batch):
    return {"instance_weight": instance, "class_weight": classes, "batch_weight": batch}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (parts(1.0, 0.0, 0.0), 1.314412399596),
        (parts(0.0, 1.0, 0.0), 0.001742350782),
        (parts(0.0, 0.0, 1.0), 0.001964342704),
    ],
)
def test_golden_values_at_temperature_4(weights, expected):
    found = mlkd_loss(*logits(), temperatures=(4.0,), **weights)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def by_loops(student, teacher, temperatures, weights):
    terms = [0.0, 0.0, 0.0]
    b, c = student.shape
    for temperature in temperatures:
        s, t = ([softmax(row, temperature) for row in z.tolist()] for z in (student, teacher))
        kl = sum(divergence(*both) for both in zip(t, s, strict=True))
        terms[0] += temperature**2 * kl / b
        for k in range(c):
            for l in range(c):
                gram_s, gram_t = (sum(p[k] * p[l] for p in rows) for rows in (s, t))
                terms[1] += (gram_t - gram_s) ** 2 / c
        for i in range(b):
            for j in range(b):
                gram_s, gram_t = (
                    sum(x * y for x, y in zip(p[i], p[j], strict=True)) for p in (s, t)
                )
                terms[2] += (gram_t - gram_s) ** 2 / b
    return sum(w * term for w, term in zip(weights, terms, strict=True))


@pytest.mark.parametrize("classes", [2, 5])
def test_plain_loops(classes):
    student, teacher = (z[:, :classes] for z in logits())
    found = mlkd_loss(student, teacher, temperatures=(1.0, 2.5), **parts(0.7, 3.0, 5.0))
    expected = by_loops(student, teacher, (1.0, 2.5), (0.7, 3.0, 5.0))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_defaults_are_five_temperatures_of_weight_one():
    student, teacher = logits()
    expected = by_loops(student, teacher, (2, 3, 4, 5, 6), (1, 1, 1))
    assert mlkd_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert MLKD.published_weights == (0.1, 0.9)


def test_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    heavy = {"temperatures": (1.0, 3.0), **parts(1.0, 20.0, 30.0)}
    assert torch.autograd.gradcheck(lambda z: mlkd_loss(z, teacher.detach(), **heavy), student)
    found = torch.autograd.grad(mlkd_loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[1] is None


def test_zero_when_they_agree_and_shifts_change_nothing():
    student, teacher = logits()
    assert mlkd_loss(teacher + 3, teacher).item() == pytest.approx(0.0, abs=1e-12)
    found = mlkd_loss(student - drawn(6, 1), teacher + 2).item()
    assert found == pytest.approx(mlkd_loss(student, teacher).item(), rel=1e-12)


def test_exchanged_classes_are_seen_between_classes_and_not_between_samples():
    _, teacher = logits()
    turned = teacher.roll(1, dims=1)
    between_samples = mlkd_loss(turned, teacher, **parts(0.0, 0.0, 1.0))
    assert between_samples.item() == pytest.approx(0.0, abs=1e-14)
    assert mlkd_loss(turned, teacher, **parts(0.0, 1.0, 0.0)).item() > 1e-3


def test_opposite_certainty_at_logits_of_1e4_is_finite():
    student = torch.tensor([[1e4, 0.0]]).requires_grad_()
    loss = mlkd_loss(student, torch.tensor([[0.0, 1e4]]))
    # KL is 1e4 / T; of the Gram matrices only that between classes differs, by 1 and -1.
    assert loss.item() == pytest.approx(1e4 * (2 + 3 + 4 + 5 + 6) + 5 * 2 / 2, rel=1e-6)
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_no_rows_and_a_single_class_give_zero():
    for shape in ((0, 3), (2, 1)):
        student = torch.ones(shape).requires_grad_()
        loss = mlkd_loss(student, torch.zeros(shape))
        assert loss.item() == 0.0
        loss.backward()


def test_one_row():
    student, teacher = (z[:1] for z in logits())
    expected = by_loops(student, teacher, (2, 3, 4, 5, 6), (1, 1, 1))
    assert mlkd_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_narrow_floats_and_autocast_are_widened():
    student, teacher = (z.bfloat16() for z in logits())
    exact = mlkd_loss(student.double(), teacher.double(), **parts(0.0, 1.0, 1.0))
    assert mlkd_loss(student, teacher).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        narrow = mlkd_loss(student, teacher, **parts(0.0, 1.0, 1.0))
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-4)


def test_module_is_the_function():
    student, teacher = logits()
    args = Outputs(student), Outputs(teacher), batch_of(6)
    loss = MLKD(temperatures=[1, 3], **parts(0.5, 2.0, 4.0))
    expected = by_loops(student, teacher, (1, 3), (0.5, 2.0, 4.0))
    assert loss(*args).item() == pytest.approx(expected, rel=1e-12)
    expected = by_loops(student, teacher, (2, 3, 4, 5, 6), (1, 1, 1))
    assert MLKD()(*args).item() == pytest.approx(expected, rel=1e-12)
    assert loss.across_ranks


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"mlkd_loss: .*teacher_logits \(6, 4\)"):
        mlkd_loss(student, teacher[:, :4])
    with pytest.raises(ArgumentError, match="mlkd_loss: expected `temperatures` > 0; got 0"):
        mlkd_loss(student, teacher, temperatures=(1.0, 0.0))
    with pytest.raises(ArgumentError, match="MLKD: expected at least one of `temperatures`"):
        MLKD(temperatures=())
    with pytest.raises(ArgumentError, match=r"MLKD: expected `class_weight` in \[0.0, inf\]"):
        MLKD(class_weight=-1.0)
    with pytest.raises(ArgumentError, match=r"MLKD: .*none from teacher"):
        MLKD()(Outputs(student), Outputs(None), batch_of(6))
