"""``measure``: what is measured, on which rows, and what is printed and written."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.measured import Recorder, estimate, pid_estimate

from limbeck.checks import ArgumentError
from limbeck.cli.atoms import print_measurement
from limbeck.cli.specs import data_spec, labels_of, layer_spec, model_spec
from limbeck.training import measuring
from limbeck.training.measurement import Entry, Measurement
from limbeck.zoo.data import load_dataset


CNN = "zoo:small_cnn,width=4,depth=2"


@pytest.fixture
def recorder(monkeypatch):
    """Put a recorder in the estimator's place."""
    found = Recorder()
    monkeypatch.setattr(measuring, "estimate_pid", found)
    return found


@pytest.fixture
def run(tmp_path_factory, limbeck, recipe, tmp_path):
    """Return the folder of a run that distilled the teacher."""
    limbeck("distill", recipe, "--out", tmp_path / "run")
    return tmp_path / "run"


def test_table_verdict_and_files_with_the_real_estimator(limbeck, teacher, tmp_path):
    out = tmp_path / "out"
    said, errors = limbeck(
        *("measure", "--teacher", teacher, "--student", CNN, "--data", "digits"),
        *("--set", "test", "--method", "cells", "--rows", 300, "--device", "cpu", "--out", out),
    )
    record = json.loads((out / "measurement.json").read_text())
    (entry,) = record["entries"]
    left = entry["estimate"]["unique_teacher"]
    ours, theirs = (record["cross_entropy"][one][entry[one]] for one in ("student", "teacher"))
    gap = entry["gap"]
    assert gap["value"] == pytest.approx(ours["value"] - theirs["value"])
    assert entry["teacher"] == str(teacher)
    assert entry["student"] == "small_cnn"
    assert left["n"] == 300
    assert left["upper"] > 0.5  # an untrained network lacks most
    for text in (
        "digits, test rows, n = 300",
        f"{left['lower']:.3f}",
        f"{left['upper']:.3f}",
        "distilled (both)",
        "targets, H(Y)",
        "accuracy",
        "cross-entropy, student less teacher, bits",
        f"{entry['verdict']}: ",
        f"own scores: {gap['value']:+.2f} [{gap['lower']:+.2f}, {gap['upper']:+.2f}] bits",
        f"{out}: measurement.json, atoms.svg",
    ):
        assert text in said, text
    for text in entry["estimate"]["warnings"]:
        assert text.split()[0] in errors
    assert "300 rows for 10 classes" in errors


def test_a_run_is_measured_on_its_own_validation_rows(limbeck, recorder, run):
    found = limbeck.json("measure", run, "--device", "cpu")
    rows = load_dataset("digits").validation
    # The teacher was trained by a recipe that parts the digits alike.
    assert (found["set"], found["remarks"]) == ("validation", [])
    assert torch.equal(recorder.calls[0]["targets"], rows.targets)
    assert found["entries"][0]["student"] == str(run)
    assert found["unit"] == "bits"
    other = limbeck.json("measure", run, "--device", "cpu", "data.split_seed=1")
    assert other["set"] == "test"
    assert "may have been trained on validation rows" in other["remarks"][0]
    train = limbeck.json("measure", run, "--device", "cpu", "--set", "train", "data.limit=100")
    assert train["data"]["used"] == 100
    assert "memorised" in train["warnings"][0]


def test_weights_from_elsewhere_are_measured_on_test_rows(limbeck, recorder, teacher, run):
    weights = f"{CNN},weights={run / 'student' / 'model.safetensors'}"
    command = ("measure", "--teacher", teacher, "--student", weights, "--data", "digits")
    found = limbeck.json(*command, "--device", "cpu")
    assert found["set"] == "test"
    assert found["data"]["used"] == 539
    assert found["remarks"] == ["test rows: small_cnn may have been trained on validation rows"]
    found = limbeck.json(*command, "--device", "cpu", "--set", "validation")
    assert found["set"] == "validation"
    assert "--set test is safer" in found["remarks"][0]


def test_a_recipe_with_overrides_and_layers(limbeck, recorder, recipe):
    found = limbeck.json(
        *("measure", recipe, "student.width=5", "--layers", "student=stage1", "--layers"),
        *("teacher=penultimate,teacher=logits", "--seed", 4, "--device", "cpu"),
    )
    pairs = [(entry["teacher_layer"], entry["student_layer"]) for entry in found["entries"]]
    assert pairs == [("penultimate", "stage1"), ("logits", "stage1")]
    assert recorder.calls[0]["seed"] == 4
    assert recorder.calls[0]["student"].shape[1] == 5
    own = limbeck.json("measure", recipe, "layers={student: stage1, teacher: stage2}")
    assert own["entries"][0]["student_layer"] == "stage1"
    assert own["entries"][0]["teacher_layer"] == "stage2"


