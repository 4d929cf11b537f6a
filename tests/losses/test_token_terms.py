"""The training terms of language models: by loops over tokens, by F.kl_div, and from answers."""

import math

import pytest
import torch
from helpers.logits import drawn
from helpers.tokens import VOCABULARY, batch_of, ids_of
from torch.nn import functional as F

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.losses import LOSSES, TokenKD, TokenSampled, TokenTopK
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.losses.token_answers import drawn_tokens, top_tokens
from limbeck.types import Answers, Outputs


ROWS, LENGTH = 3, 6
IDS = ids_of(ROWS, LENGTH)
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6, [1, 0, 0, 0, 0, 0]])
PLACES = torch.tensor([[0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
TARGETS = IDS.masked_fill(torch.tensor([[0, 1, 0, 0, 0, 0]] * 3).bool(), -1)
BATCH = batch_of(IDS, TARGETS, attention_mask=MASK, position_ids=PLACES)
# The last of a row, padding and the border of row 1 never count; of the rest not where the next
# token has no label (position 0 of rows 0 and 1).
COUNTED = {
    "all": [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (1, 3), (1, 4)],
    "labelled": [(0, 1), (0, 2), (1, 2), (1, 3), (1, 4)],
}
STUDENT = drawn(ROWS, LENGTH, VOCABULARY, seed=1, scale=2.0)
TEACHER = drawn(ROWS, LENGTH, VOCABULARY, seed=2, scale=2.0)


def rows(z, positions="labelled"):
    return torch.stack([z[b, t] for b, t in COUNTED[positions]])


def answers_of(answers, positions="labelled"):
    parts = (answers.labels, answers.log_probabilities, answers.counts)
    return [None if part is None else rows(part, positions) for part in parts]


def spoilt(z):
    """Return logits that are NaN wherever nothing is to be looked at."""
    kept = torch.zeros(z.shape[:2], dtype=torch.bool)
    for b, t in COUNTED["labelled"]:
        kept[b, t] = True
    return z.masked_fill(~kept[:, :, None], math.nan)


@pytest.mark.parametrize("positions", ["labelled", "all"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kd_is_kl_div_on_whole_rows(positions, temperature):
    loss = TokenKD(temperature=temperature, positions=positions)
    z = STUDENT.clone().requires_grad_()
    value = loss(Outputs(z), Outputs(TEACHER), BATCH)
    mine, theirs = (rows(x, positions) / temperature for x in (STUDENT, TEACHER))
    expected = F.kl_div(
        mine.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert value.item() == pytest.approx(temperature**2 * expected.item(), rel=1e-12)
    (slope,) = torch.autograd.grad(value, z)
    by_hand = torch.zeros_like(z)
    for b, t in COUNTED[positions]:
        p, q = ((x[b, t] / temperature).softmax(0) for x in (STUDENT, TEACHER))
        by_hand[b, t] = temperature * (p - q) / len(COUNTED[positions])
    torch.testing.assert_close(slope, by_hand)
    assert loss.counted(BATCH).item() == len(COUNTED[positions])


@pytest.mark.parametrize("tail", ["bucket", "renormalised", "raw"])
@pytest.mark.parametrize("live", [True, False])
def test_top_k_of_a_live_teacher_and_of_a_store(tail, live):
    log_t = TEACHER.log_softmax(2)
    order = log_t.argsort(dim=2, descending=True)[..., :4]
    top = Answers(order, log_t.gather(2, order))
    said = Outputs(TEACHER) if live else Outputs(None, answers=top)
    value = TokenTopK(k=4, tail=tail)(Outputs(spoilt(STUDENT)), said, BATCH)
    labels, numbers, _ = answers_of(top)
    expected = lb.top_k_loss(rows(STUDENT), labels, numbers, tail=tail)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_store_may_hold_nothing_for_a_position():
    labels, numbers = TEACHER.log_softmax(2).topk(3).indices, TEACHER.log_softmax(2).topk(3).values
    labels = labels.clone()
    labels[0, 1] = -1
    value = TokenTopK()(Outputs(STUDENT), Outputs(None, answers=Answers(labels, numbers)), BATCH)
    kept = [place for place in COUNTED["labelled"] if place != (0, 1)]
    each = [lb.top_k_loss(STUDENT[b, [t]], labels[b, [t]], numbers[b, [t]]) for b, t in kept]
    assert value.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-12)


FUNCTIONS = {
    "sel": ({"huber": 2.0}, lambda z, a, t, w: lb.sel_loss(z, a, t, huber=2.0, weights=w)),
    "k3": ({"clip": 3.0}, lambda z, a, t, w: lb.k3_loss(z, a, t, clip=3.0, weights=w)),
    "control_variate": (
        {"weight": 0.3, "clip": 3.0},
        lambda z, a, t, w: lb.control_variate_loss(z, a, t, weight=0.3, clip=3.0, weights=w),
    ),
    "cross_entropy": ({}, None),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_stored_draws_with_counts(name):
    """Unlike numbers of draws: positions count alike, and within one each draw does."""
    options, function = FUNCTIONS[name]
    labels = ids_of(ROWS, LENGTH, 3, seed=3)
    labels[1, 3, 1] = -1
    counts = 1 + ids_of(ROWS, LENGTH, 3, seed=4)
    numbers = TEACHER.log_softmax(2).gather(2, labels.clamp_min(0))
    given = Answers(labels, None if name == "cross_entropy" else numbers, counts)
    loss = TokenSampled(loss=name, **options)
    value = loss(Outputs(spoilt(STUDENT)), Outputs(None, answers=given), BATCH).item()
    total = 0.0
    for b, t in COUNTED["labelled"]:
        share = counts[b, t] * (labels[b, t] >= 0)
        share = (share / share.sum()).double()
        for a, w, number in zip(labels[b, t], share, numbers[b, t], strict=True):
            if a < 0:
                continue
            z = STUDENT[b, [t]]
            if function is None:
                each = -z.log_softmax(1)[0, a]
            else:
                each = function(z, a[None], number[None], None)
            total += w * each
    assert value == pytest.approx(float(total) / 5, rel=1e-6)  # shares are float32


def test_the_adaptive_weight_learns_from_the_positions_that_count():
    loss = TokenSampled(loss="control_variate", clip=4.0).double()
    labels = ids_of(ROWS, LENGTH, 1, seed=3)
    numbers = TEACHER.log_softmax(2).gather(2, labels)
    said = Outputs(None, answers=Answers(labels, numbers, torch.ones_like(labels)))
    z = STUDENT.clone().requires_grad_()
    plain = lb.AdaptiveControlVariate(clip=4.0).double()
    for _ in range(2):
        value = loss(Outputs(z), said, BATCH)
        expected = plain(rows(STUDENT).requires_grad_(), rows(labels), rows(numbers))
        assert value.item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(loss.adaptive.moments, plain.moments)
    assert loss.adaptive.moments.min() > 0
    assert "adaptive.moments" in loss.state_dict()


def test_text_of_greedy_decoding_is_cross_entropy():
    best = TEACHER.argmax(2, keepdim=True)
    said = Outputs(None, answers=Answers(best))
    value = TokenSampled(loss="cross_entropy")(Outputs(STUDENT), said, BATCH)
    expected = F.cross_entropy(rows(STUDENT), rows(best)[:, 0])
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_live_draws_are_a_function_of_seed_row_and_position(monkeypatch):
    draws = TeacherDraws("test", draws=2, seed=5)
    first = drawn_tokens(TEACHER, BATCH, draws)
    assert first.counts.min() == 1
    expected = TEACHER.log_softmax(2).gather(2, first.labels)
    torch.testing.assert_close(first.log_probabilities, expected)
    monkeypatch.setattr("limbeck.losses.token_answers.BLOCK", 3 * VOCABULARY)
    assert torch.equal(drawn_tokens(TEACHER, BATCH, draws).labels, first.labels)
    assert torch.equal(top_tokens(TEACHER, 3).labels, TEACHER.topk(3).indices)
    short = batch_of(IDS[:, :4])
    assert torch.equal(drawn_tokens(TEACHER[:, :4], short, draws).labels, first.labels[:, :4])
    swapped = type(BATCH)(BATCH.inputs, None, BATCH.index.flip(0), BATCH.view)
    assert torch.equal(drawn_tokens(TEACHER.flip(0), swapped, draws).labels, first.labels.flip(0))
    other = type(BATCH)(BATCH.inputs, None, BATCH.index, BATCH.view + 1)
    assert torch.equal(drawn_tokens(TEACHER, other, draws).labels, first.labels)
    again = TeacherDraws("test", draws=2, seed=5, redraw=True)
    assert not torch.equal(drawn_tokens(TEACHER, other, again).labels, first.labels)


def test_live_draws_have_the_teachers_frequencies():
    """4,000 positions of one distribution: within 5 standard deviations of a binomial."""
    z = TEACHER[0, 0].expand(40, 100, VOCABULARY)
    batch = batch_of(ids_of(40, 100))
    labels = drawn_tokens(z, batch, TeacherDraws("test", draws=1, seed=1)).labels
    p = TEACHER[0, 0].softmax(0)
    found = torch.bincount(labels.flatten(), minlength=VOCABULARY) / 4000
    assert ((found - p).abs() <= 5 * (p * (1 - p) / 4000).sqrt()).all()
    # Neighbours in a row are drawn apart.
    same = (labels[:, 1:] == labels[:, :-1]).double().mean().item()
    chance = float((p**2).sum())
    assert abs(same - chance) <= 5 * (chance * (1 - chance) / 3960) ** 0.5


def test_the_mean_gradient_of_drawn_tokens_is_that_of_the_divergence():
    """At one position all tokens, by their probabilities: k3 without a bound is unbiased."""
    labels = torch.arange(VOCABULARY).reshape(1, 1, -1).expand(1, 2, -1)
    t = TEACHER[:1, :2].log_softmax(2)
    z = STUDENT[:1, :2].clone().requires_grad_()
    batch = batch_of(IDS[:1, :2])
    total = 0.0
    for a in range(VOCABULARY):
        one = labels[..., [a]]
        given = Answers(one, t[..., [a]], torch.ones_like(one))
        value = TokenSampled(loss="k3", clip=1e12)(Outputs(z), Outputs(None, answers=given), batch)
        total = total + t[0, 0, a].exp() * value
    whole = TokenKD()(Outputs(z), Outputs(TEACHER[:1, :2]), batch)
    for one, other in zip(
        torch.autograd.grad(total, z), torch.autograd.grad(whole, z), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("without_shape_hook")
def test_padding_of_the_vocabulary_is_left_out():
    wide = torch.cat([STUDENT, drawn(ROWS, LENGTH, 5, seed=9)], 2)
    plain = TokenKD()(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    cut = TokenKD(vocabulary=VOCABULARY)(Outputs(wide), Outputs(TEACHER), BATCH)
    assert cut.item() == plain.item()
    with pytest.raises(ShapeError, match="Vocabularies must be the same"):
        TokenKD()(Outputs(wide), Outputs(TEACHER), BATCH)
    with pytest.raises(ArgumentError, match=f"up to {VOCABULARY}.*got 12"):
        TokenKD(vocabulary=12)(Outputs(wide), Outputs(TEACHER), BATCH)
    for name in ("token_top_k", "token_sampled"):
        loss = LOSSES[name](vocabulary=VOCABULARY)
        one = loss(Outputs(wide), Outputs(TEACHER), BATCH)
        assert one.item() == LOSSES[name]()(Outputs(STUDENT), Outputs(TEACHER), BATCH).item()


LABELS = TEACHER.topk(2).indices
NUMBERS = TEACHER.log_softmax(2).topk(2).values
DRAWS = torch.ones_like(LABELS)


@pytest.mark.parametrize(
    ("loss", "answers", "message"),
    [
        (TokenKD(), Answers(LABELS, NUMBERS), "whole rows.*got its most likely.*Take token_top_k"),
        (TokenKD(), Answers(LABELS, None, DRAWS), "whole rows.*Take token_sampled"),
        (TokenTopK(), Answers(LABELS, NUMBERS, DRAWS), "most likely tokens.*Take token_sampled"),
        (TokenTopK(), Answers(LABELS), "most likely tokens with their log-prob"),
        (TokenSampled(), Answers(LABELS, NUMBERS), "tokens that the teacher drew.*token_top_k"),
        (TokenSampled(), Answers(LABELS, None, DRAWS), "drew with their log-probabilities"),
        (TokenSampled(loss="cross_entropy"), Answers(LABELS), "tokens that the teacher drew; got"),
    ],
)
def test_answers_of_another_kind_are_refused_with_what_fits(loss, answers, message):
    with pytest.raises(ArgumentError, match=message):
        loss(Outputs(STUDENT), Outputs(None, answers=answers), BATCH)


@pytest.mark.usefixtures("without_shape_hook")
@pytest.mark.parametrize("name", ["token_kd", "token_sampled", "token_top_k"])
def test_shapes_and_missing_outputs(name):
    loss = LOSSES[name]()
    with pytest.raises(ArgumentError, match="expected logits from student and teacher"):
        loss(Outputs(STUDENT), Outputs(None), BATCH)
    flat = Outputs(STUDENT[:, 0])
    with pytest.raises(ShapeError, match="classifier or an encoder gives one row a text"):
        loss(flat, flat, BATCH)
    nothing = batch_of(IDS, torch.full_like(IDS, -1))
    z = STUDENT.clone().requires_grad_()
    value = loss(Outputs(z), Outputs(TEACHER), nothing)
    assert value.item() == 0.0
    assert (torch.autograd.grad(value, z)[0] == 0).all()


@pytest.mark.usefixtures("without_shape_hook")
def test_answers_of_another_shape_or_vocabulary():
    short = Answers(LABELS[:, :4], NUMBERS[:, :4])
    with pytest.raises(ShapeError, match=r"positions \(3, 6\); got labels \(3, 4, 2\)"):
        TokenTopK()(Outputs(STUDENT), Outputs(None, answers=short), BATCH)
    with pytest.raises(DataError, match="labels of another vocabulary"):
        TokenTopK()(Outputs(STUDENT), Outputs(None, answers=Answers(LABELS + 40, NUMBERS)), BATCH)


@pytest.mark.usefixtures("without_shape_hook")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenKD(temperature=0.0), "`temperature` > 0"),
        (lambda: TokenKD(positions="every"), "labelled, all"),
        (lambda: TokenKD(vocabulary=0), "whole number >= 1"),
        (lambda: TokenTopK(k=0), "`k`"),
        (lambda: TokenTopK(tail="bin"), "bucket"),
        (lambda: TokenSampled(loss="kl"), "cross_entropy, sel, k3"),
        (lambda: TokenSampled(draws=0), "`draws`"),
        (lambda: TokenSampled(loss="k3", huber=1.0), "`huber` only with sel; got it with k3"),
        (lambda: TokenSampled(loss="sel", clip=2.0), "only with k3 or control_variate"),
        (lambda: TokenSampled(loss="k3", clip=0.5), "clip"),
        (lambda: TokenSampled(loss="sel", huber=-1.0), "huber"),
        (lambda: TokenSampled(loss="control_variate", weight=1.5), "weight"),
    ],
)
def test_options_are_checked_early(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
