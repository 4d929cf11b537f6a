"""Random sampling KD: counts against loops, repeated draws and the two limits."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.logits import drawn, softmax

import limbeck as lb
from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import SampledCounts
from limbeck.losses.sampled_counts import merged
from limbeck.types import Answers, Batch, Outputs


LABELS = torch.tensor([[3, 0, -1], [1, 2, 4], [-1, -1, -1]])
COUNTS = torch.tensor([[2, 5, 9], [1, 0, 3], [4, 4, 4]])


def test_plain_loops():
    logits, importance = drawn(3, 5), drawn(3, 3, seed=3).abs().masked_fill(LABELS < 0, math.nan)
    reported = -drawn(3, 3, seed=5).abs()
    plain = weighed = ratios = 0.0
    for i in range(2):
        p = softmax(logits[i].tolist())
        kept = [
            (a, c) for a, c in zip(LABELS[i].tolist(), COUNTS[i].tolist(), strict=True) if a >= 0
        ]
        draws = sum(c for _, c in kept)
        rest = 1.0
        for j, (a, c) in enumerate(kept):
            share = c / draws
            scaled = share * importance[i, j].item()
            plain += share * math.log(share / p[a]) if share else 0.0
            weighed += scaled * math.log(scaled / p[a]) if share else 0.0
            rest -= scaled
            r = p[a] / math.exp(reported[i, j].item())
            ratios += share * (0.3 * r - math.log(p[a]))
        weighed += rest
    value = lb.sampled_counts_loss(logits, LABELS, COUNTS)
    assert value.item() == pytest.approx(plain / 2, rel=1e-12)
    value = lb.sampled_counts_loss(logits, LABELS, COUNTS, importance=importance)
    assert value.item() == pytest.approx(weighed / 2, rel=1e-12)
    value = lb.sampled_counts_loss(logits, LABELS, COUNTS, log_probabilities=reported, weight=0.3)
    assert value.item() == pytest.approx(ratios / 2, rel=1e-12)


def test_zero_at_the_shares_and_positive_elsewhere():
    shares = torch.tensor([[0.75, 0.25]], dtype=torch.float64)
    labels, counts = torch.tensor([[0, 1]]), torch.tensor([[3, 1]])
    assert lb.sampled_counts_loss(shares.log(), labels, counts).item() == pytest.approx(
        0, abs=1e-15
    )
    assert lb.sampled_counts_loss(drawn(1, 2), labels, counts).item() > 0
    # Unscaled weights that do not sum to 1: still at least zero, by the generalised divergence.
    for factor in (0.2, 5.0):
        value = lb.sampled_counts_loss(
            shares.log(), labels, counts, importance=torch.full((1, 2), factor)
        )
        assert value.item() > 0


def test_repeated_draws_are_counts():
    logits, draws = drawn(6, 4).requires_grad_(), torch.tensor([[0, 1, 0, 3, 0]]).expand(6, 5)
    found = merged(Answers(draws, counts=torch.ones_like(draws)))
    labels, counts = found.labels, found.counts
    assert labels[0].tolist() == [0, 1, 3, -1, -1]
    assert counts[0].tolist() == [3, 1, 1, 0, 0]
    reported = drawn(4, seed=3).log_softmax(0)
    by_counts = lb.sampled_counts_loss(
        logits, labels, counts, log_probabilities=reported[labels.clamp_min(0)], weight=0.6
    )
    by_draws = lb.control_variate_loss(logits, draws, reported[draws], weight=0.6)
    assert by_counts.item() == pytest.approx(by_draws.item(), rel=1e-12)
    # Without probabilities the gradient is that of cross-entropy on every draw.
    found = torch.autograd.grad(lb.sampled_counts_loss(logits, labels, counts), logits)[0]
    rows, repeated = logits.repeat_interleave(5, 0), draws.flatten()
    expected = torch.autograd.grad(lb.cross_entropy(rows, repeated), logits)[0]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


def test_gradient_and_extremes():
    logits = drawn(3, 5).requires_grad_()
    reported = -drawn(3, 3, seed=5).abs()
    assert torch.autograd.gradcheck(
        lambda z: lb.sampled_counts_loss(
            z, LABELS, COUNTS, log_probabilities=reported, weight=0.3, clip=2.0
        ),
        logits,
    )
    assert torch.autograd.gradcheck(lambda z: lb.sampled_counts_loss(z, LABELS, COUNTS), logits)
    far = torch.tensor([[1e4, 0.0, -1e4]]).requires_grad_()
    value = lb.sampled_counts_loss(far, torch.tensor([[2, 1]]), torch.tensor([[1, 1]]))
    assert value.item() == pytest.approx(1.5e4, rel=1e-3)
    assert torch.autograd.grad(value, far)[0].isfinite().all()
    empty = lb.sampled_counts_loss(logits[:0], LABELS[:0], COUNTS[:0])
    assert empty.item() == 0.0


def test_module_draws_from_the_proposal():
    student, teacher = drawn(6, 5).requires_grad_(), drawn(6, 5, seed=1)
    batch = Batch(student, None, torch.arange(6), torch.arange(6))
    log_t = teacher.log_softmax(1)
    for weight, proposal in ((None, 1.0), (0.5, 1.0), (None, 0.8), (0.5, 0.8)):
        loss = SampledCounts(draws=7, weight=weight, proposal=proposal, seed=2)
        value = loss(Outputs(student), Outputs(teacher), batch)
        draws, _ = loss.drawn(teacher, batch)
        q = teacher.softmax(1) ** proposal
        q = q / q.sum(1, keepdim=True)
        # Every draw for itself, of which the mean is taken.
        total = 0.0
        for i, row in enumerate(draws.tolist()):
            p = softmax(student[i].tolist())
            weights: dict[int, float] = {}
            for a in row:
                share = math.exp(log_t[i, a].item()) / q[i, a].item() / 7
                weights[a] = weights.get(a, 0.0) + share
            for a, w in weights.items():
                if weight is None:
                    total += w * math.log(w / p[a]) - w
                else:
                    r = p[a] / math.exp(log_t[i, a].item())
                    total += w * (weight * r - math.log(p[a]))
            total += 1.0 if weight is None else 0.0
        assert value.item() == pytest.approx(total / 6, rel=1e-10), (weight, proposal)


def test_messages(without_shape_hook):
    logits, reported = drawn(3, 5), -torch.ones(3, 3)
    with pytest.raises(ArgumentError, match="got `weight` without `log_probabilities`"):
        lb.sampled_counts_loss(logits, LABELS, COUNTS, weight=0.5)
    with pytest.raises(ArgumentError, match="got `log_probabilities` without `weight`"):
        lb.sampled_counts_loss(logits, LABELS, COUNTS, log_probabilities=reported)
    with pytest.raises(ArgumentError, match="expected `weight` in"):
        lb.sampled_counts_loss(logits, LABELS, COUNTS, log_probabilities=reported, weight=2.0)
    with pytest.raises(ArgumentError, match="SampledCounts: expected `weight` in"):
        SampledCounts(weight=2.0)
    with pytest.raises(ArgumentError, match="SampledCounts: expected `clip` in"):
        SampledCounts(clip=0.1)
    with pytest.raises(ShapeError, match=r"sampled_counts_loss: .*weights \(3, 2\)"):
        lb.sampled_counts_loss(logits, LABELS, COUNTS[:, :2])
    with pytest.raises(ShapeError, match=r"weights \(2, 3\)"):
        lb.sampled_counts_loss(logits, LABELS, COUNTS, importance=torch.ones(2, 3))
