"""Losses on labels that a teacher answered with: as if drawn now, by sample, or refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.answers import drawn_answers, top_answers
from helpers.logits import batch_of, drawn, softmax

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.losses import (
    K3,
    KD,
    LOSSES,
    SEL,
    Censored,
    ControlVariate,
    NaiveProbability,
    SampledCounts,
    SampledLabels,
    TopK,
)
from limbeck.losses.answers import described, fitting
from limbeck.types import Answers, Outputs


ASKED: list[tuple[type, dict[str, Any]]] = [
    (SampledLabels, {}),
    (NaiveProbability, {}),
    (SEL, {}),
    (K3, {}),
    (ControlVariate, {}),
    (ControlVariate, {"weight": 0.25}),
    (SampledCounts, {}),
    (SampledCounts, {"weight": 0.5}),
]
every = pytest.mark.parametrize(("module", "options"), ASKED)
ROWS, CLASSES = 6, 5
BATCH = batch_of(ROWS)


def value_and_gradient(loss: torch.nn.Module, teacher: Outputs) -> tuple[torch.Tensor, ...]:
    student = drawn(ROWS, CLASSES).requires_grad_()
    value = loss(Outputs(student), teacher, BATCH)
    return value.detach(), torch.autograd.grad(value, student)[0]


@every
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("beside", [False, True])
def test_answers_are_as_good_as_asking_now(module, options, draws, beside):
    logits = drawn(ROWS, CLASSES, seed=1)
    live = module(draws=draws, seed=4, **options)
    # Options of the asking have no say in answers, nor have logits beside them.
    stored = module(draws=draws + 4, seed=9, **options)
    other = drawn(ROWS, CLASSES, seed=2) if beside else None
    answers = drawn_answers(logits, BATCH, draws=draws, seed=4)
    for _ in range(2):  # ControlVariate has learnt from the first
        expected = value_and_gradient(live, Outputs(logits))
        found = value_and_gradient(stored, Outputs(other, answers=answers))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    for a, b in zip(live.state_dict().values(), stored.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@every
def test_counts_are_draws(module, options):
    """Each label once with its count, others absent or never drawn: the same as one a column."""
    t = drawn(ROWS, CLASSES, seed=1).log_softmax(1)
    columns = torch.tensor([[3, 1, 3, 3, 0]]).expand(ROWS, 5)
    once = Answers(columns, t.gather(1, columns), torch.ones_like(columns))
    labels = torch.tensor([[-1, 1, 4, 3, 0]]).expand(ROWS, 5)
    numbers = t.gather(1, labels.clamp_min(0)).masked_fill(labels < 0, math.nan)
    counts = torch.tensor([[7, 1, 0, 3, 1]]).expand(ROWS, 5)
    counted = Answers(labels, numbers, counts)
    one, other = (
        value_and_gradient(module(**options), Outputs(None, answers=answers))
        for answers in (once, counted)
    )
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


UNEVEN = Answers(
    torch.tensor([[0, 2, -1], [1, 1, 4], [-1, -1, -1], [3, -1, -1], [2, 4, 0], [-1, 3, -1]]),
    counts=torch.tensor([[1, 3, 9], [1, 1, 2], [5, 0, 0], [2, 0, 0], [1, 1, 1], [0, 4, 0]]),
)


@every
def test_samples_count_alike_whatever_the_number_of_their_draws(module, options):
    options = options | ({"clip": None} if module in (K3, ControlVariate, SampledCounts) else {})
    options |= {"huber": None} if module is SEL else {}
    t = drawn(ROWS, CLASSES, seed=1).log_softmax(1)
    answers = replace(UNEVEN, log_probabilities=t.gather(1, UNEVEN.labels.clamp_min(0)))
    lam = options.get("weight", 0.0)  # ControlVariate begins at 0
    total = 0.0
    for i in range(ROWS):
        p = softmax(drawn(ROWS, CLASSES)[i].tolist())
        drawn_ones: dict[int, int] = {}
        rows = zip(UNEVEN.labels[i].tolist(), UNEVEN.counts[i].tolist(), strict=True)
        for a, count in rows:
            if a >= 0:
                drawn_ones[a] = drawn_ones.get(a, 0) + count
        for a, count in drawn_ones.items():
            share, r = count / sum(drawn_ones.values()), p[a] / t[i, a].exp().item()
            total += (
                share
                * {
                    SampledLabels: -math.log(p[a]),
                    NaiveProbability: -t[i, a].exp().item() * math.log(p[a]),
                    SEL: 0.5 * math.log(r) ** 2,
                    K3: r - 1 - math.log(r),
                    ControlVariate: lam * r - math.log(p[a]),
                    SampledCounts: lam * r - math.log(p[a]) if lam else math.log(share / p[a]),
                }[module]
            )
    value = module(**options)(Outputs(drawn(ROWS, CLASSES)), Outputs(None, answers=answers), BATCH)
    assert value.item() == pytest.approx(total / 5, rel=1e-12)  # row 2 has no label


@pytest.mark.parametrize(("module", "options"), [*ASKED, (TopK, {})])
def test_processes_weigh_as_many_samples_as_have_labels(module, options, monkeypatch):
    """The sum over processes of what their samples add is that of one process."""
    home = "top_k" if module is TopK else "sampled_counts" if module is SampledCounts else "asked"
    monkeypatch.setattr(f"limbeck.losses.{home}.share_of_batch", lambda mean, count: mean * count)
    t = drawn(ROWS, CLASSES, seed=1).log_softmax(1)
    answers = replace(UNEVEN, log_probabilities=t.gather(1, UNEVEN.labels.clamp_min(0)))
    if module is TopK:
        distinct = torch.where(torch.arange(3) > 0, -1, answers.labels)
        answers = Answers(distinct, answers.log_probabilities)

    def total(rows: slice) -> float:
        teacher = Outputs(None, answers=answers.map(lambda value: value[rows]))
        student = Outputs(drawn(ROWS, CLASSES)[rows])
        return module(**options)(student, teacher, batch_of(len(student.logits))).item()

    parts = total(slice(0, 2)) + total(slice(2, 5)) + total(slice(5, 6))
    assert parts == pytest.approx(total(slice(0, 6)), rel=1e-12)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (SampledLabels, {}),
        (SampledCounts, {}),
        (SampledCounts, {"weight": 0.6, "clip": None}),
        (K3, {"clip": None}),
        (ControlVariate, {"weight": 0.6, "clip": None}),
    ],
)
def test_gradient_is_unbiased(module, options):
    """Every label counted as often as t has it, so that the shares are t."""
    counts = 1 + torch.arange(ROWS * CLASSES).reshape(ROWS, CLASSES) % 7
    t = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    answers = Answers(torch.arange(CLASSES).expand(ROWS, -1), t.log(), counts)
    _, gradient = value_and_gradient(module(**options), Outputs(None, answers=answers))
    expected = (drawn(ROWS, CLASSES).softmax(1) - t) / ROWS
    torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 4, 20])
@pytest.mark.parametrize("tail", ["bucket", "renormalised", "raw"])
def test_top_labels(k, tail):
    logits = drawn(ROWS, CLASSES, seed=1)
    answers = top_answers(logits, 4)
    found = value_and_gradient(TopK(k=k, tail=tail), Outputs(None, answers=answers))
    expected = value_and_gradient(TopK(k=min(k, 4), tail=tail), Outputs(logits))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_certain_label_is_a_hard_label():
    labels = torch.tensor([0, 3, -1, 4, 1, 1])
    found, gradient = value_and_gradient(
        SampledLabels(), Outputs(None, answers=Answers(labels[:, None]))
    )
    student = drawn(ROWS, CLASSES).requires_grad_()
    expected = torch.nn.functional.cross_entropy(student, labels, ignore_index=-1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0])


LABELS = torch.tensor([[1, 3]]).expand(ROWS, 2)
NUMBERS = torch.full((ROWS, 2), -1.5)
KINDS = {
    "drawn, numbers": Answers(LABELS, NUMBERS, torch.ones_like(LABELS)),
    "drawn, text": Answers(LABELS, None, torch.ones_like(LABELS)),
    "top, numbers": Answers(LABELS, NUMBERS),
    "top, text": Answers(LABELS),
    "one, text": Answers(LABELS[:, :1]),
    "one, numbers": Answers(LABELS[:, :1], NUMBERS[:, :1]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_that_are_named_are_those_that_work(kind):
    answers = KINDS[kind]
    student, teacher = Outputs(drawn(ROWS, CLASSES)), Outputs(None, answers=answers)
    work = set()
    asked = ("censored", "top_k", *(n for n, m in LOSSES.items() if m in {a for a, _ in ASKED}))
    for name in asked:
        try:
            value = LOSSES[name]()(student, teacher, BATCH)
        except ArgumentError as problem:
            message = str(problem)
            assert message.startswith(f"{LOSSES[name].__name__}: expected ")
            assert f"; got {described(answers)}. " in message
            assert all(named in message for named in fitting(answers))
        else:
            assert value.isfinite()
            work.add(name)
    # The mistake that is kept to be shown as one is not advised.
    assert work - {"naive_probability"} == set(fitting(answers))
    assert ("naive_probability" in work) == (kind == "drawn, numbers")


def test_words():
    student = Outputs(drawn(ROWS, CLASSES))

    def message(loss: torch.nn.Module, kind: str) -> str:
        with pytest.raises(ArgumentError) as caught:
            loss(student, Outputs(None, answers=KINDS[kind]), BATCH)
        return str(caught.value)

    assert message(SEL(), "drawn, text") == (
        "SEL: expected labels that the teacher drew with their log-probabilities; got labels that "
        "it drew, without log-probabilities. Take sampled_counts or sampled_labels, or have the "
        "teacher give, or its store keep, what SEL needs."
    )
    assert "got labels that it drew with log-probabilities. Take control_variate or" in message(
        TopK(), "drawn, numbers"
    )
    assert message(KD(), "top, numbers") == (
        "KD: expected the teacher's logits, whole rows of class scores; got its most likely labels "
        "with log-probabilities. Take top_k, or have the teacher give, or its store keep, what KD "
        "needs."
    )
    assert "got its most likely labels, without log-probabilities. Have the teacher" in message(
        SampledLabels(), "top, text"
    )
    assert "expected logits, or else both top and drawn labels" in message(
        Censored(), "top, numbers"
    )
    counts = SampledCounts(proposal=0.8)
    assert "expected `proposal` to be 1 for a teacher's answers" in message(counts, "drawn, text")
    with pytest.raises(ArgumentError, match="`proposal` to be 1 for a teacher's answers"):
        counts(student, Outputs(drawn(ROWS, CLASSES), answers=KINDS["drawn, text"]), BATCH)
    assert "got labels that it drew, without" in message(SampledCounts(weight=0.5), "drawn, text")


def test_losses_for_answers_by_token():
    for kind, names in {
        "drawn, numbers": ("token_sampled",),
        "drawn, text": ("token_sampled",),
        "top, numbers": ("token_top_k",),
        "top, text": (),
        "one, text": ("token_sampled",),
    }.items():
        assert fitting(KINDS[kind].map(lambda value: value[:, None])) == names, kind


@pytest.mark.parametrize("loss", [K3(), SampledLabels(), SampledCounts(), TopK()])
def test_shapes(loss, without_shape_hook):
    kind = "top, numbers" if isinstance(loss, TopK) else "drawn, numbers"
    student, answers = Outputs(drawn(ROWS, CLASSES)), KINDS[kind]
    where = type(loss).__name__

    def wrong(answers: Answers) -> Outputs:
        return Outputs(None, answers=answers)

    with pytest.raises(ShapeError, match=rf"{where}: .*for 6 rows; got labels \(4, 2\)"):
        loss(student, wrong(answers.map(lambda value: value[:4])), BATCH)
    with pytest.raises(ShapeError, match=r"labels \(6, 1, 2\).*for token_sampled and"):
        loss(student, wrong(answers.map(lambda value: value[:, None])), BATCH)
    with pytest.raises(ShapeError, match=r"log_probabilities \(6, 1\)"):
        loss(student, wrong(replace(answers, log_probabilities=NUMBERS[:, :1])), BATCH)
    with pytest.raises(DataError, match="expected labels below 5, the number of classes; got 7"):
        loss(student, wrong(replace(answers, labels=answers.labels + 4)), BATCH)
    with pytest.raises(
        ArgumentError, match=rf"{where}: expected logits from the student; got none"
    ):
        loss(Outputs(None), wrong(answers), BATCH)
