"""The race of three weights before a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same

import limbeck as lb
from limbeck.checks import ArgumentError, CheckpointError
from limbeck.training import confirming, distil


WEIGHT = {"mode": "hbar", "every": 2, "warmup": 0, "confirm": True, "pilot": 0.5}


def run(weight=WEIGHT, **options):
    settings = QUICK | {"epochs": 4, "loss": "kd", "validation": rows(30, seed=6)} | options
    return lb.distill(network(seed=1), good_teacher(), rows(), weight=weight, **settings)


@pytest.fixture
def pilots(monkeypatch):
    """Return the settings of every pilot that is run."""
    seen = []
    real = confirming.race

    def noted(run, *arguments, **settings):
        def kept(student, *rest, **options):
            result = run(student, *rest, **options)
            seen.append((options, result))
            return result

        return real(kept, *arguments, **settings)

    monkeypatch.setattr(distil, "race", noted)
    return seen


def test_three_pilots_and_the_best_on_validation_wins(pilots):
    result = run()
    assert [options["weight"] for options, _ in pilots] == [
        0.0, pytest.approx(0.9), {"mode": "hbar", "every": 2, "warmup": 0},
    ]  # fmt: skip
    assert {options["epochs"] for options, _ in pilots} == {2}
    told = result.record.settings["weight_race"]
    values = [one.record.results["last"]["validation"]["accuracy"] for _, one in pilots]
    assert list(told["validation"].values()) == values
    names = ["none", "published", "measured"]
    shares = shares_by_hand([one.student for _, one in pilots])
    assert told["better_than_measured"] == pytest.approx(shares, abs=0.15)
    sure = [name for name in names[:2] if told["better_than_measured"][name] >= 0.95]
    winner = max(sure, key=lambda name: told["validation"][name], default="measured")
    assert (told["winner"], told["metric"], told["epochs"]) == (winner, "accuracy", 2)
    assert result.record.settings["weight"] == pilots[names.index(winner)][0]["weight"]


def shares_by_hand(students):
    """In how many of 4,000 resampled validation sets more rows are right than by the last one."""
    x, y = rows(30, seed=6)
    with torch.no_grad():
        right = np.array([(one(x).argmax(1) == y).numpy() for one in students])
    drawn = np.random.default_rng(0).integers(30, size=(4000, 30))
    sums = right[:, drawn].sum(-1)
    return dict(zip(("none", "published"), (sums[:2] > sums[2]).mean(1), strict=True))


@pytest.mark.parametrize(("share", "winner"), [(0.94, "measured"), (0.96, "published")])
def test_a_rival_must_be_better_for_sure(share, winner, monkeypatch):
    def drawn(said, *_):
        better = round(100 * share)
        found = {name: [0.5] * 100 for name in said}
        return found | {"published": [0.6] * better + [0.4] * (100 - better)}

    monkeypatch.setattr(confirming, "resampled_metrics", drawn)
    assert run().record.settings["weight_race"]["winner"] == winner


def test_a_pilot_has_the_whole_schedule():
    given = {"epochs": 40, "milestones": (10, 0.5, 30), "warmup_epochs": 4, "learning_rate": 0.1}
    short = confirming.shortened(given | {"loss_warmup_epochs": 2}, 4)
    assert short == {
        "epochs": 4, "milestones": (0.25, 0.5, 0.75), "warmup_epochs": 0.4,
        "loss_warmup_epochs": 0.2, "learning_rate": 0.1,
    }  # fmt: skip
    assert confirming.shortened({"epochs": 2, "milestones": (5,)}, 1)["milestones"] == ()


@pytest.mark.parametrize("winner", ["none", "published", "measured"])
def test_the_run_is_that_of_the_winner(winner, monkeypatch):
    weights = {"none": 0.0, "published": 0.9, "measured": {"mode": "hbar", "every": 2, "warmup": 0}}
    better = {"none": 0.1, "published": 0.1, "measured": 0.1} | {winner: 0.9}

    def drawn(said, rows, task, metric):
        assert (metric, len(rows)) == ("accuracy", 30)
        return {name: [better[name]] * 20 for name in said}

    monkeypatch.setattr(confirming, "resampled_metrics", drawn)
    result = run()
    assert result.record.settings["weight_race"]["winner"] == winner
    assert same(result.student, run(weights[winner]).student)


def test_the_lowest_wins_where_less_is_better(monkeypatch):
    x, _ = rows(40)
    y = x[:, :2]
    student, teacher = network(outputs=2), torch.nn.Linear(6, 2)
    teacher.load_state_dict({"weight": torch.eye(2, 6) * 0.0, "bias": torch.zeros(2)})
    result = lb.distill(
        student, teacher, (x, y), task="regression", loss="match", weight=WEIGHT, force=True,
        validation=(x, y), **QUICK | {"epochs": 4, "learning_rate": 0.01},
    )  # fmt: skip
    told = result.record.settings["weight_race"]
    assert told["metric"] == "mse"
    values = told["validation"]
    assert len(set(values.values())) == 3
    assert told["winner"] == min(values, key=values.get)


def test_a_resumed_run_does_not_race_again(tmp_path, pilots):
    first = run(out=tmp_path)
    assert {one.name for one in (tmp_path / "pilot").iterdir()} == {"none", "published", "measured"}
    again = run(out=tmp_path, resume=True)
    assert same(again.student, first.student)
    assert again.record.settings == first.record.settings
    anew = run(out=tmp_path, overwrite=True)
    assert same(anew.student, first.student)
    # Resumed pilots were only read; started anew they were trained.
    seconds = [one.record.started for _, one in pilots]
    assert seconds[:3] == seconds[3:6]
    assert len(pilots) == 9
    # Pilots with other settings are of no use: kept, they would be refused.
    assert run(out=tmp_path, overwrite=True, learning_rate=0.02).record.status == "finished"


def test_a_folder_that_is_taken_is_refused_before_the_race(tmp_path, pilots):
    run(0.5, out=tmp_path)
    with pytest.raises(CheckpointError, match="it holds a run"):
        run(out=tmp_path)
    assert pilots == []


def test_what_is_refused(pilots):
    with pytest.raises(ArgumentError, match="expected validation data for a weight with confirm"):
        run(validation=None)
    with pytest.raises(ArgumentError, match="Did you mean every"):
        run(WEIGHT | {"evry": 3})
    with pytest.raises(ArgumentError, match="a mean over samples"):
        run(loss="itrd")
    with pytest.raises(ArgumentError, match="`pilot` in"):
        run(WEIGHT | {"pilot": 1.5})
    assert pilots == []


def test_without_confirm_there_is_no_race(pilots):
    run({"mode": "hbar", "confirm": False})
    assert pilots == []


def test_a_limit_on_the_steps_is_shortened_too(pilots):
    """Else pilots of a run that stops early would each be as long as the run."""
    result = run(epochs=8, max_steps=12)  # of 24
    assert {(one["epochs"], one["max_steps"]) for one, _ in pilots} == {(4, 6)}
    lengths = {len(one.record.curves["loss total"]) for _, one in pilots}
    assert lengths == {2}  # epochs of three steps
    assert result.record.settings["max_steps"] == 12
