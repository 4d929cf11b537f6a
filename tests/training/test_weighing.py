"""The weight that is measured while a run trains."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.small import (
    QUICK,
    double_binary_student,
    double_ternary_student,
    good_teacher,
    network,
    rows,
    same,
)
from scipy.sparse.linalg import cg
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import limbeck as lb
from limbeck.checks import ArgumentError
from limbeck.cli.main import app
from limbeck.data import Data
from limbeck.losses import ITRD, KD
from limbeck.randomness import generator
from limbeck.training.weighing import adaptive_of
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.schedules import Linear


RESTING = {"mode": "hbar", "every": 1, "warmup": 10**6}


def double(count=48, seed=0):
    x, y = rows(count, seed=seed)
    return x.double(), y


def student(seed=0):
    return network(seed=seed).double()


def run(weight, data=None, model=None, **options):
    model = student() if model is None else model
    settings = QUICK | {"loss": "kd", "weight": weight} | options
    return lb.distill(model, good_teacher().double(), data or double(), **settings)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 2},
        {"accumulate": 3, "batch_size": 13},
        {"optimizer": "adamw", "clip": 0.1},
        {"momentum": 0.0, "average": 0.9},
    ],
)
def test_a_measured_step_is_a_plain_one(options):
    """Before warm-up ends the weight rests: every step measured, none changed."""
    measured, plain = (run(weight, **options) for weight in (RESTING | {"weight": 0.25}, 0.25))
    first = options.get("optimizer") == "adamw"  # it has no metric before its first step
    assert len(measured.record.weighing) >= 9 - first
    for a, b in zip(measured.student.parameters(), plain.student.parameters(), strict=True):
        assert (a - b).abs().max().item() < 1e-12
    for name, curve in plain.record.curves.items():
        assert measured.record.curves[name] == pytest.approx(curve, rel=1e-9), name


def test_a_fixed_weight_is_that_number():
    fixed, plain = (run(weight).student for weight in (AdaptiveWeight("fixed", weight=0.3), 0.3))
    assert same(fixed, plain)


def test_a_schedule_sets_the_weight_of_every_step():
    result = run(AdaptiveWeight(Linear(1.0, 0.0, steps=8)), epochs=3)
    # Three steps an epoch: after the third, sixth and ninth.
    assert result.record.curves["distillation weight"] == pytest.approx([0.75, 0.375, 0.0])
    assert not same(result.student, run(1.0).student)


class Seen(AdaptiveWeight):
    """Keeps what it was told."""

    def __init__(self, **options):
        super().__init__("hbar", weight=0.4, every=1, warmup=10**6, **options)
        self._told = []

    def observe(self, step, **measured):
        self._told.append(measured)
        super().observe(step, **measured)


def halves_by_hand(model, x, y, teacher):
    """g and h of the first and the second half of a batch, in the mode of the model."""
    found = []
    for inputs, targets in zip(x.tensor_split(2), y.tensor_split(2), strict=True):
        z, t = model(inputs), teacher(inputs).detach()
        task = F.cross_entropy(z, targets)
        kd = 16 * F.kl_div(
            (z / 4).log_softmax(1), (t / 4).log_softmax(1), log_target=True, reduction="batchmean"
        )
        parameters = list(model.parameters())
        g, h = (
            torch.autograd.grad(one, parameters, retain_graph=True) for one in (task, task - kd)
        )
        found.append((g, h))
    return found


@pytest.mark.parametrize("batch_size", [16, 15])
def test_what_is_measured(batch_size):
    adaptive, model = Seen(), student()
    start = copy.deepcopy(model)
    data = double(batch_size)
    options = {"epochs": 1, "batch_size": batch_size, "momentum": 0.9, "weight_decay": 0.02}
    result = run(adaptive, data, model, **options)
    (told,) = adaptive._told
    order = torch.randperm(batch_size, generator=generator(0, "order", 0))
    x, y = (one[order] for one in data)
    first, second = halves_by_hand(start, x, y, good_teacher().double())
    for at in range(4):
        for half, (g, h) in enumerate((first, second)):
            torch.testing.assert_close(told["task"][half][at], g[at])
            torch.testing.assert_close(told["difference"][half][at], h[at])
    n1, n2 = (batch_size + 1) // 2, batch_size // 2
    assert told["rows"] == pytest.approx(2 * n1 * n2 / (n1 + n2))
    assert (told["batch_size"], told["preconditioner"]) == (batch_size, None)
    assert told["learning_rate"] == pytest.approx(0.05 / (1 - 0.9))
    assert result.record.weighing[0]["curvature"] == pytest.approx(
        solved(
            start,
            x,
            [(a + b) / 2 for a, b in zip(first[1], second[1], strict=True)],
            damping=1 / 0.5 + 0.02,  # one step of 0.05 / (1 - 0.9)
        ),
        rel=1e-6,
    )
    assert (told["steps_per_epoch"], told["epoch"]) == (1, 0)


def solved(model, x, mean, damping, factors=None):
    """|b|^2 / b' (R GGN R + damping)^-1 b with b = R mean, R = sqrt(D), by six iterations."""
    parameters = list(model.parameters())
    vector = torch.cat([one.flatten() for one in mean])
    root = torch.ones_like(vector)
    if factors is not None:
        root = torch.cat([f.flatten() for f in factors]).sqrt()
    matrix = torch.zeros(len(vector), len(vector), dtype=torch.float64)
    for row in x:
        z = model(row[None])[0]
        rows = torch.stack(
            [
                torch.cat(
                    [g.flatten() for g in torch.autograd.grad(one, parameters, retain_graph=True)]
                )
                for one in z
            ]
        )
        p = z.detach().softmax(0)
        matrix += rows.T @ (torch.diag(p) - torch.outer(p, p)) @ rows / len(x)
    bent = root[:, None] * matrix * root + damping * torch.eye(len(vector), dtype=torch.float64)
    b = (root * vector).numpy()
    found, _ = cg(bent.numpy(), b, rtol=0.0, maxiter=6)
    return b @ b / (b @ found)


