"""Every loss of the reference's table 9.3 to its digits: value, gradient, expectations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.position import FULL, SCORES, TABLE, TEACHER, reported, student
from torch import Tensor

import limbeck as lb


LABEL = torch.tensor([1])
TOP = torch.tensor([[0, 1]])
COUNTED, COUNTS = torch.tensor([[0, 1, 2]]), torch.tensor([[3, 1, 1]])
DIGITS = 6e-11  # the table has ten digits after the point


def top(tail: str) -> Callable[[Tensor], Tensor]:
    return lambda x: lb.top_k_loss(x, TOP, reported(TOP), tail=tail)


def counts(weight: float) -> Callable[[Tensor], Tensor]:
    return lambda x: lb.sampled_counts_loss(
        x, COUNTED, COUNTS, log_probabilities=reported(COUNTED), weight=weight
    )


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda x: lb.cross_entropy(x, LABEL),
    "naive": lambda x: lb.naive_probability_loss(x, LABEL, reported(LABEL)),
    "sel": lambda x: lb.sel_loss(x, LABEL, reported(LABEL)),
    "k3": lambda x: lb.k3_loss(x, LABEL, reported(LABEL)),
    "control_variate": lambda x: lb.control_variate_loss(x, LABEL, reported(LABEL), weight=0.5),
    "full_kl": lambda x: lb.full_kl_loss(x, TEACHER.log()[None]),
    "reverse_kl": lambda x: lb.jsd_loss(x, TEACHER.log()[None], beta=1.0),
    "raw": top("raw"),
    "renormalised": top("renormalised"),
    "bucket": top("bucket"),
    "skew_kl": lambda x: lb.skew_kl_loss(x, TEACHER.log()[None], alpha=0.1),
    "jsd_half": lambda x: lb.jsd_loss(x, TEACHER.log()[None], beta=0.5),
    "jsd_tenth": lambda x: lb.jsd_loss(x, TEACHER.log()[None], beta=0.1),
    "counts": lambda x: lb.sampled_counts_loss(x, COUNTED, COUNTS),
    "counts_one": counts(1.0),
    "counts_half": counts(0.5),
    "censored_outside": lambda x: lb.censored_loss(x, TOP, reported(TOP), torch.tensor([3])),
    "censored_inside": lambda x: lb.censored_loss(x, TOP, reported(TOP), torch.tensor([1])),
}


def test_the_whole_table_is_here():
    assert set(LOSSES) == set(TABLE)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient(name):
    x = student()
    value = LOSSES[name](x)
    (gradient,) = torch.autograd.grad(value, x)
    expected_value, expected = TABLE[name]
    assert value.item() == pytest.approx(expected_value, abs=DIGITS)
    assert gradient[0].tolist() == pytest.approx(expected, abs=DIGITS)


ONE_LABEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda x, a: lb.cross_entropy(x, a),
    "naive": lambda x, a: lb.naive_probability_loss(x, a, reported(a)),
    "sel": lambda x, a: lb.sel_loss(x, a, reported(a)),
    "k3": lambda x, a: lb.k3_loss(x, a, reported(a)),
    "weight 0.3": lambda x, a: lb.control_variate_loss(x, a, reported(a), weight=0.3),
    "best weight": lambda x, a: lb.control_variate_loss(x, a, reported(a), weight=0.4728980252),
    "censored": lambda x, a: lb.censored_loss(x, TOP.expand(5, 2), reported(TOP.expand(5, 2)), a),
}


def gradients(name: str) -> Tensor:
    """Return the gradient that each of the five labels gives."""
    rows = SCORES.expand(5, 5).clone().requires_grad_()
    return torch.autograd.grad(5 * ONE_LABEL[name](rows, torch.arange(5)), rows)[0]


EXPECTED = dict.fromkeys(ONE_LABEL, FULL) | {
    "sel": [-0.0956023351, 0.0052276091, 0.0296333593, -0.0071470868, 0.0678884536],
    "naive": [-0.1220186110, 0.0151246363, 0.0314567219, 0.0185565078, 0.0568807450],
}


@pytest.mark.parametrize("name", ONE_LABEL)
def test_expected_gradient(name):
    assert (TEACHER @ gradients(name)).tolist() == pytest.approx(EXPECTED[name], abs=DIGITS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cross_entropy", 0.66125),
        ("k3", 0.7471596602),
        ("best weight", 0.3068072722),
        ("sel", 0.1019276425),
        ("censored", 0.1761266321),
    ],
)
def test_squared_deviation_of_one_gradient(name, expected):
    full = torch.softmax(SCORES, 0) - TEACHER
    squares = (gradients(name) - full).square().sum(1)
    assert (TEACHER @ squares).item() == pytest.approx(expected, abs=DIGITS)


def test_best_weight():
    """The averages of one step over all labels, weighed by how likely they are, are the means."""
    adaptive = lb.AdaptiveControlVariate().double()
    labels = torch.arange(5)
    rows = SCORES.expand(5, 5).clone().requires_grad_()
    adaptive(rows, labels, reported(labels), TEACHER)
    assert adaptive.weight.item() == pytest.approx(0.4728980252, abs=DIGITS)


def test_minimiser_of_the_naive_loss():
    expected = [0.7380073801, 0.1845018450, 0.0461254613, 0.0295202952, 0.0018450185]
    x = torch.tensor(expected, dtype=torch.float64).log().expand(5, 5).clone().requires_grad_()
    labels = torch.arange(5)
    value = lb.naive_probability_loss(x, labels, reported(labels), weights=TEACHER)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.sum(0).tolist() == pytest.approx([0.0] * 5, abs=1e-9)


def test_expected_k3_is_the_divergence():
    labels = torch.arange(5)
    value = lb.k3_loss(SCORES.expand(5, 5), labels, reported(labels), weights=TEACHER)
    assert value.item() == pytest.approx(0.1178196482, abs=DIGITS)


def test_proposal():
    """Draws from q proportional to t^0.8, weighed by t / q, are unbiased as they are."""
    q = TEACHER**0.8 / (TEACHER**0.8).sum()
    said = [0.4402958211, 0.2528835427, 0.1452434548, 0.1214978408, 0.0400793405]
    assert q.tolist() == pytest.approx(said, abs=DIGITS)
    labels = torch.arange(5)[:, None]
    rows = SCORES.expand(5, 5).clone().requires_grad_()
    ratio = (TEACHER / q)[:, None]
    for options in ({}, {"log_probabilities": reported(labels), "weight": 0.7}):
        value = lb.sampled_counts_loss(rows, labels, torch.ones(5, 1), importance=ratio, **options)
        (found,) = torch.autograd.grad(5 * value, rows)
        assert (q @ found).tolist() == pytest.approx(FULL, abs=DIGITS)
