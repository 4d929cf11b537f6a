"""Measured steps where means run over something else than rows, and with other optimisers."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows
from torch import nn
from torch.nn import functional as F

import limbeck as lb
from limbeck.data import Data
from limbeck.labels import total_weight
from limbeck.losses import KD, LOSSES
from limbeck.randomness import generator
from limbeck.tasks import Classification, MultiLabel, Regression
from limbeck.training.halves import middle_of
from limbeck.training.order import sizes_of
from limbeck.training.weighed_by import of_task, of_term
from limbeck.training.weighing import adaptive_of
from limbeck.types import Answers, Batch, Outputs
from limbeck.weighting.controlling.adaptive import AdaptiveWeight


RESTING = {"mode": "hbar", "every": 1, "warmup": 10**6}


def partly_labelled(count=48):
    x, y = rows(count)
    y = y.clone()
    y[: count // 2 : 3] = -1
    y[20:31] = -1
    return x.double(), y


def run(weight, data, model=None, **options):
    model = network().double() if model is None else model
    settings = QUICK | {"loss": "kd", "weight": weight} | options
    return lb.distill(model, good_teacher().double(), data, **settings)


class Weighted:
    """Classification whose classes count differently."""

    def __new__(cls):
        weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
        return Classification(class_weights=weights)


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ("some", {}),
        ("some", {"accumulate": 2}),
        ("some", {"accumulate": 3, "batch_size": 13}),
        ("none", {}),
        ("all", {"task": Weighted}),
        ("some", {"task": Weighted, "accumulate": 4, "batch_size": 18}),
    ],
)
def test_a_measured_step_is_a_plain_one_whatever_counts(labels, options):
    x, y = partly_labelled()
    data = {"some": (x, y), "none": x, "all": (x, rows()[1])}[labels]
    options = {name: one() if one is Weighted else one for name, one in options.items()}
    measured, plain = (run(w, data, **options) for w in (RESTING | {"weight": 0.25}, 0.25))
    assert len(measured.record.weighing) >= 9
    for a, b in zip(measured.student.parameters(), plain.student.parameters(), strict=True):
        assert (a - b).abs().max().item() < 1e-12
    for name, curve in plain.record.curves.items():
        assert measured.record.curves[name] == pytest.approx(curve, rel=1e-9, abs=1e-12), name


def test_halves_are_means_over_their_labels_and_one_without_is_left_out():
    class Seen(AdaptiveWeight):
        def observe(self, step, **measured):
            told.append(measured)
            super().observe(step, **measured)

    told, model = [], network().double()
    start = copy.deepcopy(model)
    x, y = rows(16)
    x, order = x.double(), torch.randperm(16, generator=generator(0, "order", 0))
    y[order[6:]] = -1
    seen = Seen("hbar", weight=0.4, every=1, warmup=0, freeze_width=None)
    run(seen, (x, y), model, epochs=1)
    z, targets = start(x[order[:8]]), y[order[:8]]
    kept = targets >= 0
    loss = F.cross_entropy(z[kept], targets[kept])
    for one, expected in zip(
        told[0]["task"][0], torch.autograd.grad(loss, start.parameters()), strict=True
    ):
        torch.testing.assert_close(one, expected)
    assert all(one.isnan().all() for one in told[0]["task"][1])
    row = seen.history()[0]
    assert (row["tr_gg"], row["weight"]) == (0.0, pytest.approx(0.4))  # not finite: left out


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([16], 8), ([17], 9), ([4], 2), ([3], None), ([16, 1], None), ([5, 4], 5),
        ([5, 5, 4, 4], 10), ([6, 5, 5, 5], 11), ([2, 2], 2), ([2], None), ([2, 2, 2, 2, 2], 6),
    ],
)  # fmt: skip
def test_where_a_batch_is_cut(sizes, expected):
    assert middle_of(sizes) == expected


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
def test_no_part_has_a_single_row(ranks, accumulate):
    for rows_ in range(2 * ranks, 60):
        sizes = sizes_of(rows_, ranks, accumulate)
        assert sum(sizes) == rows_
        assert len({len(one) for one in _by_rank(sizes, ranks)}) == 1
        cut = middle_of(sizes)
        if cut is None:
            continue
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        for start, size in zip(starts, sizes, strict=True):
            before = min(max(cut - start, 0), size)
            assert before != 1
            assert size - before != 1
        places = list(zip(starts, sizes, strict=True))
        tries = [
            other
            for other in range(1, rows_)
            if all(min(max(other - a, 0), n) not in (1, n - 1) for a, n in places)
        ]
        assert abs(2 * cut - rows_) == min(abs(2 * other - rows_) for other in tries)


def _by_rank(sizes, ranks):
    assert len(sizes) % ranks == 0
    each = len(sizes) // ranks
    return [sizes[at : at + each] for at in range(0, len(sizes), each)]


def test_batch_norm_never_sees_a_single_row():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    options = QUICK | {"batch_size": 18, "accumulate": 4}
    result = lb.distill(model, good_teacher(), rows(54), loss=KD(), weight=RESTING, **options)
    assert len(result.record.weighing) == 9


def test_what_a_mean_is_over():
    index = torch.arange(4)

    def batch(targets, weights=None):
        return Batch(torch.zeros(4, 1), targets, index, index, weights)

    some, weights = torch.tensor([1, -1, 0, 2]), torch.tensor([0.5, 9.0, 2.0, 1.0])
    assert of_task(Classification(), batch(some)).item() == 3
    assert of_task(Classification(), batch(some, weights)).item() == 3.5
    expected = total_weight(some, weights, torch.tensor([1.0, 2, 3]), like=torch.ones(()))
    weighted = Classification(class_weights=torch.tensor([1.0, 2, 3]))
    assert of_task(weighted, batch(some, weights)).item() == expected.item() == 0.5 * 2 + 2 + 3
    assert of_task(Classification(), batch(None)).item() == 4
    entries = torch.tensor([[1.0, -1], [0, 1], [torch.nan, -1], [1, 1]])
    assert of_task(MultiLabel(), batch(entries)).item() == 5
    assert of_task(MultiLabel(), batch(entries, weights)).item() == 0.5 + 18 + 2
    assert of_task(Regression(), batch(entries)).item() == 7
    assert of_task(Regression(), batch(entries[:, 0], weights)).item() == 10.5
    labels = torch.tensor([[1, -1], [-1, -1], [0, 2], [2, -1]])
    drawn = Outputs(None, answers=Answers(labels, counts=torch.tensor([[1, 0]] * 3 + [[0, 0]])))
    assert of_term(LOSSES["sampled_labels"](), [drawn], batch(some)).item() == 2
    assert of_term(KD(), [Outputs(torch.zeros(4, 3))], batch(some)).item() == 4


class Counting:
    """A user's own task, the sum of the first scores, that says what it counts."""

    def loss(self, outputs, batch):
        return outputs.logits[:, 0].sum()

    def metrics(self, outputs, batch):
        return {"sum": self.loss(outputs, batch).item()}

    def counted(self, batch):
        return batch.targets.sum()


