"""Which losses on sampled labels have the gradient of the full divergence, and with what noise."""

from __future__ import annotations

import functools

import pytest
import torch
from helpers.position import random_position
from torch import Tensor

import limbeck as lb
from limbeck.losses.sampled_counts import merged
from limbeck.types import Answers


CLASSES = 50
TOP = 5


def enumerated(name: str, x: Tensor, t: Tensor, **options: float) -> Tensor:
    """Return the mean gradient over all labels, each as often as the teacher draws it."""
    rows = x.expand(len(t), len(t)).clone().requires_grad_()
    labels = torch.arange(len(t))
    reported = t.log()
    if name == "cross_entropy":
        value = lb.cross_entropy(rows, labels, weights=t)
    elif name == "counts":
        # One draw a row; rows weigh as they are likely.
        single = [
            lb.sampled_counts_loss(rows[a : a + 1], labels[a : a + 1, None], torch.ones(1, 1))
            for a in range(len(t))
        ]
        value = (t * torch.stack(single)).sum()
    elif name == "censored":
        top = t.topk(TOP).indices[None]
        single = [
            lb.censored_loss(rows[a : a + 1], top, reported[top], labels[a : a + 1])
            for a in range(len(t))
        ]
        value = (t * torch.stack(single)).sum()
    else:
        loss = getattr(lb, f"{name}_loss")
        value = loss(rows, labels, reported, weights=t, **options)
    return torch.autograd.grad(value, rows)[0].sum(0)


def full(x: Tensor, t: Tensor) -> Tensor:
    row = x[None].clone().requires_grad_()
    return torch.autograd.grad(lb.full_kl_loss(row, t.log()[None]), row)[0][0]


UNBIASED = [
    ("cross_entropy", {}),
    ("counts", {}),
    ("k3", {}),
    ("control_variate", {"weight": 0.0}),
    ("control_variate", {"weight": 0.6}),
    ("control_variate", {"weight": 1.0}),
    ("censored", {}),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "options"), UNBIASED)
def test_unbiased(name, options, seed):
    x, t = random_position(CLASSES, seed)
    torch.testing.assert_close(
        enumerated(name, x, t, **options), full(x, t), rtol=1e-11, atol=1e-13
    )


