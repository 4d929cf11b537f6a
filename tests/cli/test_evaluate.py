"""``evaluate`` and its predictions."""

import csv
import shutil

import pytest
import torch

from limbeck import Data, RunRecord, load
from limbeck.checks import ArgumentError
from limbeck.cli.material import Material
from limbeck.cli.predictions import write_predictions
from limbeck.training.building import build
from limbeck.training.saving import save_model
from limbeck.types import Batch
from limbeck.zoo.data import load_dataset


def _batch(targets):
    rows = torch.arange(len(targets))
    return Batch({}, targets, rows, rows)


def _rows(path):
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_and_predictions_are_the_models(limbeck, teacher, tmp_path):
    path = tmp_path / "deep" / "out.csv"
    found = limbeck.json("evaluate", teacher, "--predictions", path, "--device", "cpu")
    test = load_dataset("digits").test
    with torch.no_grad():
        logits = load(teacher)(test.source.inputs.float() / 255)
    probabilities = logits.double().softmax(1)
    assert found["rows"] == len(test) == 539
    assert found["metrics"]["accuracy"] == pytest.approx(
        (logits.argmax(1) == test.targets).double().mean().item()
    )
    rows = _rows(path)
    assert list(rows[0]) == [
        "index",
        "target",
        "prediction",
        "probability",
        *(f"p_{name}" for name in range(10)),
    ]
    assert [int(row["index"]) for row in rows] == list(range(539))
    assert [int(row["target"]) for row in rows] == test.targets.tolist()
    assert [int(row["prediction"]) for row in rows] == logits.argmax(1).tolist()
    columns = torch.tensor([[float(row[f"p_{name}"]) for name in range(10)] for row in rows])
    torch.testing.assert_close(columns.double(), probabilities, rtol=1e-5, atol=1e-6)
    sure = torch.tensor([float(row["probability"]) for row in rows])
    torch.testing.assert_close(sure.double(), probabilities.amax(1), rtol=1e-5, atol=1e-6)
    assert [path.name for path in path.parent.iterdir()] == ["out.csv"]


def test_table_says_model_data_and_metrics(limbeck, teacher):
    said, _ = limbeck("evaluate", teacher / "student", "--set", "validation")
    accuracy = limbeck.json("evaluate", teacher, "--set", "validation")["metrics"]["accuracy"]
    assert "on digits, 126 validation rows" in said
    assert f"{accuracy:.6g}" in said


def test_the_best_student_can_be_asked_for(limbeck, teacher):
    found = limbeck.json("evaluate", teacher / "best", "--set", "validation")
    best = RunRecord.open(teacher).results["best"]["validation"]["accuracy"]
    assert found["metrics"]["accuracy"] == pytest.approx(best)


def test_data_by_name_by_recipe_and_with_overrides(limbeck, teacher, recipe):
    first = limbeck.json("evaluate", teacher)["metrics"]
    assert limbeck.json("evaluate", teacher, "--data", "digits")["metrics"] == first
    assert limbeck.json("evaluate", teacher, "--data-of", recipe)["metrics"] == first
    train = limbeck.json("evaluate", teacher, "data.limit=50", "--set", "train")
    assert train["rows"] == 50
    _, said = limbeck("evaluate", teacher, "--data", "digits", "--data-of", recipe, code=2)
    assert "got both" in said
    _, said = limbeck("evaluate", teacher, "data.validation=0", "--set", "validation", code=2)
    assert "expected validation rows; got none" in said


def test_models_without_a_recipe_ask_for_data(limbeck, teacher, tmp_path):
    shutil.copytree(teacher / "student", tmp_path / "alone" / "model")
    _, said = limbeck("evaluate", tmp_path / "alone" / "model", code=2)
    assert "Give --data-of RECIPE or --data NAME" in " ".join(said.split())
    limbeck("evaluate", tmp_path / "alone" / "model", "--data", "digits")