def test_a_task_may_say_what_it_counts():
    four = torch.arange(4)
    assert of_task(Counting(), Batch(torch.zeros(4, 1), four, four, four)).item() == 6


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_adamw_is_not_measured_before_its_first_step(mode):
    weight = {"mode": mode, "every": 1, "warmup": 0, "slew": 1.0, "freeze_width": 9.0}
    result = run(weight, rows(), network(), optimizer="adamw", learning_rate=1e-2)
    assert [one["step"] for one in result.record.weighing] == list(range(1, 9))


def test_a_parameter_that_comes_alive_does_not_outweigh_all_others():
    """Of an input that was zero up to now AdamW has no second moment, only epsilon."""
    x, y = rows(32)
    x[:, 5] = 0.0

    def alive(inputs, index, view):
        return torch.where((view[:, None] > 0) & (torch.arange(6) == 5), 1.0, inputs)

    datas = [Data((x, y), augment=how) for how in (lambda inputs, index, view: inputs + 0, alive)]
    found = [
        run(RESTING, data, network(), optimizer="adamw", learning_rate=1e-3, epochs=2)
        for data in datas
    ]
    traces = [{one["step"]: one["tr_gg"] for one in run.record.weighing} for run in found]
    assert traces[0][1] == traces[1][1]
    assert traces[1][2] < 10 * traces[0][2]  # that input's first step, of four


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_clipping_takes_counts(optimizer):
    class Seen(AdaptiveWeight):
        def observe(self, step, **measured):
            told.append(float(measured["learning_rate"]))
            super().observe(step, **measured)

    lengths = []

    def noted(parameters, limit):
        found = real(parameters, limit)
        lengths.append(found.item())
        return found

    told, real = [], nn.utils.clip_grad_norm_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", noted)
        seen = Seen("hbar", weight=0.4, every=1, warmup=10**6)
        options = {"clip": 0.5, "optimizer": optimizer, "epochs": 1, "momentum": 0.5}
        run(seen, rows(), network(), **options)
    shares = [min(0.5 / (length + 1e-6), 1.0) for length in lengths]
    assert max(shares) < 1
    average = sum(0.99 ** (2 - at) * one for at, one in enumerate(shares)) / (1 + 0.99 + 0.99**2)
    base = 0.05 / (0.5 if optimizer == "sgd" else 1.0)
    assert told[-1] == pytest.approx(base * average, rel=1e-5)


def test_a_maximum_may_be_none():
    found = adaptive_of({"maximum": None}, (0.1, 0.9), 100, 64)
    assert (found.maximum, found.weight.item()) == (1.0, pytest.approx(0.9))
    assert adaptive_of({"mode": "losspair", "maximum": None}, (1.0, 76.0), 9, 64).maximum == 0.95


def test_epochs_that_train_the_loss_alone_are_not_measured():
    loss = {"name": "rid", "warmup_epochs": 1, "cycle": 2}
    options = {"loss": loss, "layers": {"student": "1", "teacher": "1"}, "force": True}
    result = run(RESTING, rows(), network(), **options | {"epochs": 4})
    aside = [value is not None for value in result.record.curves["loss auxiliary"]]
    assert any(aside)
    expected = [step for step in range(12) if not aside[step // 3]]
    assert [one["step"] for one in result.record.weighing] == expected