def test_full_gradient_is_the_difference_of_the_distributions():
    x, t = random_position(CLASSES, 0)
    torch.testing.assert_close(full(x, t), x.softmax(0) - t, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_biased(seed):
    """SEL, the naive loss and truncated top-K have other means: those of section 5.3."""
    x, t = random_position(CLASSES, seed)
    p, exact = x.softmax(0), full(x, t)
    log_r = p.log() - t.log()
    sel = t * log_r + p * (t * -log_r).sum()
    torch.testing.assert_close(enumerated("sel", x, t), sel, rtol=1e-10, atol=1e-13)
    naive = t.square().sum() * p - t.square()
    found = enumerated("naive_probability", x, t)
    torch.testing.assert_close(found, naive, rtol=1e-10, atol=1e-13)
    top = t.topk(TOP).indices
    mass, kept = t[top].sum(), torch.zeros_like(t).index_fill(0, top, 1.0)
    biased = {
        "raw": mass * p - t * kept,
        "renormalised": p - t * kept / mass,
        "bucket": torch.where(kept == 1, p - t, p * (mass - p[top].sum()) / (1 - p[top].sum())),
    }
    for tail, expected in biased.items():
        row = x[None].clone().requires_grad_()
        value = lb.top_k_loss(row, top[None], t.log()[top][None], tail=tail)
        (gradient,) = torch.autograd.grad(value, row)
        torch.testing.assert_close(gradient[0], expected, rtol=1e-10, atol=1e-13)
        assert (expected - exact).norm() > 0.05 * exact.norm()
    for expected in (sel, naive):
        assert (expected - exact).norm() > 0.05 * exact.norm()


# Section 4 H: V = 2,000, t proportional to k^-1.3, student t exp(far g), N = 50 draws.
VOCABULARY, DRAWS, REPEATS = 2000, 50, 1200
FAR = (1.0, 0.3, 0.1, 0.0)


def zipf_position(far: float) -> tuple[Tensor, Tensor]:
    t = torch.arange(1, VOCABULARY + 1, dtype=torch.float64) ** -1.3
    t = t / t.sum()
    source = torch.Generator().manual_seed(20231007)
    return t.log() + far * torch.randn(VOCABULARY, generator=source, dtype=torch.float64), t


def best_weight(x: Tensor, t: Tensor) -> float:
    p = x.softmax(0)
    s = 1 - 2 * p + p.square().sum()
    return min(float((p * s).sum() / (p.square() / t * s).sum()), 1.0)  # rounding, at p = t


@functools.cache
def gradients(far: float) -> dict[str, Tensor]:
    """Return the logit gradients of every repeat, for each estimator, less the full gradient."""
    x, t = zipf_position(far)
    source = torch.Generator().manual_seed(1)
    drawn = torch.multinomial(t, REPEATS * DRAWS, True, generator=source).view(REPEATS, DRAWS)
    found = merged(Answers(drawn, counts=torch.ones_like(drawn)))
    labels, counts = found.labels, found.counts.double()
    reported = t.log()[labels.clamp_min(0)]
    rows = x.expand(REPEATS, -1).clone().requires_grad_()

    def less_full(value: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(REPEATS * value, rows)
        return found - (x.softmax(0) - t)

    def by_counts(weight: float) -> Tensor:
        return less_full(
            lb.sampled_counts_loss(rows, labels, counts, log_probabilities=reported, weight=weight)
        )

    return {
        "counts": less_full(lb.sampled_counts_loss(rows, labels, counts)),
        "k3": by_counts(1.0),
        "control_variate": by_counts(best_weight(x, t)),
        "sel": less_full(lb.sel_loss(rows, labels, reported, weights=counts.double())),
        "naive": less_full(
            lb.naive_probability_loss(rows, labels, reported, weights=counts.double())
        ),
    }


def sigmas(errors: Tensor) -> float:
    """Return the projection of the bias on its own direction in standard errors.

    The direction comes from the first half of the repeats, so that chance does not choose it.
    """
    first, second = errors.chunk(2)
    along = second @ (first.mean(0) / first.mean(0).norm())
    return float(along.mean() / (along.std() / len(along) ** 0.5))


def rmse(errors: Tensor) -> float:
    return errors.square().sum(1).mean().sqrt().item()


@pytest.mark.parametrize("far", FAR[:3])
def test_bias_against_monte_carlo_errors(far):
    found = gradients(far)
    for name in ("counts", "k3", "control_variate"):
        assert abs(sigmas(found[name])) < 3, name
    assert sigmas(found["naive"]) > 10
    assert sigmas(found["sel"]) > (10 if far == 1.0 else 3)  # its bias dies out near the teacher


@pytest.mark.parametrize("far", FAR)
def test_noise_is_that_of_the_formulas(far):
    """The variance of a mean of N draws is that of one draw, enumerated, over N."""
    x, t = zipf_position(far)
    p = x.softmax(0)
    s, r = 1 - 2 * p + p.square().sum(), p / t
    exact = (p - t).square().sum()
    for name, weight in (("counts", 0.0), ("k3", 1.0), ("control_variate", best_weight(x, t))):
        one = (t * (weight * r - 1).square() * s).sum() - exact
        # The mean of 1,200 squares, the tail of r included: to 10 % (k3 far away: heavy tail).
        near = 0.35 if name == "k3" and far == 1.0 else 0.1
        expected = (one / DRAWS).clamp_min(0).sqrt().item()
        assert rmse(gradients(far)[name]) == pytest.approx(expected, rel=near, abs=1e-9), name


def test_counts_keep_a_floor_and_ratios_do_not():
    assert rmse(gradients(0.0)["counts"]) == pytest.approx(
        0.1341, abs=0.004
    )  # sqrt((1 - |t|^2) / N)
    for name in ("k3", "control_variate", "sel"):
        assert gradients(0.0)[name].abs().max() < 1e-12, name
    for far in FAR:
        assert rmse(gradients(far)["control_variate"]) <= rmse(gradients(far)["counts"]) * 1.02


def test_the_students_of_the_table_and_truncation():
    """Head mass and the renormalised bias do not depend on the student; the bucket's is small."""
    _, t = zipf_position(0.0)
    top = t.topk(12).indices
    assert t[top].sum().item() == pytest.approx(0.660, abs=5e-4)
    kept = torch.zeros_like(t).index_fill(0, top, 1.0)
    for far in FAR:
        x, _ = zipf_position(far)
        row = x[None].clone().requires_grad_()
        errors = {}
        for tail in ("raw", "renormalised", "bucket"):
            value = lb.top_k_loss(row, top[None], t.log()[top][None], tail=tail)
            errors[tail] = torch.autograd.grad(value, row)[0][0] - (x.softmax(0) - t)
        assert errors["renormalised"].norm().item() == pytest.approx(0.166, abs=5e-4)
        assert errors["bucket"].norm() < 0.06
        assert errors["bucket"].norm() < 0.5 * errors["raw"].norm()
    # At p = t, far = 0: (t_K - 1) t on K and t_K t off it; 0.10947, which the table has as 0.110.
    mass = t[top].sum()
    expected = torch.where(kept == 1, (mass - 1) * t, mass * t).norm().item()
    assert errors["raw"].norm().item() == pytest.approx(expected, rel=1e-10)
    assert expected == pytest.approx(0.1095, abs=1e-4)


@pytest.mark.parametrize("far", FAR)
def test_the_adaptive_weight_finds_the_best_one_and_is_never_worse_than_counts(far):
    x, t = zipf_position(far)
    adaptive = lb.AdaptiveControlVariate().double()
    source = torch.Generator().manual_seed(2)
    row, square, plain = x[None].clone().requires_grad_(), [], []
    full_gradient = x.softmax(0) - t
    for step in range(400):
        drawn = torch.multinomial(t, DRAWS, True, generator=source)[None]
        value = adaptive(row, drawn, t.log()[drawn])
        assert 0.0 <= adaptive.weight <= 1.0
        if step >= 100:
            (found,) = torch.autograd.grad(value, row)
            square.append((found[0] - full_gradient).square().sum())
            shares = torch.bincount(drawn[0], minlength=len(t)) / DRAWS
            plain.append((t - shares).square().sum())  # p - shares, less p - t
    assert adaptive.weight.item() == pytest.approx(best_weight(x, t), abs=0.25)
    assert sum(square) <= 1.05 * sum(plain)
    if far <= 0.3:
        assert sum(square) < 0.15 * sum(plain)