def test_adamw_has_its_own_metric(monkeypatch):
    adaptive, model = Seen(), student()
    seen, grads, after = [], [], []
    real = torch.optim.AdamW.step

    def noted(self, *arguments):
        grads.append([p.grad.clone() for p in model.parameters()])
        found = real(self, *arguments)
        seen.append([self.state[p]["exp_avg_sq"].clone() for p in model.parameters()])
        after.append(copy.deepcopy(model))
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    data = double(32)
    options = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.2}
    run(adaptive, data, model, epochs=1, **options)
    (told,) = adaptive._told  # of the second step: before the first there is no metric
    assert adaptive.history()[0]["step"] == 1
    both = [0.999 * v + 0.001 * g**2 for v, g in zip(seen[0], grads[1], strict=True)]
    torch.testing.assert_close(both, seen[1])
    expected = [1 / ((v / (1 - 0.999**2)).sqrt() + 1e-8) for v in both]
    torch.testing.assert_close(told["preconditioner"], expected)
    assert told["learning_rate"] == pytest.approx(1e-3)
    order = torch.randperm(32, generator=generator(0, "order", 0))[16:]
    mean = [(a + b) / 2 for a, b in zip(*told["difference"], strict=True)]
    assert told["curvature"].item() == pytest.approx(
        solved(after[0], data[0][order], mean, 1 / (2 * 1e-3) + 0.2, expected), rel=1e-6
    )


@pytest.mark.parametrize(("views", "steps"), [(None, None), (2, None), (1, 1)])
def test_epochs_of_augmented_rows_are_not_the_same_rows_but_in_one_view(views, steps):
    adaptive = Seen()
    shifted = Data(double(16), augment=lambda inputs, index, view: inputs + 0.0)
    run(adaptive, shifted, epochs=1, views=views)
    assert [told["steps_per_epoch"] for told in adaptive._told] == [steps]