def test_students_make_a_trajectory_and_teachers_a_ranking(
    limbeck, recorder, teacher, run, tmp_path
):
    texts = [("few rows",), ("few rows", "the last one")]
    recorder.answer = lambda number: pid_estimate(
        (0.25, 1.5)[number % 2], warnings=texts[number % 2]
    )
    out = tmp_path / "out"
    said, errors = limbeck(
        *("measure", "--teacher", teacher, "--student", run / "student", "--student", run / "best"),
        *("--data", "digits", "--device", "cpu", "--out", out),
    )
    assert "[1.400, 1.600]" in said
    assert "warning: few rows\nwarning: best: the last one\n" in errors
    assert said.index("│ student ") < said.index("│ best ")
    assert {path.name for path in out.iterdir()} >= {"trajectory.svg", "atoms.svg"}
    said, _ = limbeck(
        *("measure", "--teacher", CNN, "--teacher", teacher, "--student", run),
        *("--data", "digits", "--device", "cpu", "--out", out),
    )
    table = said[: said.index("own scores")]
    assert table.index(f"│ {teacher}") < table.index("│ small_cnn")  # the trained one is better
    assert not (out / "trajectory.svg").exists()


def test_real_targets_and_labels_that_look_like_markup(capsys):
    changes = {"target_entropy": None, "rivals": {"teacher_r2": 0.5}}
    entry = Entry("[red]t", "[b]s", "0", "1", pid_estimate(**changes))
    scores = {"student": {"[b]s": estimate(0.5)}}
    one = Measurement((entry,), scores, scores, {"used": 9}, {})
    print_measurement(replace(one, entries=(entry, replace(entry, student="[i]u"))), "rows")
    said = capsys.readouterr().out
    assert "│ [b]s " in said
    assert "│ [i]u " in said
    print_measurement(one, "rows")
    said = capsys.readouterr().out
    assert "[red]t (0) to [b]s (1)" in said
    assert "│ student [b]s " in said
    assert "H(Y)" not in said
    assert "held-out R^2 of the teacher" in said
    assert "0.5000" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", CNN, "--data", "digits"], "expected a teacher; got none"),
        (["--teacher", CNN, "--data", "digits"], "expected a student; got none"),
        (["--teacher", CNN, "--student", CNN], "expected data; got none"),
        (["--teacher", "smal", "--student", CNN, "--data", "digits"], "'smal', which is no folder"),
        (["--teacher", "zoo:smal_cnn", "--student", CNN, "--data", "digits"], "mean small_cnn"),
        (["--teacher", CNN, "--student", CNN, "--data", "digit"], "'digit'. Did you mean digits"),
        (
            ["--teacher", CNN, "--student", CNN, "--data", "digits", "--layers", "techer=a"],
            "'techer=a'. Did you mean teacher",
        ),
        (
            ["--teacher", CNN, "--student", CNN, "--data", "digits", "--layers", "stage7"],
            "'stage7', whose path does not exist",
        ),
        (["nowhere.yaml"], "expected a recipe; there is no such file"),
    ],
)
def test_what_is_wrong_is_said(limbeck, recorder, arguments, message):
    _, said = limbeck("measure", *arguments, code=2)
    assert message in " ".join(said.split())


def test_a_folder_without_recipe_is_refused(limbeck, tmp_path):
    _, said = limbeck("measure", tmp_path, code=2)
    assert "it has none. Give --student" in " ".join(said.split())


def test_models_as_texts(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert model_spec(str(folder), "x") == {"folder": str(folder)}
    assert model_spec("{model: zoo:mlp, hidden: [3]}", "x") == {"model": "zoo:mlp", "hidden": [3]}
    assert model_spec("zoo:mlp,dropout=0.5", "x") == {"model": "zoo:mlp", "dropout": 0.5}
    with pytest.raises(ArgumentError, match="got 'width=3'"):
        model_spec("width=3", "x")


def test_data_as_texts(tmp_path):
    assert data_spec("cifar10", tmp_path) == {"name": "cifar10", "folder": str(tmp_path)}
    assert data_spec(str(tmp_path), None) == {"name": "folder", "folder": str(tmp_path)}
    (tmp_path / "a.npz").touch()
    assert data_spec(str(tmp_path / "a.npz"), None)["name"] == "npz"
    (tmp_path / "train.jsonl.xz").touch()
    assert data_spec(str(tmp_path), None)["module"] == "limbeck.zoo.text:load_text"
    assert data_spec("helpers.small:sets", None) == {"module": "helpers.small:sets"}


def test_layers_and_labels_as_texts():
    assert layer_spec([]) is None
    assert layer_spec(["a.b", "student=c"]) == {"teacher": ["a.b"], "student": ["a.b", "c"]}
    assert labels_of(["runs/a/seed0", "runs/b/seed0", "runs/b/seed0"]) == ["a", "b", "b #2"]
    assert labels_of(["runs/a/seed0"]) == ["runs/a/seed0"]


@pytest.mark.slow
def test_pretrained_resnets(limbeck, shared_data):
    """resnet56 as teacher and resnet20 as student on CIFAR-10, by the accuracies published."""
    weights = shared_data / "weights"
    teacher, student = (
        f"zoo:{name},num_classes=10,shortcut=pad,normalisation=imagenet,"
        f"weights={weights / f'cifar10_{name}.pt'}"
        for name in ("resnet56", "resnet20")
    )
    found = limbeck.json(
        *("measure", "--teacher", teacher, "--student", student),
        *("--data", "cifar10", "--folder", shared_data / "cifar10", "--rows", 1000),
        *("--method", "gaussian", "--device", "cpu"),
    )
    assert found["set"] == "test"
    accuracy = {side: one for side, found in found["accuracy"].items() for one in found.values()}
    assert accuracy["teacher"]["lower"] <= 0.9339 <= accuracy["teacher"]["upper"]
    assert accuracy["student"]["lower"] <= 0.9173 <= accuracy["student"]["upper"]
