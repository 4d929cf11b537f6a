"""``train`` and ``distill`` from the shell's side."""

import json
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from limbeck import load
from limbeck.checks import LimbeckError
from limbeck.cli import forecasting, show
from limbeck.cli.recipe import read_recipe
from limbeck.record import RunRecord
from limbeck.training import distil
from limbeck.training.building import build
from limbeck.training.interrupts import Interrupted
from limbeck.training.saving import save_model
from limbeck.zoo.data import load_dataset


def _accuracy(model, data):
    inputs = data.source.inputs.float() / 255
    with torch.no_grad():
        return (model(inputs).argmax(1) == data.targets).double().mean().item()


def test_a_run_says_what_came_of_it(limbeck, recipe, teacher, tmp_path):
    out = tmp_path / "run"
    said, remarks = limbeck("distill", recipe, "training.epochs=2", "--out", out, "--seed", 5)
    record = RunRecord.open(out)
    assert (record.kind, record.status, record.seed) == ("distill", "finished", 5)
    assert record.settings["epochs"] == 2
    assert record.settings["loss"] == "KD"
    digits = load_dataset("digits")
    for moment, folder in (("last", "student"), ("best", "best")):
        value = _accuracy(load(out / folder), digits.test)
        assert record.results[moment]["test"]["accuracy"] == pytest.approx(value)
        assert f"{value:.4f}" in said
    assert f"{_accuracy(load(teacher), digits.test):.4f}" in said
    assert f"{record.results['mean_of_last_ten']['validation']['accuracy']:.4f}" in said
    for text in (
        "teacher",
        "student, last epoch",
        "best on validation",
        "mean of the last 2 epochs",
    ):
        assert text in said
    assert str(out) in said
    assert f"{record.time['seconds']:.1f} s" in said
    for warning in record.warnings:
        assert f"warning: {warning}" in remarks


def summary_of(capsys, monkeypatch, *, teacher, data, epochs=8, validation=None, **settings):
    """Return the lines of a run's summary."""
    monkeypatch.setenv("COLUMNS", "200")
    curves = {"loss total": [1.0] * epochs}
    if validation is not None:
        curves["validation accuracy"] = validation
    where = "test" if validation is None else "validation"
    record = RunRecord(
        kind="distill",
        seed=0,
        status="finished",
        settings={"task": "classification", "epochs": epochs, **settings},
        data=data,
        teacher=teacher,
        curves=curves,
        results={name: {where: {"accuracy": 0.5}} for name in ("last", "mean_of_last_ten")},
    )
    show.run_summary(record, None)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("teacher", "data", "line"),
    [
        (
            {"stores": []},
            {"validation": 9},
            "teacher, on 20 stored training rows: accuracy 0.7500.",
        ),
        ({"class": "Net"}, {}, "teacher, on 20 training rows: accuracy 0.7500."),
        (
            {"class": "Net", "stores": []},
            {"validation": 9},
            "teacher, on 20 rows: accuracy 0.7500.",
        ),
    ],
)
def test_what_a_teacher_knows_of_training_rows_is_in_no_column(
    capsys, monkeypatch, teacher, data, line
):
    seen = {**teacher, "slice": {"accuracy": 0.75, "rows": 20.0}, "test": {"accuracy": 0.625}}
    lines = summary_of(capsys, monkeypatch, teacher=seen, data=data)
    assert line in lines
    (row,) = [text for text in lines if "│ teacher " in text]
    assert "0.7500" not in row
    assert "0.6250" in row


def test_what_a_teacher_knows_of_validation_rows_is_in_that_column(capsys, monkeypatch):
    seen = {"class": "Net", "slice": {"accuracy": 0.75, "rows": 20.0}}
    lines = summary_of(capsys, monkeypatch, teacher=seen, data={"validation": 9})
    (row,) = [text for text in lines if "teacher" in text]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "teacher (20 validation rows)", "0.7500", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"validation": [0.5] * 8}, "mean of the last 8 epochs"),
        ({"epochs": 12, "validation": [0.5] * 12}, "mean of the last 10 epochs"),
        ({"validation": [None, 0.5] * 4, "evaluate_every": 2}, "mean of the last 4 evaluations"),
        ({"epochs": 3}, "mean of the last 3 epochs"),
        ({"epochs": 30}, "mean of the last 10 epochs"),
    ],
)
def test_a_mean_says_over_how_many_epochs(capsys, monkeypatch, given, words):
    assert words in "\n".join(summary_of(capsys, monkeypatch, teacher={}, data={}, **given))


