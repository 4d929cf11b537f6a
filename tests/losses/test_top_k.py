"""Top-k with a bucket for the tail, and the censored loss, against coarse distributions."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.logits import divergence, drawn, softmax
from hypothesis import given, settings, strategies as st

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.losses import Censored, TopK
from limbeck.types import Batch, Outputs


def tops(teacher: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    found = teacher.log_softmax(1).topk(k, dim=1)
    return found.indices, found.values


@pytest.mark.parametrize("k", [1, 3, 5])
def test_bucket_is_the_divergence_of_the_coarse_distributions(k):
    student, teacher = drawn(4, 6), drawn(4, 6, seed=1)
    labels, reported = tops(teacher, k)
    total = 0.0
    for i in range(4):
        p, t, kept = softmax(student[i].tolist()), softmax(teacher[i].tolist()), labels[i].tolist()
        coarse = [
            [row[a] for a in kept] + [sum(row[a] for a in range(6) if a not in kept)]
            for row in (t, p)
        ]
        total += divergence(*coarse) / 4
    assert lb.top_k_loss(student, labels, reported).item() == pytest.approx(total, rel=1e-11)


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_lower_bound_that_grows_with_k_to_the_whole(seed, k):
    student, teacher = drawn(3, 6, seed=seed), drawn(3, 6, seed=seed + 1)
    whole = lb.full_kl_loss(student, teacher).item()
    values = [lb.top_k_loss(student, *tops(teacher, one)).item() for one in (k, min(k + 1, 6))]
    assert -1e-14 <= values[0] <= values[1] + 1e-13
    assert values[1] <= whole + 1e-13
    everything = lb.top_k_loss(student, *tops(teacher, 6)).item()
    assert everything == pytest.approx(whole, rel=1e-9, abs=1e-13)
    assert lb.top_k_loss(teacher + 3.0, *tops(teacher, k)).item() == pytest.approx(0, abs=1e-13)


def test_truncated_optimum_has_nothing_outside():
    """Descent on raw and renormalised top-k ends at t / t_K on K, 1 - t_K away from the teacher."""
    t = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    labels = torch.tensor([[0, 1]])
    limit = torch.tensor([[4 / 7, 3 / 7, 0.0, 0.0]], dtype=torch.float64)
    for tail in ("raw", "renormalised"):
        x = (limit + 1e-9).log().requires_grad_()
        value = lb.top_k_loss(x, labels, t.log()[:, :2], tail=tail)
        assert torch.autograd.grad(value, x)[0].abs().max() < 1e-8
        assert 0.5 * (x.softmax(1) - t).abs().sum().item() == pytest.approx(0.3, abs=1e-8)
        at_teacher = t.log().requires_grad_()
        value = lb.top_k_loss(at_teacher, labels, t.log()[:, :2], tail=tail)
        assert torch.autograd.grad(value, at_teacher)[0].abs().max() > 0.05


@pytest.mark.parametrize("tail", ["bucket", "renormalised", "raw"])
def test_absent_labels_and_rows_without_any(tail):
    student, teacher = drawn(3, 6).requires_grad_(), drawn(3, 6, seed=1)
    labels, reported = tops(teacher, 3)
    labels[0, 2], labels[2] = -1, -1
    reported = reported.masked_fill(labels < 0, math.nan)
    value = lb.top_k_loss(student, labels, reported, tail=tail)
    (gradient,) = torch.autograd.grad(value, student)
    one = lb.top_k_loss(student[:1], labels[:1, :2], reported[:1, :2], tail=tail)
    two = lb.top_k_loss(student[1:2], labels[1:2], reported[1:2], tail=tail)
    assert value.item() == pytest.approx((one + two).item() / 2, rel=1e-12)
    assert gradient.isfinite().all()
    assert (gradient[2] == 0).all()
    nothing = lb.top_k_loss(student, torch.full((3, 3), -1), reported, tail=tail)
    assert nothing.item() == 0.0
    assert lb.top_k_loss(student[:0], labels[:0], reported[:0], tail=tail).item() == 0.0


@pytest.mark.parametrize("tail", ["bucket", "renormalised", "raw"])
@pytest.mark.parametrize("k", [2, 4])
def test_gradient_and_extremes(tail, k):
    student, teacher = drawn(3, 4).requires_grad_(), drawn(3, 4, seed=1)
    labels, reported = tops(teacher, k)
    assert torch.autograd.gradcheck(
        lambda z: lb.top_k_loss(z, labels, reported, tail=tail), student
    )
    far = torch.tensor([[0.0, 1e4, -1e4, 0.0]]).requires_grad_()
    labels, reported = tops(torch.tensor([[1e4, 0.0, -1e4, 0.0]]), k)
    value = lb.top_k_loss(far, labels, reported, tail=tail)
    assert value.isfinite()
    assert torch.autograd.grad(value, far)[0].isfinite().all()


def test_the_students_tail_is_not_one_minus_the_rest():
    """Of a tail of e^-40 float32 has nothing left in 1 - p_K; its logarithm is exact."""
    student = torch.tensor([[0.0, -40.0, -41.0]])
    value = lb.top_k_loss(student, torch.tensor([[0]]), torch.tensor([[0.5]]).log())
    tail = math.exp(-40) + math.exp(-41)
    assert value.item() == pytest.approx(0.5 * math.log(0.5) + 0.5 * math.log(0.5 / tail), rel=1e-6)


def test_masses_above_one_are_rounding():
    labels, reported = torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.401]]).log()
    student = torch.zeros(1, 3).requires_grad_()
    value = lb.top_k_loss(student, labels, reported)
    expected = 0.6 * math.log(1.8) + 0.401 * math.log(1.203)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_censored_by_plain_loops():
    student, teacher = drawn(3, 6).requires_grad_(), drawn(3, 6, seed=1)
    labels, reported = tops(teacher, 2)
    below = [a for a in range(6) if a not in labels[0].tolist()]
    hit = labels[0, 0].item()
    draws = torch.tensor([[below[0], hit, below[0], below[2]], [0, 1, 2, 3], [-1, -1, -1, 5]])
    terms = []
    for i in range(3):
        p, kept = softmax(student[i].tolist()), labels[i].tolist()
        rest = sum(p[a] for a in range(6) if a not in kept)
        here = [a for a in draws[i].tolist() if a >= 0]
        terms.append(sum(-math.log(p[a] / rest) for a in here if a not in kept) / len(here))
    bucket = lb.top_k_loss(student, labels, reported)
    value = lb.censored_loss(student, labels, reported, draws)
    assert value.item() == pytest.approx(bucket.item() + sum(terms) / 3, rel=1e-11)
    assert torch.autograd.gradcheck(lambda z: lb.censored_loss(z, labels, reported, draws), student)
    one = lb.censored_loss(student, labels, reported, draws[:, 3])
    column = lb.censored_loss(student, labels, reported, draws[:, 3:])
    assert one.item() == column.item()


def test_censored_without_numbers_is_cross_entropy():
    """Nothing inside the top: the tail is everything, and the label a plain hard label."""
    student = drawn(3, 6)
    nothing = torch.full((3, 2), -1)
    value = lb.censored_loss(student, nothing, torch.zeros(3, 2), torch.tensor([0, -1, 4]))
    expected = lb.cross_entropy(student, torch.tensor([0, -1, 4]))
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_modules():
    student, teacher = drawn(6, 5).requires_grad_(), drawn(6, 5, seed=1)
    batch = Batch(student, None, torch.arange(6), torch.arange(6))
    args = Outputs(student), Outputs(teacher), batch
    for tail in ("bucket", "raw", "renormalised"):
        expected = lb.top_k_loss(student, *tops(teacher, 2), tail=tail)
        assert TopK(k=2, tail=tail)(*args).item() == pytest.approx(expected.item(), rel=1e-12)
    whole = lb.full_kl_loss(student, teacher).item()
    assert TopK()(*args).item() == pytest.approx(whole, rel=1e-10)  # 20 of 5 are all
    loss = Censored(k=2, draws=3, seed=4)
    labels, _ = loss.drawn(teacher, batch)
    expected = lb.censored_loss(student, *tops(teacher, 2), labels)
    assert loss(*args).item() == pytest.approx(expected.item(), rel=1e-12)
    assert Censored()(*args).item() == pytest.approx(whole, rel=1e-10)


def test_messages(without_shape_hook):
    student, (labels, reported) = drawn(3, 6), tops(drawn(3, 6, seed=1), 2)
    with pytest.raises(ArgumentError, match="top_k_loss: expected `tail` to be one of bucket"):
        lb.top_k_loss(student, labels, reported, tail="buckets")
    with pytest.raises(ArgumentError, match="TopK: expected `tail`"):
        TopK(tail="none")
    with pytest.raises(ShapeError, match=r"top_k_loss: .*log_probabilities \(3, 1\)"):
        lb.top_k_loss(student, labels, reported[:, :1])
    with pytest.raises(ShapeError, match=r"censored_loss: .*labels \(2,\)"):
        lb.censored_loss(student, labels, reported, torch.tensor([0, 1]))
    with pytest.raises(DataError, match="censored_loss: expected labels below 6"):
        lb.censored_loss(student, labels, reported, torch.tensor([0, 1, 6]))
    with pytest.raises(DataError, match="finite and at most 0; got -inf"):
        lb.top_k_loss(student, labels, torch.full((3, 2), -math.inf))
