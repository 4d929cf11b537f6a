"""Budgets, and the short runs within them: as many steps with a teacher as without."""

import math

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same
from torch import nn

from limbeck.data import Data
from limbeck.forecasting import short_runs
from limbeck.forecasting.short_runs import Budget, control, distilled, gains


class Counting(nn.Module):
    """A student that notes, over all of its copies, the rows of every step."""

    batches: list[int] = []  # noqa: RUF012  (shared by copies on purpose)

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        if self.training:
            Counting.batches.append(len(x))
        return self.inner(x)


def budget(labelled=61, epochs=10, **changes):
    x, y = rows(61)
    y = torch.where(torch.arange(61) < labelled, y, -1)
    return Budget.of(Data((x, y)), y, QUICK | {"epochs": epochs, "seed": 0} | changes)


@pytest.mark.parametrize(
    ("labelled", "epochs", "batch"),
    [
        (61, 40, 16),  # 4 steps an epoch, of all rows
        (20, 80, 16),  # 2 steps an epoch
        (5, 160, 5),  # one step of all five
        (16, 160, 16),
        (17, 80, 16),
    ],
)
def test_the_control_has_as_many_steps(labelled, epochs, batch):
    """61 rows in batches of 16 are 4 steps an epoch, 160 in 40 epochs."""
    found = budget(labelled, epochs=40)
    assert (found.steps, len(found.rows), len(found.labelled)) == (160, 61, labelled)
    assert found.control["batch_size"] == batch
    assert found.control["epochs"] == epochs
    assert found.control["epochs"] * math.ceil(labelled / batch) == found.steps
    assert bool((found.labelled.targets >= 0).all())


def test_steps_as_they_are_made():
    for labelled in (61, 20, 5):
        one = budget(labelled, epochs=4)
        for train in (
            lambda one: control(Counting(), one),
            lambda one: distilled(Counting(), good_teacher(), one, loss="kd"),
        ):
            Counting.batches.clear()
            train(one)
            assert len(Counting.batches) == one.steps == 16
        assert sum(Counting.batches) == 4 * 61  # with a teacher all rows count


def test_all_labelled_rows_need_no_other_settings():
    one = budget(61)
    assert one.control is one.settings
    assert one.labelled is one.rows


def test_the_schedule_is_stretched_over_the_control():
    found = budget(20, epochs=40, schedule="step", milestones=(10, 0.5), warmup_epochs=4.0)
    assert found.control["epochs"] == 80
    assert found.control["milestones"] == (0.25, 0.5)
    assert found.control["warmup_epochs"] == 8.0
    assert found.settings["milestones"] == (10, 0.5)


@pytest.fixture
def runs(monkeypatch):
    """Keep what short runs are made of."""
    found = []
    real = short_runs.distill

    def noted(student, teacher, data, **options):
        found.append({"teacher": teacher, "rows": len(data), **options})
        return real(student, teacher, data, **options)

    monkeypatch.setattr(short_runs, "distill", noted)
    return found


def test_a_share_is_the_run_on_a_shorter_schedule(runs):
    student, teacher = network(), good_teacher()
    before = network()
    one = budget(20, epochs=40)
    made = control(student, one, share=0.1, label_smoothing=0.3)
    distilled(student, teacher, one, share=0.1, loss="dkd", weight=0.5)
    control(student, one, share=0.001)
    distilled(student, teacher, one)
    assert same(student, before)
    assert not same(made, before)
    plain, guided, shortest, whole = runs
    assert (plain["teacher"], plain["rows"], plain["epochs"]) == (None, 20, 8)
    assert plain["task"].label_smoothing == 0.3
    assert (guided["teacher"], guided["rows"], guided["epochs"]) == (teacher, 61, 4)
    assert (guided["loss"], guided["weight"]) == ("dkd", 0.5)
    assert (shortest["epochs"], shortest["task"].label_smoothing) == (1, 0.0)
    assert (whole["epochs"], whole["rows"]) == (40, 61)
    assert {run["seed"] for run in runs} == {0}


def test_gains_row_by_row():
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(50, 4, generator=generator) for _ in range(2))
    targets = torch.randint(4, (50,), generator=generator)
    right, bits = [0, 0], [0.0, 0.0]
    for which, logits in enumerate((before.double().tolist(), after.double().tolist())):
        for row, target in zip(logits, targets.tolist(), strict=True):
            right[which] += row[target] == max(row)
            bits[which] += math.log2(sum(map(math.exp, row))) - row[target] / math.log(2)
    points, gain = gains(before, after, targets)
    assert points == pytest.approx(100 * (right[1] - right[0]) / 50)
    assert gain == pytest.approx((bits[0] - bits[1]) / 50)
    assert gains(after, before, targets) == pytest.approx((-points, -gain))
    assert gains(after, after, targets) == (0.0, 0.0)