def test_the_recipe_lies_beside_the_run_and_repeats_it(limbeck, recipe, tmp_path):
    out = tmp_path / "run"
    limbeck("distill", recipe, "training.learning_rate=0.02", "--out", out)
    kept = read_recipe(str(out / "recipe.yaml"))
    assert kept.training.learning_rate == 0.02
    assert kept.out == out
    limbeck("distill", out / "recipe.yaml", "--out", tmp_path / "again")
    first, again = (load_file(tmp_path / x / "student/model.safetensors") for x in ("run", "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_json_is_all_of_standard_output(limbeck, recipe, tmp_path):
    found = limbeck.json("distill", recipe, "--out", tmp_path / "run")
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert found == {"folder": str(tmp_path / "run"), "record": record}


def test_options_become_fields(limbeck, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = limbeck.json("distill", recipe, "--seed", 2, "--device", "cpu", "--force")
    assert found["folder"] == "runs/small"
    assert found["record"]["seed"] == 2
    assert found["record"]["settings"]["device"] == "cpu"
    assert found["record"]["settings"]["force"] is True


def test_recipe_from_standard_input(limbeck, recipe, tmp_path):
    out = tmp_path / "run"
    limbeck("distill", "-", f"out={out}", stdin=recipe.read_text())
    assert RunRecord.open(out).status == "finished"
    _, said = limbeck("distill", "-", stdin="seed: [", code=2)
    assert "standard input, line 1" in said


def test_existing_runs_are_refused_and_stay(limbeck, recipe, tmp_path):
    out = tmp_path / "run"
    limbeck("distill", recipe, "--out", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    _, said = limbeck("distill", recipe, "--out", out, "--seed", 1, code=2)
    assert "holds a run (finished)" in " ".join(said.split())
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    limbeck("distill", recipe, "--out", out, "--seed", 1, "--overwrite")
    assert RunRecord.open(out).seed == 1


def test_resuming_a_finished_run_trains_nothing(limbeck, recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    first = limbeck.json("distill", recipe, "--out", out)
    weights = (out / "student/model.safetensors").read_bytes()

    def trained(self):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(distil.Loop, "run", trained)
    again = limbeck.json("distill", recipe, "--out", out, "--resume")
    assert again == first
    assert (out / "student/model.safetensors").read_bytes() == weights
    _, said = limbeck("distill", recipe, "--out", out, "--resume", "training.epochs=3", code=2)
    assert "other settings (epochs)" in " ".join(said.split())


def test_train_and_distill_refuse_each_others_recipes(limbeck, recipe, tmp_path):
    _, said = limbeck("train", recipe, code=2)
    assert "add teacher=null to train the student alone" in " ".join(said.split())
    _, said = limbeck("distill", recipe, "teacher=null", code=2)
    assert "use limbeck train" in " ".join(said.split())
    found = limbeck.json("train", recipe, "teacher=null", "--out", tmp_path / "control")
    assert found["record"]["kind"] == "train"
    assert found["record"]["teacher"] == {}


def test_several_losses(limbeck, recipe, tmp_path):
    losses = "loss={kd: {weight: 0.5, temperature: 2}, itrd: {}}"
    record = limbeck.json("distill", recipe, losses, "--out", tmp_path / "run")["record"]
    curves = record["curves"]
    total = curves["loss task"][0] + 0.5 * curves["loss kd"][0] + curves["loss itrd"][0]
    assert curves["loss total"][0] == pytest.approx(total)


def test_preflight_errors_stop_the_run_unless_forced(limbeck, recipe, tmp_path):
    untrained = ("teacher={model: 'zoo:small_cnn', width: 4}", "--out", tmp_path / "run")
    _, said = limbeck("distill", recipe, *untrained, code=2)
    assert "where guessing gives" in " ".join(said.split())
    assert not (tmp_path / "run").exists()
    _, said = limbeck("distill", recipe, *untrained, "--force")
    assert "warning: forced: teacher" in said


def test_an_interrupted_run_keeps_its_recipe(limbeck, recipe, tmp_path, monkeypatch):
    def stopped(self):
        raise Interrupted("distill: stopped by SIGTERM", 15)

    with monkeypatch.context() as patched:
        patched.setattr(distil.Loop, "run", stopped)
        limbeck("distill", recipe, "--out", tmp_path / "run", code=143)
    assert RunRecord.open(tmp_path / "run").status == "interrupted"
    limbeck("distill", tmp_path / "run/recipe.yaml", "--resume")
    assert RunRecord.open(tmp_path / "run").status == "finished"


def test_other_processes_print_nothing(limbeck, recipe, tmp_path, monkeypatch):
    limbeck("distill", recipe, "--out", tmp_path / "run")
    monkeypatch.setenv("RANK", "1")
    resumed = ("distill", recipe, "--out", tmp_path / "run", "--resume")
    (tmp_path / "run/recipe.yaml").unlink()
    assert limbeck(*resumed) == ("", "")
    assert not (tmp_path / "run/recipe.yaml").exists()
    assert limbeck(*resumed, "--json") == ("", "")


def test_dry_run_shows_a_recipe_and_leaves_nothing(limbeck, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said, _ = limbeck("distill", recipe, "training.epochs=7", "--dry-run")
    assert sorted(tmp_path.rglob("*")) == before
    text = said.partition("fact:")[0]
    assert yaml.safe_load(text)["training"]["epochs"] == 7
    assert "an estimate" in said
    assert "nothing was trained or written" in said


def test_dry_run_ends_with_2_where_the_run_would(limbeck, recipe, tmp_path):
    untrained = ("teacher={model: 'zoo:small_cnn', width: 4}", "--out", tmp_path / "run")
    said, _ = limbeck("distill", recipe, *untrained, "--dry-run", code=2)
    assert "error: teacher" in said
    limbeck("distill", recipe, *untrained, "--dry-run", "--force")
    assert not (tmp_path / "run").exists()
    _, said = limbeck("distill", recipe, "--dry-run", "--resume", code=2)
    assert "no --resume" in said
    plan = limbeck.json("distill", recipe, "--dry-run", "--seeds", 3)
    assert plan["runs"] == 3


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with a module of the user's own, which is on no path of imports."""
    (tmp_path / "nets_of_a_newcomer.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def net(width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))\n"
        "def rows():\n"
        "    return (torch.rand(40, 1, 8, 8), torch.arange(40) % 10), None, None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("nets_of_a_newcomer", None)


@pytest.mark.parametrize("field", ["student", "data.module"])
def test_modules_of_the_present_folder_are_found(limbeck, here, field):
    given = {
        "student": ("data=digits", "student=nets_of_a_newcomer:net"),
        "data.module": ("data={module: 'nets_of_a_newcomer:rows'}", "student=zoo:small_cnn"),
    }[field]
    (here / "r.yaml").write_text("training: {epochs: 1, device: cpu}\n")
    limbeck("train", "r.yaml", *given, "--dry-run")
    assert sys.path[-1] == str(here)  # last: it hides nothing that is installed


@pytest.mark.parametrize("command", ["distill", "train", "forecast", "cache", "weigh"])
def test_trust_is_an_option_of_all_that_read_folders(limbeck, here, monkeypatch, command):
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(here))
        save_model(build("nets_of_a_newcomer:net", width=3), here / "own")
        sys.modules.pop("nets_of_a_newcomer")
    own, small = {"folder": "own"}, {"model": "zoo:mlp", "inputs": 64}
    recipe = {
        "data": {"name": "digits", "limit": 100},
        "teacher": None if command == "train" else own,
        "student": own if command == "train" else small,
        "loss": "kd",
        "training": {"epochs": 1, "batch_size": 50, "device": "cpu", "progress": False},
    }
    (here / "r.yaml").write_text(yaml.safe_dump(recipe))
    more = {"distill": ("--force", "--dry-run"), "train": ("--dry-run",), "cache": ("--dry-run",)}
    more["weigh"] = ("--rows", 16, "--no-curvature", "training.force=true")
    asked = (command, "r.yaml", *more.get(command, ()))
    _, said = limbeck(*asked, code=2)
    said = " ".join(said.split())
    assert "asks to call nets_of_a_newcomer:net" in said
    assert "--trust; in a recipe: `trust: true` beside `folder`" in said

    def reached(*_, **__):
        raise LimbeckError("all was built")

    monkeypatch.setattr(forecasting, "forecast", reached)
    _, said = limbeck(*asked, "--trust", code=2 if command == "forecast" else 0)
    assert command != "forecast" or "all was built" in said
    sys.modules.pop("nets_of_a_newcomer")
    sys.path.remove(str(here))
    side = "student" if command == "train" else "teacher"
    limbeck(*asked, f"{side}.trust=true", code=2 if command == "forecast" else 0)


def test_one_run_is_not_put_among_those_of_several_seeds(limbeck, recipe, tmp_path):
    many, one = tmp_path / "many", tmp_path / "one"
    limbeck("distill", recipe, "--out", many, "--seeds", 2)
    for more in ((), ("--resume",)):
        _, said = limbeck("distill", recipe, "--out", many, *more, code=2)
        told = "expected an empty folder; it holds runs of several seeds (seed0, seed1)"
        assert told in " ".join(said.split())
    assert not (many / "record.json").exists()
    limbeck("distill", recipe, "--out", many, "--seeds", 2, "--resume")
    limbeck("distill", recipe, "--out", many, "--overwrite")
    assert RunRecord.open(many).seed == 0
    limbeck("distill", recipe, "--out", one)
    _, said = limbeck("distill", recipe, "--out", one, "--seeds", 2, code=2)
    told = "expected an empty folder for 2 seeds; it holds a single run"
    assert told in " ".join(said.split())
    assert not (one / "seed0").exists()
    limbeck("distill", recipe, "--out", one, "--seeds", 2, "--overwrite")
    assert (one / "seed1/record.json").is_file()
