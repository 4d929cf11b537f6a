"""Logit standardisation against golden values, plain loops and its invariances."""

import math

import pytest
import torch
from helpers.logits import LABELS, batch_of, divergence, drawn, logits, pairs, softmax
from torch import nn

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import DKD, ITRD, KD, Match, Standardised, WeightedSum, dkd_loss, standardised
from limbeck.types import Outputs


def scaled_row(row):
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - 1))
    return [(z - mean) / (1e-7 + deviation) for z in row]


def loss_of(module, student, teacher, targets=None):
    return module(Outputs(student), Outputs(teacher), batch_of(len(student), targets))


def test_golden_value():
    assert loss_of(Standardised(), *logits()).item() == pytest.approx(0.627311309929, rel=1e-11)


def test_plain_loops():
    student, teacher = logits()
    torch.testing.assert_close(
        standardised(student),
        torch.tensor([scaled_row(row) for row in student.tolist()], dtype=torch.float64),
        rtol=1e-12,
        atol=1e-14,
    )
    total = 0.0
    for row_s, row_t in pairs(student, teacher):
        total += divergence(softmax(scaled_row(row_t), 3.0), softmax(scaled_row(row_s), 3.0))
    found = loss_of(Standardised(temperature=3.0), student, teacher)
    assert found.item() == pytest.approx(9 * total / 6, rel=1e-12)


def test_rows_have_mean_zero_and_deviation_one():
    z = standardised(drawn(5, 7, scale=30.0) + 100.0)
    torch.testing.assert_close(z.mean(1), torch.zeros(5).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(z.std(1), torch.ones(5).double(), rtol=1e-8, atol=0)


def test_shift_and_scale_of_a_row_change_nothing():
    student, teacher = logits()
    expected = loss_of(Standardised(), student, teacher).item()
    scales = 0.5 + 10 * drawn(6, 1).abs()
    found = loss_of(Standardised(), scales * student + drawn(6, 1), 40 * teacher - 9)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    mirrored = loss_of(Standardised(), -student, teacher)
    assert mirrored.item() != pytest.approx(expected, rel=0.01)


def test_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    weights = drawn(6, 5)
    assert torch.autograd.gradcheck(lambda z: (weights * standardised(z)).sum(), student)
    found = torch.autograd.grad(
        loss_of(Standardised(), student, teacher), (student, teacher), allow_unused=True
    )
    assert found[1] is None
    # The value does not see shift or scale, so the gradient has no part along them.
    assert found[0].sum(1).abs().max() < 1e-9
    assert (found[0] * student).sum(1).abs().max() < 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4, -3e7])
def test_a_row_of_constant_logits_stays_finite_with_an_ordinary_gradient(value):
    student = torch.full((2, 7), value).requires_grad_()
    assert torch.equal(standardised(student), torch.zeros(2, 7))
    loss = loss_of(Standardised(), student, drawn(2, 7).float())
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert 0 < gradient.abs().max() < 1


def test_edges():
    assert standardised(torch.zeros(0, 3)).shape == (0, 3)
    assert standardised(torch.tensor([[5.0]])).tolist() == [[0.0]]
    half = math.sqrt(0.5)
    torch.testing.assert_close(
        standardised(torch.tensor([[3.0, -1.0]])), torch.tensor([[half, -half]])
    )
    student = torch.zeros(0, 3).requires_grad_()
    loss = loss_of(Standardised(), student, torch.zeros(0, 3))
    assert loss.item() == 0.0
    loss.backward()


def test_logits_of_1e4_are_finite():
    student, teacher = drawn(8, 4, scale=1e4).float(), drawn(8, 4, seed=1, scale=1e4).float()
    loss = loss_of(Standardised(), student.requires_grad_(), teacher)
    small = loss_of(Standardised(), student.detach() / 1e4, teacher / 1e4)
    assert loss.item() == pytest.approx(small.item(), rel=1e-4)
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_bfloat16_is_widened():
    student, teacher = (z.bfloat16() for z in logits())
    assert standardised(student).dtype == torch.float32
    exact = loss_of(Standardised(), student.double(), teacher.double())
    assert loss_of(Standardised(), student, teacher).item() == pytest.approx(exact.item(), rel=1e-5)


def test_another_loss_inside_sees_standardised_logits_and_the_batch():
    student, teacher = logits()
    targets = torch.where(LABELS == 3, -1, LABELS)
    rows = [torch.tensor([scaled_row(row) for row in z.tolist()]).double() for z in logits()]
    inside = DKD(temperature=2.0)
    outside = Standardised(inside)
    expected = dkd_loss(*rows, targets, temperature=2.0)
    assert loss_of(outside, student, teacher, targets).item() == pytest.approx(
        expected.item(), rel=1e-6
    )
    assert outside.mean_over_samples is False
    assert outside.published_weights == (1.0, 1.0)
    assert outside.tasks == frozenset({"classification"})


def test_it_says_what_the_loss_inside_says():
    assert Standardised().published_weights == (0.1, 9.0)
    assert Standardised.tasks == frozenset({"classification"})
    assert Standardised().mean_over_samples is True
    assert isinstance(Standardised().loss, KD)
    assert Standardised().layers == {"student": (), "teacher": ()}
    both = WeightedSum({"match": (1.0, Match()), "itrd": (1.0, ITRD(layer="neck"))})
    outside = Standardised(both)
    assert outside.layers == {"student": ("neck",), "teacher": ("neck",)}
    assert outside.tasks is None
    features = {"neck": drawn(6, 3).float()}
    said = [Outputs(z.float(), features) for z in logits()]
    outside.prepare(*said, batch_of(6))
    assert len(list(outside.parameters())) == 2
    assert outside(*said, batch_of(6)).isfinite()


class Alternating(nn.Module):
    needs_logits = True

    def auxiliary_loss(self):
        return None


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ArgumentError, match=r"Standardised: expected a loss on logits; got ITRD"):
        Standardised(ITRD())
    with pytest.raises(ArgumentError, match=r"Standardised: .*got Alternating, .*auxiliary loss"):
        Standardised(Alternating())
    with pytest.raises(ArgumentError, match=r"only without a loss; got 3.0 beside KD"):
        Standardised(KD(), temperature=3.0)
    with pytest.raises(ArgumentError, match="expected `temperature` > 0"):
        Standardised(temperature=0.0)
    with pytest.raises(ArgumentError, match=r"Standardised: .*none from student"):
        Standardised()(Outputs(None), Outputs(teacher), batch_of(6))
    with pytest.raises(ShapeError, match=r"kd_loss: .*teacher_logits \(6, 4\)"):
        loss_of(Standardised(), student, teacher[:, :4])
