"""Estimates of a run, and that they leave no trace."""

import copy

import pytest
import torch

from limbeck import distill
from limbeck.cli.dry_run import DryRun, _duration
from limbeck.training.options import Options
from limbeck.zoo.networks import mlp, small_cnn


WIDTHS = (6, 5, 3)
PARAMETERS = 6 * 5 + 5 + 5 * 3 + 3


def _measured(tmp_path, student=None, shape=(6,), *, runs=1, held_out=None, **changes):
    torch.manual_seed(0)
    rows = torch.rand(40, *shape), torch.arange(40) % 3
    options = {"epochs": 4, "batch_size": 8, "device": "cpu", "progress": False} | changes
    dry = DryRun(Options(**options), runs=runs)
    held_out = {"validation": rows, "test": rows} if held_out is None else held_out
    student = student or mlp(inputs=6, hidden=[5], num_classes=3)
    distill(
        student,
        None,
        rows,
        **held_out,
        out=tmp_path / "run",
        on_ready=dry.measure,
        **options,
    )
    return dry


def test_numbers_that_can_be_counted(tmp_path):
    dry = _measured(tmp_path)
    assert dry.parameters == {"student": PARAMETERS}
    assert dry.steps == 4 * 5
    assert dry.memory["parameters"] == 4 * PARAMETERS
    assert dry.memory["gradients"] == 4 * PARAMETERS
    assert dry.memory["optimizer"] == 4 * PARAMETERS  # the momentum
    parts = ("parameters", "gradients", "optimizer", "activations")
    assert dry.memory["together"] == sum(dry.memory[part] for part in parts)
    # At least the inputs and the hidden features of 8 rows wait for the backward pass.
    assert dry.memory["activations"] >= 4 * 8 * (WIDTHS[0] + WIDTHS[1])
    assert dry.memory["activations"] < 4 * 8 * 20 * sum(WIDTHS)
    assert dry.seconds["training"] > 0
    assert dry.seconds["evaluation"] > 0
    assert not list(tmp_path.iterdir())


def test_activations_grow_with_the_batch_and_shrink_with_accumulation(tmp_path):
    small = _measured(tmp_path, batch_size=8).memory["activations"]
    large = _measured(tmp_path, batch_size=40).memory["activations"]
    parts = _measured(tmp_path, batch_size=40, accumulate=5).memory["activations"]
    assert large == pytest.approx(5 * small, rel=0.2)
    assert parts == pytest.approx(small, rel=0.2)


def test_adamw_keeps_twice_as_much(tmp_path):
    state = _measured(tmp_path, optimizer="adamw").memory["optimizer"]
    assert 8 * PARAMETERS <= state <= 8 * PARAMETERS + 64


@pytest.fixture
def ticking(monkeypatch):
    """Let a second pass between two looks at the clock: 10 steps, or 40 evaluated rows."""
    ticks = iter(range(100))
    monkeypatch.setattr("limbeck.cli.dry_run.perf_counter", lambda: float(next(ticks)))


@pytest.mark.parametrize("runs", [1, 3])
def test_seeds_multiply_the_time(tmp_path, ticking, runs):
    dry = _measured(tmp_path, runs=runs)
    assert dry.seconds["training"] == pytest.approx(runs * 20 / 10)
    # 40 rows after each of 4 epochs, 40 test rows for the last and for the best student
    assert dry.seconds["evaluation"] == pytest.approx(runs * (4 * 40 + 2 * 40) / 40)
    assert dry.as_dict()["runs"] == runs


def test_evaluations_are_counted_as_the_run_makes_them(tmp_path, ticking):
    rows = torch.rand(40, 6), torch.arange(40) % 3
    few = _measured(tmp_path, epochs=5, evaluate_every=2)
    assert few.seconds["evaluation"] == pytest.approx(3 + 2)  # after 2, 4 and 5 epochs
    test = _measured(tmp_path, epochs=12, held_out={"test": rows})
    assert test.seconds["evaluation"] == pytest.approx(10 + 1)  # the last ten epochs, the result
    assert _measured(tmp_path, held_out={}).seconds["evaluation"] == 0


@pytest.mark.parametrize(
    ("seconds", "shown"), [(89.9, "89.9 s"), (90.0, "2 min"), (5399.0, "90 min"), (5400.0, "1.5 h")]
)
def test_durations_in_a_fitting_unit(seconds, shown):
    assert _duration(seconds) == shown


def test_one_long_epoch_can_be_measured(tmp_path):
    assert _measured(tmp_path, epochs=1, batch_size=40).steps == 1


def test_the_program_measures_a_student_of_its_own(limbeck, recipe, tmp_path, monkeypatch):
    """The student that is trained afterwards is the one that would have been trained before."""
    out = tmp_path / "run"
    plain = limbeck.json("distill", recipe, "--out", tmp_path / "plain")["record"]["curves"]
    plan = limbeck.json("distill", recipe, "--out", out, "--dry-run")
    assert not out.exists()
    assert plan["recipe"]["out"] == str(out)
    assert set(plan["parameters"]) == {"student", "teacher"}
    assert plan["steps"] == 4
    said = {"level": "fact", "text": "augment: CropFlip(padding=1, flip=False, seed=0)"}
    assert said in plan["findings"]
    plain_rows = limbeck.json("distill", recipe, "data.augment=none", "--out", out, "--dry-run")
    assert not [one for one in plain_rows["findings"] if "augment" in one["text"]]
    after = limbeck.json("distill", recipe, "--out", out)["record"]["curves"]
    assert after["loss total"] == plain["loss total"]
    plan = limbeck.json("distill", recipe, "--out", out, "--dry-run")
    assert any("holds a run" in one["text"] for one in plan["findings"])


def test_the_student_is_as_before(tmp_path):
    student = small_cnn(width=3, depth=1, num_classes=3)  # its batch norm counts steps, too
    before = copy.deepcopy(student.state_dict())
    dry = _measured(tmp_path, student, shape=(1, 4, 4))
    assert dry.steps == 20
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
