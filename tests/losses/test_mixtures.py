"""Skew KL and the generalised Jensen-Shannon divergence against loops and their limits."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, pairs, softmax
from scipy.spatial.distance import jensenshannon

import limbeck as lb
from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import JSD, SkewKL
from limbeck.types import Outputs


def mixed(a: list[float], b: list[float], share: float) -> list[float]:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("reverse", [False, True])
def test_skew_kl_by_plain_loops(alpha, reverse):
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    total = 0.0
    for row_s, row_t in pairs(student, teacher):
        first, second = softmax(row_t), softmax(row_s)
        if reverse:
            first, second = second, first
        total += divergence(first, mixed(first, second, alpha)) / 5
    value = lb.skew_kl_loss(student, teacher, alpha=alpha, reverse=reverse)
    assert value.item() == pytest.approx(total, rel=1e-11)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jsd_by_plain_loops(beta):
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    total = 0.0
    for row_s, row_t in pairs(student, teacher):
        p, t = softmax(row_s), softmax(row_t)
        m = mixed(t, p, beta)
        total += (beta * divergence(t, m) + (1 - beta) * divergence(p, m)) / 5
    assert lb.jsd_loss(student, teacher, beta=beta).item() == pytest.approx(total, rel=1e-11)


def test_jsd_is_scipys():
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    distances = jensenshannon(student.softmax(1), teacher.softmax(1), axis=1)
    value = lb.jsd_loss(student, teacher).item()
    assert value == pytest.approx((distances**2).mean(), rel=1e-10)


def test_the_ends_of_jsd():
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    forward = lb.full_kl_loss(student, teacher).item()
    assert lb.jsd_loss(student, teacher, beta=0.0).item() == pytest.approx(forward, rel=1e-12)
    backward = lb.full_kl_loss(teacher, student).item()
    assert lb.jsd_loss(student, teacher, beta=1.0).item() == pytest.approx(backward, rel=1e-12)
    # They are the limits of what lies between, divided by beta and by 1 - beta.
    near = lb.jsd_loss(student, teacher, beta=1e-6).item() / 1e-6
    assert near == pytest.approx(forward, rel=1e-4)
    near = lb.jsd_loss(student, teacher, beta=1 - 1e-6).item() / 1e-6
    assert near == pytest.approx(backward, rel=1e-4)


LOSSES = {
    "skew": lambda s, t: lb.skew_kl_loss(s, t),
    "reverse skew": lambda s, t: lb.skew_kl_loss(s, t, reverse=True),
    "jsd": lambda s, t: lb.jsd_loss(s, t),
    "forward": lambda s, t: lb.jsd_loss(s, t, beta=0.0),
    "backward": lambda s, t: lb.jsd_loss(s, t, beta=1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_extremes_and_zero(name):
    loss, student = LOSSES[name], drawn(3, 4).requires_grad_()
    teacher = drawn(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher.detach()), student)
    assert torch.autograd.grad(loss(student, teacher), teacher, allow_unused=True) == (None,)
    assert loss(teacher + 2, teacher).item() == pytest.approx(0.0, abs=1e-14)
    far = torch.tensor([[1e4, 0.0]], requires_grad=True)
    value = loss(far, torch.tensor([[0.0, 1e4]]))
    assert value.isfinite()
    assert torch.autograd.grad(value, far)[0].isfinite().all()
    assert loss(far[:0], far[:0]).item() == 0.0


def test_bounds():
    far, other = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    assert lb.skew_kl_loss(far, other, alpha=0.1).item() == pytest.approx(-math.log(0.1), rel=1e-6)
    assert lb.jsd_loss(far, other).item() == pytest.approx(math.log(2), rel=1e-6)


def test_modules_and_messages(without_shape_hook):
    student, teacher = drawn(3, 4), drawn(3, 4, seed=1)
    args = Outputs(student), Outputs(teacher), batch_of(3)
    value = SkewKL(alpha=0.3, reverse=True)(*args)
    assert value.item() == lb.skew_kl_loss(student, teacher, alpha=0.3, reverse=True).item()
    assert JSD(beta=0.2)(*args).item() == lb.jsd_loss(student, teacher, beta=0.2).item()
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ArgumentError, match=r"skew_kl_loss: expected `alpha` in \[0, 1\)"):
            lb.skew_kl_loss(student, teacher, alpha=wrong)
        with pytest.raises(ArgumentError, match="SkewKL: expected `alpha`"):
            SkewKL(alpha=wrong)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ArgumentError, match="jsd_loss: expected `beta`"):
            lb.jsd_loss(student, teacher, beta=wrong)
        with pytest.raises(ArgumentError, match="JSD: expected `beta`"):
            JSD(beta=wrong)
    for loss in (lb.jsd_loss, lb.skew_kl_loss):
        with pytest.raises(ShapeError, match=r"teacher_logits \(3, 3\)"):
            loss(student, teacher[:, :3])