def test_a_resumed_run_is_bit_identical(tmp_path, monkeypatch):
    import signal

    from limbeck.training import loop
    from limbeck.training.interrupts import Interrupted

    weight = {"mode": "hbar", "every": 2, "warmup": 2, "freeze_width": 9.0}
    whole = run(weight, epochs=4)
    original, calls = loop.Loop._one_step, []

    def signalled(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    settings = {"epochs": 4, "out": tmp_path, "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_one_step", signalled)
        with pytest.raises(Interrupted):
            run(weight, **settings)
    again = run(weight, resume=True, **settings)
    assert same(again.student, whole.student)
    assert again.record.weighing == whole.record.weighing
    assert again.record.curves == whole.record.curves
    saved = lb.RunRecord.open(tmp_path)
    assert saved.weighing == whole.record.weighing
    assert saved.settings["weight"] == weight


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_state_is_given_back_whole(accumulate):
    loops = []

    def keep(loop, findings):
        loops.append(loop)
        return len(loops) == 1  # the second is not run

    for _ in range(2):
        run({"every": 2}, on_ready=keep, accumulate=accumulate)
    first, second = (loop.weighing for loop in loops)
    second.restore(first.state(), loops[1].order.last_of_step)
    assert second.curvature.collected().index.equal(first.curvature.collected().index)
    assert second.curvature.collected().inputs.equal(first.curvature.collected().inputs)
    assert second._last == first._last == 8
    assert second.curvature.value.equal(first.curvature.value)
    assert second.adaptive.history() == first.adaptive.history()


def test_the_weight_moves_and_matters():
    weight = {"mode": "hbar", "every": 1, "warmup": 0, "freeze_width": 9.0}
    moved, plain = run(weight, epochs=6), run(0.9, epochs=6)
    assert moved.record.curves["distillation weight"][-1] < 0.8
    assert not same(moved.student, plain.student)
    history = moved.record.weighing
    assert [one["step"] for one in history] == list(range(18))
    assert {"tr_gg", "tr_gh", "tr_hh", "hbar2", "lower", "upper", "weight"} <= set(history[0])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_losspair_gets_the_losses_of_the_same_rows(accumulate):
    adaptive = AdaptiveWeight("losspair", weight=0.5, every=1, warmup=10**6)
    model = student()
    start = copy.deepcopy(model)
    x, y = double(16)
    run(adaptive, (x, y), model, epochs=1, accumulate=accumulate)
    with torch.no_grad():
        gap = F.cross_entropy(start(x), y) - F.cross_entropy(good_teacher().double()(x), y)
    assert adaptive.history()[0]["loss_difference"] == pytest.approx(gap.item())


def test_a_schedule_suits_every_loss():
    result = run(AdaptiveWeight(Linear(1.0, 0.0, steps=8)), loss=ITRD())
    assert result.record.curves["distillation weight"][-1] == 0.0


@pytest.mark.parametrize("make", [double_binary_student, double_ternary_student])
def test_students_whose_operators_have_no_derivative_in_forward_mode(make):
    result = run("auto", model=make(), epochs=2)
    assert result.record.weighing[0]["curvature"] > 0


@pytest.mark.parametrize(("batch_size", "every"), [(4, 1), (8, 1), (64, 8), (128, 16), (512, 20)])
def test_small_batches_are_measured_more_often(batch_size, every):
    assert adaptive_of("auto", (1.0, 1.0), 50, batch_size).every == every
    assert adaptive_of({"every": 3}, (1.0, 1.0), 50, batch_size).every == 3


def test_the_start_is_the_published_share():
    def start(weight, published):
        return adaptive_of(weight, published, 100, 64).weight.item()

    assert start("auto", (0.1, 0.9)) == pytest.approx(0.9)
    assert start("auto", (1.0, 3.0)) == pytest.approx(0.75)
    assert start({"mode": "losspair"}, (1.0, 76.0)) == pytest.approx(0.95)
    assert start({"weight": 0.2}, (0.1, 0.9)) == pytest.approx(0.2)
    warmups = [adaptive_of("auto", (1.0, 1.0), steps, 64).warmup for steps in (50, 5000)]
    assert warmups == [10, 200]


@pytest.mark.parametrize(
    ("weight", "options", "words"),
    [
        ("auto", {"loss": ITRD()}, "a mean over samples for weight='auto'; ITRD compares"),
        ("auto", {"loss_warmup_epochs": 1}, "no `loss_warmup_epochs` beside weight='auto'"),
        ({"mode": "hbra"}, {}, "`weight mode` to be one of hbar, losspair"),
        ({"evry": 3}, {}, "`weight option` .* Did you mean every"),
        ({"every": 0}, {}, "`every` > 0"),
        ("atuo", {}, "\"auto\", a mapping of options or an AdaptiveWeight; got 'atuo'"),
    ],
)
def test_what_is_refused(weight, options, words):
    with pytest.raises(ArgumentError, match=words):
        run(weight, **options)


def test_unless_forced():
    result = run("auto", loss=ITRD(), force=True)
    assert result.record.weighing


def test_without_a_teacher_nothing_is_weighed():
    result = lb.distill(student(), None, double(), weight="auto", **QUICK)
    assert result.record.weighing == []
    assert "distillation weight" not in result.record.curves


def test_a_batch_too_small_for_halves_is_not_measured():
    result = run(RESTING | {"weight": 0.5}, double(19), epochs=2)  # batches of 16 and 3
    assert [one["step"] for one in result.record.weighing] == [0, 2]


def test_batch_norm_and_frozen_parts():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    result = lb.distill(
        model, good_teacher(), rows(), loss=KD(), weight=RESTING, train_only=["3"], **QUICK
    )
    assert len(result.record.weighing) == 9
    assert int(model[1].num_batches_tracked) == 0


def test_one_command(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        'data: {module: "helpers.small:sets"}\nloss: kd\nweight: auto\n'
        'teacher: {model: "helpers.small:double_teacher"}\n'
        'student: {model: "helpers.small:double_student"}\n'
        "training: {epochs: 2, batch_size: 16, progress: false}\n"
    )
    command = ["distill", str(recipe), "--out", str(tmp_path / "run"), "--device", "cpu"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert lb.RunRecord.open(tmp_path / "run").settings["weight"] == "auto"
