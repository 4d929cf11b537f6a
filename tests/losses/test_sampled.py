"""What holds for every loss on sampled labels: loops, absent labels, weights, extremes, errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers.logits import drawn, softmax
from hypothesis import given, settings, strategies as st

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.losses import K3, SEL, ControlVariate, NaiveProbability, SampledLabels
from limbeck.losses.sampled import bounded_excess
from limbeck.types import Batch, Outputs


FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "sel_loss": lb.sel_loss,
    "k3_loss": lb.k3_loss,
    "control_variate_loss": lambda *args, **options: lb.control_variate_loss(
        *args, weight=0.4, **options
    ),
    "naive_probability_loss": lb.naive_probability_loss,
}
TERMS: dict[str, Callable[[float, float], float]] = {
    "sel_loss": lambda p, t: 0.5 * math.log(p / t) ** 2,
    "k3_loss": lambda p, t: p / t - 1 - math.log(p / t),
    "control_variate_loss": lambda p, t: 0.4 * p / t - math.log(p),
    "naive_probability_loss": lambda p, t: -t * math.log(p),
}
every = pytest.mark.parametrize("name", FUNCTIONS)

LABELS = torch.tensor([[0, 3, 3], [2, -1, 1], [-1, -1, -1]])


def numbers() -> torch.Tensor:
    """Return log-probabilities of LABELS, NaN where there is no label."""
    found = -drawn(3, 3, seed=4).abs() - 0.1
    return found.masked_fill(LABELS < 0, math.nan)


@every
def test_plain_loops_with_absent_labels_and_weights(name):
    logits, reported = drawn(3, 4).requires_grad_(), numbers()
    weights = drawn(3, 3, seed=7).abs().masked_fill(LABELS < 0, math.nan)
    for given_weights in (None, weights):
        above = below = 0.0
        for i, row in enumerate(logits.tolist()):
            for j, label in enumerate(LABELS[i].tolist()):
                if label >= 0:
                    weight = 1.0 if given_weights is None else given_weights[i, j].item()
                    t = math.exp(reported[i, j].item())
                    above += weight * TERMS[name](softmax(row)[label], t)
                    below += weight
        value = FUNCTIONS[name](logits, LABELS, reported, weights=given_weights)
        assert value.item() == pytest.approx(above / below, rel=1e-12)
        (gradient,) = torch.autograd.grad(value, logits)
        assert gradient.isfinite().all()
        assert (gradient[2] == 0).all()  # a row without any label
        assert (gradient[:2] != 0).all()


@every
def test_one_label_a_row_is_one_column(name):
    logits, labels = drawn(5, 4), torch.tensor([0, 1, -1, 3, 2])
    reported = -drawn(5, seed=2).abs()
    narrow = FUNCTIONS[name](logits, labels, reported)
    wide = FUNCTIONS[name](logits, labels[:, None], reported[:, None])
    assert narrow.item() == pytest.approx(wide.item(), rel=1e-14)


@every
def test_counts_as_weights_are_repeated_draws(name):
    logits, labels = drawn(1, 4), torch.tensor([[0, 2, 2, 2]])
    reported = torch.tensor([[-1.0, -0.5, -0.5, -0.5]], dtype=torch.float64)
    counted = FUNCTIONS[name](
        logits, labels[:, :2], reported[:, :2], weights=torch.tensor([[1.0, 3.0]])
    )
    repeated = FUNCTIONS[name](logits, labels, reported)
    assert counted.item() == pytest.approx(repeated.item(), rel=1e-12)


@every
def test_the_reported_numbers_take_no_gradient(name):
    logits, reported = drawn(3, 4).requires_grad_(), (-drawn(3).abs()).requires_grad_()
    value = FUNCTIONS[name](logits, torch.tensor([0, 1, 2]), reported)
    found = torch.autograd.grad(value, (logits, reported), allow_unused=True)
    assert found[1] is None
    fixed = reported.detach()
    assert torch.autograd.gradcheck(
        lambda z: FUNCTIONS[name](z, torch.tensor([0, 1, 2]), fixed), logits
    )


@every
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_extremes_are_finite(name, kind):
    """The student is sure of the label that was reported as next to impossible, and the reverse."""
    logits = torch.tensor([[1e4, 0.0], [1e4, 0.0]], dtype=kind).requires_grad_()
    value = FUNCTIONS[name](logits, torch.tensor([0, 1]), torch.tensor([-1e4, -1e-3]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert value.dtype == torch.float32
    assert gradient.isfinite().all()


@every
def test_nothing_to_learn_from(name):
    for rows in (0, 2):
        logits = torch.zeros(rows, 3).requires_grad_()
        value = FUNCTIONS[name](logits, torch.full((rows,), -1), torch.zeros(rows))
        assert value.item() == 0.0
        value.backward()
        assert logits.grad is not None
        assert (logits.grad == 0).all()


@every
def test_messages(name, without_shape_hook):
    loss, logits = FUNCTIONS[name], drawn(3, 4)
    label, number = torch.tensor([0, 1, 2]), -torch.ones(3)
    with pytest.raises(ShapeError, match=rf"{name}: .*labels \(2,\), log_probabilities \(2,\)"):
        loss(logits, label[:2], number[:2])
    with pytest.raises(ShapeError, match=r"log_probabilities \(3, 1\)"):
        loss(logits, label, number[:, None])
    with pytest.raises(ShapeError, match=r"weights \(2,\)"):
        loss(logits, label, number, weights=torch.ones(2))
    with pytest.raises(DataError, match=rf"{name}: expected labels below 4.*got 4"):
        loss(logits, label + 2, number)
    for wrong in (0.5, math.nan, -math.inf):
        with pytest.raises(DataError, match=rf"{name}: .*finite and at most 0; got {wrong}"):
            loss(logits, label, torch.tensor([-1.0, wrong, -1.0]))


def test_options_are_checked():
    logits, label, number = drawn(1, 3), torch.tensor([0]), -torch.ones(1)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ArgumentError, match="sel_loss: expected `huber` > 0"):
            lb.sel_loss(logits, label, number, huber=wrong)
        with pytest.raises(ArgumentError, match="SEL: expected `huber` > 0"):
            SEL(huber=wrong)
    for wrong in (0.5, math.nan):
        with pytest.raises(ArgumentError, match="k3_loss: expected `clip` in"):
            lb.k3_loss(logits, label, number, clip=wrong)
        with pytest.raises(ArgumentError, match="control_variate_loss: expected `clip` in"):
            lb.control_variate_loss(logits, label, number, weight=0.0, clip=wrong)
        for module in (K3, ControlVariate):
            with pytest.raises(ArgumentError, match="expected `clip` in"):
                module(clip=wrong)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ArgumentError, match="control_variate_loss: expected `weight` in"):
            lb.control_variate_loss(logits, label, number, weight=wrong)
        with pytest.raises(ArgumentError, match="ControlVariate: expected `weight` in"):
            ControlVariate(weight=wrong)
    for wrong in (-0.1, 1.0):
        with pytest.raises(ArgumentError, match="expected `decay` in"):
            ControlVariate(decay=wrong)


def gradient_of(loss: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


@pytest.mark.parametrize("log_r", [-4.0, -0.5, 0.5, 2.0, 4.0])
def test_what_the_bounds_do_to_the_gradient(log_r):
    """Huber bounds log r, clip bounds r: in the gradient, beside the score of the label."""
    logits, label = drawn(1, 4), torch.tensor([1])
    log_p = logits.log_softmax(1)[0, 1]
    number = (log_p - log_r)[None]
    score = torch.nn.functional.one_hot(label, 4) - logits.softmax(1)
    if number.item() > 0:
        number = number - 20.0
        logits = logits.clone()
        logits[0, 1] -= 20.0
        log_p = logits.log_softmax(1)[0, 1]
        number = (log_p - log_r)[None]
        score = torch.nn.functional.one_hot(label, 4) - logits.softmax(1)
    huber = gradient_of(lambda z: lb.sel_loss(z, label, number, huber=1.5), logits)
    torch.testing.assert_close(huber, max(-1.5, min(1.5, log_r)) * score)
    clipped = min(math.exp(log_r), 3.0)
    found = gradient_of(lambda z: lb.k3_loss(z, label, number, clip=3.0), logits)
    torch.testing.assert_close(found, (clipped - 1) * score)
    found = gradient_of(
        lambda z: lb.control_variate_loss(z, label, number, weight=0.7, clip=3.0), logits
    )
    torch.testing.assert_close(found, (0.7 * clipped - 1) * score)


@given(st.floats(-50, 50), st.floats(1.0, 1e6))
@settings(max_examples=100, deadline=None)
def test_bounded_ratio_is_continuous_and_rises(log_r, clip):
    ratio = torch.tensor([log_r, log_r + 1e-7], dtype=torch.float64)
    low, high = bounded_excess(ratio, clip).tolist()
    assert 0 <= high - low <= 1.01e-7 * clip + 1e-12 * abs(high)
    if log_r < math.log(clip):
        assert low == pytest.approx(math.expm1(log_r), rel=1e-12, abs=1e-15)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_zero_at_the_teacher_and_positive_elsewhere(seed):
    logits, other = drawn(4, 6, seed=seed), drawn(4, 6, seed=seed + 1)
    labels = torch.arange(4)
    at_it = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    for loss in (lb.sel_loss, lb.k3_loss):
        assert loss(logits, labels, at_it).item() == pytest.approx(0.0, abs=1e-13)
        assert gradient_of(lambda z, loss=loss: loss(z, labels, at_it), logits).abs().max() < 1e-13
        assert loss(other, labels, at_it).item() > 0
    # No noise for the control variate with weight 1 either.
    exact = gradient_of(lambda z: lb.control_variate_loss(z, labels, at_it, weight=1.0), logits)
    assert exact.abs().max() < 1e-13


MODULES = {
    SampledLabels: lambda z, a, t: lb.cross_entropy(z, a),
    NaiveProbability: lb.naive_probability_loss,
    SEL: lambda z, a, t: lb.sel_loss(z, a, t, huber=5.0),
    K3: lambda z, a, t: lb.k3_loss(z, a, t, clip=math.e**3),
}


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("module", MODULES)
def test_modules_use_nothing_of_the_teacher_but_its_draws(module, draws):
    student, teacher = drawn(6, 5), drawn(6, 5, seed=1)
    batch = Batch(student, None, torch.arange(6) + 40, torch.arange(6))
    loss = module(draws=draws, seed=3)
    value = loss(Outputs(student), Outputs(teacher), batch)
    labels, reported = loss.drawn(teacher, batch)
    assert labels.shape == (6, draws)
    torch.testing.assert_close(reported, teacher.log_softmax(1).gather(1, labels))
    expected = MODULES[module](
        student.repeat_interleave(draws, 0), labels.flatten(), reported.flatten()
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert list(loss.parameters()) == []
    with pytest.raises(ArgumentError, match=rf"{module.__name__}: .*none from teacher"):
        loss(Outputs(student), Outputs(None), batch)