def test_foreign_code_is_not_called_unasked(limbeck, tmp_path):
    save_model(build("helpers.small:network", width=4), tmp_path)
    _, said = limbeck("evaluate", tmp_path, "--data", "digits", code=2)
    assert "asks to call helpers.small:network" in " ".join(said.split())


def test_rows_without_labels_are_predicted(limbeck, teacher, tmp_path, monkeypatch):
    digits, path = load_dataset("digits"), tmp_path / "p.csv"
    bare = Data(digits.test.source.inputs)
    own = Material("own", digits.train, None, bare, class_names=[*"abcdefghij"])
    monkeypatch.setattr("limbeck.cli.material.material_of", lambda _: own)
    said, remarks = limbeck("evaluate", teacher, "--predictions", path)
    assert "own: no row of the test rows is labelled; no metrics" in remarks
    assert said == f"{path}\n"
    rows = _rows(path)
    assert list(rows[0])[4:] == [f"p_{name}" for name in "abcdefghij"]
    assert {row["target"] for row in rows} == {""}


def test_one_process_writes_predictions(limbeck, teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    path = tmp_path / "p.csv"
    assert limbeck("evaluate", teacher, "--predictions", path) == ("", "")
    assert not path.exists()


def test_unlabelled_rows_have_no_target(limbeck, tmp_path):
    write_predictions(
        tmp_path / "a.csv", torch.tensor([[0.0, 1.0]] * 2), _batch(torch.tensor([1, -1]))
    )
    assert [row["target"] for row in _rows(tmp_path / "a.csv")] == ["1", ""]
    rows = torch.arange(2)
    nothing = Batch({}, None, rows, rows)
    write_predictions(tmp_path / "b.csv", torch.tensor([[0.0, 1.0]] * 2), nothing)
    assert [row["target"] for row in _rows(tmp_path / "b.csv")] == ["", ""]


def test_values_by_hand_and_names(tmp_path):
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1e4, -1e4]])
    names = ["a, b", "yes"]
    write_predictions(tmp_path / "a.csv", logits, _batch(torch.tensor([0, 0, 1])), names)
    rows = _rows(tmp_path / "a.csv")
    assert list(rows[0])[4:] == ["p_a, b", "p_yes"]
    assert [row["prediction"] for row in rows] == ["0", "0", "0"]
    assert float(rows[0]["probability"]) == 0.5
    assert float(rows[1]["probability"]) == pytest.approx(
        0.8807970779778823, abs=1e-8
    )  # 1/(1+e^-2)
    assert [float(rows[2][f"p_{name}"]) for name in names] == [1.0, 0.0]
    write_predictions(tmp_path / "a.csv", logits, _batch(torch.tensor([0, 0, 1])), ["one"])
    assert list(_rows(tmp_path / "a.csv")[0])[4:] == ["p_0", "p_1"]


@pytest.mark.parametrize(("classes", "columns"), [(20, 24), (21, 4)])
def test_probabilities_of_all_classes_up_to_twenty(tmp_path, classes, columns):
    write_predictions(tmp_path / "a.csv", torch.eye(classes), _batch(torch.arange(classes)))
    rows = _rows(tmp_path / "a.csv")
    assert len(rows[0]) == columns
    assert [int(row["prediction"]) for row in rows] == list(range(classes))


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 2)),
        (torch.zeros(2, 2), torch.zeros(2)),
        (torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int64)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64)),
        (None, torch.zeros(2, dtype=torch.int64)),
    ],
)
def test_predictions_are_for_classifiers(tmp_path, logits, targets):
    with pytest.raises(ArgumentError, match="expected a classifier"):
        write_predictions(tmp_path / "a.csv", logits, _batch(targets))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    short = Batch({}, torch.tensor([0]), torch.arange(2), torch.arange(2))
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(path, torch.zeros(2, 2), short)
    assert path.read_text() == "old"
    assert [left.name for left in tmp_path.iterdir()] == ["a.csv"]
