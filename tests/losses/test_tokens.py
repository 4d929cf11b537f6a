"""Token-level losses in blocks against the plain losses on whole rows of logits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers.logits import drawn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, ShapeError


BATCH, LENGTH, CLASSES, WIDTH = 2, 5, 11, 3
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 1, 1]], dtype=torch.bool)
BLOCKS = [(1, 1), (3, 4), (64, 11), (4, 1000)]
Parts = tuple[Tensor, ...]


def parts(seed: int = 0, kind: torch.dtype = torch.float64) -> Parts:
    """Return hidden states, NaN where they are masked, an embedding and a bias, as leaves."""
    hidden = drawn(BATCH, LENGTH, WIDTH, seed=seed, scale=2.0)
    hidden = hidden.masked_fill(~MASK[:, :, None], math.nan)
    made = hidden, drawn(CLASSES, WIDTH, seed=seed + 1), drawn(CLASSES, seed=seed + 2)
    return tuple(part.to(kind).requires_grad_() for part in made)


def logits_of(made: Parts) -> Tensor:
    return made[0] @ made[1].T + made[2]


def gradients(value: Tensor, leaves: Parts) -> Parts:
    return torch.autograd.grad(value, leaves)


TEACHER = drawn(BATCH, LENGTH, CLASSES, seed=8, scale=2.0)
LABELS = torch.randint(0, CLASSES, (BATCH, LENGTH, 3), generator=torch.Generator().manual_seed(3))
LABELS[0, 1, 1], LABELS[1, 3] = -1, -1
REPORTED = TEACHER.log_softmax(2).gather(2, LABELS.clamp_min(0)).masked_fill(LABELS < 0, math.nan)
WEIGHTS = drawn(BATCH, LENGTH, 3, seed=5).abs()
POSITIONS = drawn(BATCH, LENGTH, seed=6).abs()
TOP = TEACHER.topk(4).indices
TOP_REPORTED = TEACHER.log_softmax(2).topk(4).values

Tokens = Callable[[object, tuple[int, int]], Tensor]
Plain = Callable[[Tensor], Tensor]


def rows(tensor: Tensor) -> Tensor:
    """Return the positions that count, one after the other."""
    return tensor[MASK]


def weighed(loss: Callable[..., Tensor]) -> Plain:
    """Return the mean of a loss over positions, by their weights, one position after the other."""

    def value(logits: Tensor) -> Tensor:
        each = [loss(logits[i : i + 1], i) for i in range(len(logits))]
        weights = rows(POSITIONS)
        return (torch.stack(each) * weights).sum() / weights.sum()

    return value


def sampled(loss: str, **options: object) -> Tokens:
    return lambda student, block: lb.token_sampled_loss(
        student,
        LABELS,
        None if loss == "cross_entropy" else REPORTED,
        loss=loss,
        mask=MASK,
        weights=WEIGHTS,
        block=block,
        **options,
    )


def on_rows(loss: Callable[..., Tensor], **options: object) -> Plain:
    return lambda z: loss(z, rows(LABELS), rows(REPORTED), weights=rows(WEIGHTS), **options)


def cross_entropy(z: Tensor) -> Tensor:
    repeated, labels = z.repeat_interleave(3, 0), rows(LABELS).flatten()
    return lb.cross_entropy(repeated, labels, weights=rows(WEIGHTS).flatten())


def tops(tail: str) -> tuple[Tokens, Plain]:
    return (
        lambda student, block: lb.token_top_k_loss(
            student, TOP, TOP_REPORTED, tail=tail, mask=MASK, weights=POSITIONS, block=block
        ),
        weighed(
            lambda z, i: lb.top_k_loss(
                z, rows(TOP)[i : i + 1], rows(TOP_REPORTED)[i : i + 1], tail=tail
            )
        ),
    )


CASES: dict[str, tuple[Tokens, Plain]] = {
    "kd": (
        lambda student, block: lb.token_kd_loss(
            student, TEACHER, temperature=2.5, mask=MASK, block=block
        ),
        lambda z: lb.kd_loss(z, rows(TEACHER), temperature=2.5),
    ),
    "kd, weights": (
        lambda student, block: lb.token_kd_loss(
            student, TEACHER, mask=MASK, weights=POSITIONS, block=block
        ),
        weighed(lambda z, i: lb.full_kl_loss(z, rows(TEACHER)[i : i + 1])),
    ),
    "cross_entropy": (sampled("cross_entropy"), cross_entropy),
    "sel": (sampled("sel", huber=1.0), on_rows(lb.sel_loss, huber=1.0)),
    "k3": (sampled("k3", clip=3.0), on_rows(lb.k3_loss, clip=3.0)),
    "control_variate": (
        sampled("control_variate", weight=0.7),
        on_rows(lb.control_variate_loss, weight=0.7),
    ),
    "bucket": tops("bucket"),
    "renormalised": tops("renormalised"),
    "raw": tops("raw"),
    "censored": (
        lambda student, block: lb.token_top_k_loss(
            student, TOP, TOP_REPORTED, drawn=LABELS, mask=MASK, weights=POSITIONS, block=block
        ),
        weighed(
            lambda z, i: lb.censored_loss(
                z,
                rows(TOP)[i : i + 1],
                rows(TOP_REPORTED)[i : i + 1],
                rows(LABELS)[i : i + 1],
            )
        ),
    ),
}
every = pytest.mark.parametrize("name", CASES)


@every
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_equal_the_plain_loss(name, block):
    """Value to 1e-12 and gradients of hidden states, embedding and bias to 1e-9."""
    tokens, plain = CASES[name]
    made = parts()
    value = tokens(lb.LazyLogits(*made), block)
    leaves = parts()
    valid = (rows(leaves[0]), *leaves[1:])
    expected = plain(logits_of(valid))
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    found, wanted = gradients(value, made), gradients(expected, leaves)
    assert (found[0][~MASK] == 0).all()
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 1e-9
        assert other.abs().max() > 1e-3


@every
def test_logits_as_they_are(name):
    tokens, plain = CASES[name]
    logits = logits_of(tuple(part.detach() for part in parts())).requires_grad_()
    value = tokens(logits, (3, 4))
    other = logits.detach().clone().requires_grad_()
    expected = plain(rows(other))
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    (found,), (wanted,) = gradients(value, (logits,)), gradients(expected, (other,))
    assert (found[~MASK] == 0).all()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_lazy_teacher_takes_no_gradient():
    made, teacher = parts(), parts(seed=20)
    value = lb.token_kd_loss(lb.LazyLogits(*made), lb.LazyLogits(*teacher), mask=MASK, block=(3, 4))
    expected = lb.kd_loss(rows(logits_of(made)), rows(logits_of(teacher)), temperature=1.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    found = torch.autograd.grad(value, (*made, *teacher), allow_unused=True)
    assert found[3:] == (None, None, None)
    same = lb.token_kd_loss(lb.LazyLogits(*made), lb.LazyLogits(*made), mask=MASK)
    assert same.item() == pytest.approx(0.0, abs=1e-14)


def test_the_teachers_graph_is_not_kept_alive():
    hidden, embedding, bias = parts()
    teacher = lb.LazyLogits(hidden * 2.0, embedding * 2.0, bias * 2.0)
    rows_of_loss = lb.token_kd_loss(lb.LazyLogits(*parts()), teacher, mask=MASK).grad_fn
    nodes, kept = [rows_of_loss], []
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        nodes += [following for following, _ in node.next_functions]
        if "Divergences" in node.name():
            kept = [tensor for tensor in node.saved_tensors if tensor is not None]
    assert len(kept) >= 6
    assert sum(tensor.grad_fn is not None for tensor in kept) <= 1  # the student's masked states


def test_positions_without_tokens_count_nowhere():
    """Of the positions one has no top, one no drawn token, one neither."""
    logits = drawn(1, 4, CLASSES, seed=40)
    top, reported, one = TOP[:1, :4].clone(), TOP_REPORTED[:1, :4], LABELS[:1, :4, 0].clone()
    top[0, 1:3] = -1
    one[0, 2:] = -1
    value = lb.token_top_k_loss(logits, top, reported)
    expected = lb.top_k_loss(logits[0], top[0], reported[0])
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    value = lb.token_top_k_loss(logits, top, reported, drawn=one)
    expected = lb.censored_loss(logits[0], top[0], reported[0], one[0])
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    by_hand = [lb.censored_loss(logits[0, [i]], top[0, [i]], reported[0, [i]], one[0, [i]])
               for i in (0, 1, 3)]  # fmt: skip
    assert value.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-12)


def test_only_what_asks_for_a_gradient_gets_one():
    hidden, embedding, bias = (part.detach() for part in parts())
    embedding.requires_grad_()
    value = lb.token_kd_loss(lb.LazyLogits(hidden, embedding, bias), TEACHER, mask=MASK)
    value.backward()
    assert embedding.grad is not None
    assert hidden.grad is None
    hidden = hidden.clone().requires_grad_()
    value = lb.token_kd_loss(lb.LazyLogits(hidden, embedding.detach()), TEACHER, mask=MASK)
    value.backward()
    assert hidden.grad is not None
    assert torch.autograd.gradcheck(
        lambda h: lb.token_sampled_loss(
            lb.LazyLogits(h, embedding.detach()),
            LABELS,
            REPORTED,
            loss="k3",
            mask=MASK,
            block=(2, 3),
        ),
        hidden.detach().masked_fill(~MASK[:, :, None], 0.0).requires_grad_(),
    )


def test_the_adaptive_weight_learns_as_on_rows():
    lazy, plain = (lb.AdaptiveControlVariate(clip=2.0).double() for _ in range(2))
    for seed in range(3):
        made = parts(seed=seed)
        value = lb.token_sampled_loss(
            lb.LazyLogits(*made), LABELS, REPORTED, loss="control_variate", weight=lazy,
            mask=MASK, weights=WEIGHTS, block=(3, 4),
        )  # fmt: skip
        z = rows(logits_of(made))
        expected = plain(z, rows(LABELS), rows(REPORTED), rows(WEIGHTS))
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(lazy.moments, plain.moments, rtol=1e-11, atol=0)
    before = lazy.eval().moments.clone()
    lb.token_sampled_loss(
        lb.LazyLogits(*parts()), LABELS, REPORTED, loss="control_variate", weight=lazy, mask=MASK
    )
    assert torch.equal(lazy.moments, before)


@every
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_narrow_types_and_extremes(name, kind):
    made = parts(kind=kind)
    tokens, plain = CASES[name]
    value = tokens(lb.LazyLogits(*made), (3, 4))
    assert value.dtype in (torch.float32, torch.float64)  # the teacher's numbers are float64
    # Products are rounded to the type, sums are not.
    z = (rows(made[0]) @ made[1].T).float() + made[2].float()
    assert value.item() == pytest.approx(plain(z).item(), rel=1e-4)
    found = gradients(value, made)
    assert [one.dtype for one in found] == [kind] * 3
    far = (made[0].detach() * 1e4, made[1].detach(), made[2].detach())
    far = tuple(part.requires_grad_() for part in far)
    value = tokens(lb.LazyLogits(*far), (3, 4))
    assert value.isfinite()
    assert all(one.isfinite().all() for one in gradients(value, far))


def test_autocast_changes_nothing():
    made = parts(kind=torch.float32)
    plain = lb.token_kd_loss(lb.LazyLogits(*made), TEACHER.float(), mask=MASK)
    with torch.autocast("cpu", torch.bfloat16):
        value = lb.token_kd_loss(lb.LazyLogits(*made), TEACHER.float(), mask=MASK)
    assert value.item() == plain.item()
    for one, other in zip(gradients(value, made), gradients(plain, made), strict=True):
        assert torch.equal(one, other)


@every
def test_no_position_counts(name):
    made = parts()
    nothing = torch.zeros_like(MASK)
    lazy = lb.LazyLogits(*made)
    values = {
        "kd": lambda: lb.token_kd_loss(lazy, TEACHER, mask=nothing),
        "sel": lambda: lb.token_sampled_loss(lazy, LABELS, REPORTED, loss="sel", mask=nothing),
        "bucket": lambda: lb.token_top_k_loss(lazy, TOP, TOP_REPORTED, mask=nothing),
    }
    if name not in values:
        return
    value = values[name]()
    assert value.item() == 0.0
    assert all((one == 0).all() for one in gradients(value, made))
    short = lb.LazyLogits(made[0][:, :0], *made[1:])
    empty = {
        "kd": lambda: lb.token_kd_loss(short, TEACHER[:, :0]),
        "sel": lambda: lb.token_sampled_loss(short, LABELS[:, :0], REPORTED[:, :0], loss="sel"),
        "bucket": lambda: lb.token_top_k_loss(short, TOP[:, :0], TOP_REPORTED[:, :0]),
    }
    assert empty[name]().item() == 0.0


def test_the_top_may_be_all_classes_and_blocks_may_be_padding():
    made = parts()
    everything = TEACHER.log_softmax(2).topk(CLASSES)
    value = lb.token_top_k_loss(
        lb.LazyLogits(*made), everything.indices, everything.values, mask=MASK, block=(3, 4)
    )
    whole = lb.token_kd_loss(lb.LazyLogits(*made), TEACHER, mask=MASK)
    assert value.item() == pytest.approx(whole.item(), rel=1e-10)
    for one, other in zip(gradients(value, made), gradients(whole, made), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    # Entries that pad a vocabulary have logits of -inf: a whole block of them changes nothing.
    padding = torch.full((BATCH, LENGTH, 5), -math.inf, dtype=torch.float64)
    options = {"loss": "control_variate", "mask": MASK, "block": (2, 5)}
    adaptive = [lb.AdaptiveControlVariate().double() for _ in range(2)]
    shifted = torch.where(LABELS < 0, LABELS, LABELS + 5)
    student = drawn(BATCH, LENGTH, CLASSES, seed=30)
    logits = torch.cat([padding, student, padding], 2).requires_grad_()
    padded = lb.token_sampled_loss(logits, shifted, REPORTED, weight=adaptive[0], **options)
    plain = lb.token_sampled_loss(student, LABELS, REPORTED, weight=adaptive[1], **options)
    assert torch.autograd.grad(padded, logits)[0].isfinite().all()
    torch.testing.assert_close(adaptive[0].moments, adaptive[1].moments)
    assert padded.item() == pytest.approx(plain.item(), abs=1e-13)


class Largest(TorchDispatchMode):
    """Notes how many entries the largest tensor has that any operator makes."""

    entries = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        found = operator(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // 8)
        return found


@every
def test_logits_are_never_all_in_memory(name):
    tokens, _ = CASES[name]
    made = parts()
    with Largest() as largest:
        tokens(lb.LazyLogits(*made), (2, 3)).backward()
    # The largest tensors are those given or of their size; all logits would be 110 entries.
    assert largest.entries <= max(TEACHER.numel() if "kd" in name else 0, LABELS.numel(), 40)


def test_messages(without_shape_hook):
    made = tuple(part.detach() for part in parts())
    lazy, logits = lb.LazyLogits(*made), logits_of(made)
    with pytest.raises(ShapeError, match=r"student \(2, 5, 11\), teacher \(2, 5, 10\)"):
        lb.token_kd_loss(lazy, TEACHER[:, :, :10])
    with pytest.raises(ShapeError, match=r"token_kd_loss: .*the teacher's logits .* got \(5, 11\)"):
        lb.token_kd_loss(lazy, TEACHER[0])
    with pytest.raises(ShapeError, match=r"hidden \(2, 5, 3\), embedding \(11, 2\), bias \(11,\)"):
        lb.token_kd_loss(lb.LazyLogits(made[0], made[1][:, :2], made[2]), TEACHER)
    with pytest.raises(ShapeError, match=r"mask with one entry .*\(2, 5\).*got \(2, 4\)"):
        lb.token_kd_loss(logits, TEACHER, mask=MASK[:, :4])
    with pytest.raises(ShapeError, match=r"one weight for each .*got \(5,\)"):
        lb.token_kd_loss(logits, TEACHER, weights=POSITIONS[0])
    with pytest.raises(ArgumentError, match="expected `block` to be two whole numbers"):
        lb.token_kd_loss(logits, TEACHER, block=(0, 5))
    with pytest.raises(ArgumentError, match="expected `temperature` > 0"):
        lb.token_kd_loss(logits, TEACHER, temperature=0.0)
    call = lb.token_sampled_loss
    with pytest.raises(ArgumentError, match="expected `loss` to be one of"):
        call(logits, LABELS, REPORTED, loss="k4")
    with pytest.raises(ArgumentError, match="`huber` only with 'sel'; got it with 'k3'"):
        call(logits, LABELS, REPORTED, loss="k3", huber=1.0)
    with pytest.raises(ArgumentError, match="`clip` only with 'k3' or 'control_variate'"):
        call(logits, LABELS, REPORTED, loss="sel", clip=2.0)
    with pytest.raises(ArgumentError, match="expected `clip` in"):
        call(logits, LABELS, REPORTED, loss="k3", clip=0.2)
    with pytest.raises(ArgumentError, match="expected `huber` > 0"):
        call(logits, LABELS, REPORTED, loss="sel", huber=0.0)
    with pytest.raises(ArgumentError, match="got none with 'sel'"):
        call(logits, LABELS, loss="sel")
    with pytest.raises(ArgumentError, match="got some with 'cross_entropy'"):
        call(logits, LABELS, REPORTED, loss="cross_entropy")
    with pytest.raises(ArgumentError, match="expected `weight` with 'control_variate'; got none"):
        call(logits, LABELS, REPORTED, loss="control_variate")
    with pytest.raises(ArgumentError, match="expected `weight` in"):
        call(logits, LABELS, REPORTED, loss="control_variate", weight=1.5)
    adaptive = lb.AdaptiveControlVariate()
    with pytest.raises(ArgumentError, match="no `clip` beside an AdaptiveControlVariate"):
        call(logits, LABELS, REPORTED, loss="control_variate", weight=adaptive, clip=2.0)
    with pytest.raises(ShapeError, match=r"labels \(2, 5, 3\), log_probabilities \(2, 5, 2\)"):
        call(logits, LABELS, REPORTED[:, :, :2], loss="k3")
    with pytest.raises(DataError, match="expected labels below 11"):
        call(logits, LABELS + 9, REPORTED, loss="k3")
    with pytest.raises(DataError, match="finite and at most 0"):
        call(logits, LABELS.clamp_min(0), REPORTED, loss="k3")
    with pytest.raises(ArgumentError, match="expected `tail` to be one of bucket; got 'raw'"):
        lb.token_top_k_loss(logits, TOP, TOP_REPORTED, tail="raw", drawn=LABELS)
    with pytest.raises(ShapeError, match=r"drawn \(2, 4, 3\)"):
        lb.token_top_k_loss(logits, TOP, TOP_REPORTED, drawn=LABELS[:, :4])
    with pytest.raises(ShapeError, match=r"log_probabilities \(2, 5, 3\)"):
        lb.token_top_k_loss(logits, TOP, TOP_REPORTED[:, :, :3])
