"""``forecast``: what a recipe asks for, and what is printed and written."""

import json

import pytest
import torch
from helpers.forecasts import gain_model, use_models

from limbeck.cli import forecasting
from limbeck.forecasting.forecast import forecast
from limbeck.training.saving import load
from limbeck.zoo.data import load_dataset


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Forecast a tenth of the accuracy gap, and the cross-entropy gap."""
    return use_models(
        monkeypatch,
        accuracy=gain_model({"accuracy_gap": 0.1, "pilot_accuracy": 0.0}, spread=1.0),
        cross_entropy=gain_model({"cross_entropy_gap": 1.0}),
    )


@pytest.fixture
def calls(monkeypatch):
    """Keep what a forecast is asked for, beside making it."""
    found = []

    def noted(teacher, student, data, **options):
        found.append({"teacher": teacher, "student": student, "data": data, **options})
        return forecast(teacher, student, data, **options)

    monkeypatch.setattr(forecasting, "forecast", noted)
    return found


def test_a_recipe_is_forecast_printed_and_written(limbeck, recipe, tmp_path):
    out = tmp_path / "out"
    said, errors = limbeck("forecast", recipe, "--out", out)
    held = json.loads((out / "forecast.json").read_text(), parse_constant=pytest.fail)
    (entry,) = held["entries"]
    gain = entry["gains"]["accuracy"]
    assert gain["value"] == pytest.approx(0.1 * entry["figures"]["accuracy_gap"])
    assert entry["figures"]["accuracy_gap"] > 20  # of an untrained student
    for text in (
        "digits, 126 validation rows\n",
        "expected gain of kd over a control without a teacher, 90 % intervals",
        f"accuracy       {gain['value']:+.2f} [{gain['lower']:+.2f}, {gain['upper']:+.2f}] points",
        f": {entry['verdicts']['accuracy']}\n",
        "decided by     accuracy_gap",
        "cost: ",
        f"{out}: forecast.json\n",
    ):
        assert text in said, text
    assert errors == ""  # the teacher was trained by a recipe that parts the digits alike


def test_rows_networks_and_options_are_the_recipes(limbeck, recipe, calls, teacher, models):
    found = limbeck.json(
        "forecast", recipe, "--seed", 3, "--short-run", "--device", "cpu", "training.epochs=2",
        "training.schedule=cosine", "data.labels=100",
    )  # fmt: skip
    (call,) = calls
    sets = load_dataset("digits", limit=200, labels=100)
    assert torch.equal(call["data"].targets, sets.train.targets)
    assert torch.equal(call["validation"].targets, sets.validation.targets)
    assert call["data"].augment is not None
    theirs = load(teacher).state_dict()
    (guide,) = call["teacher"].values()
    assert all(torch.equal(guide.state_dict()[name], one) for name, one in theirs.items())
    assert (call["seed"], call["pilot"], call["loss"], call["epochs"]) == (3, True, "kd", 2)
    assert call["schedule"] == "cosine"
    assert models == [("kd", "accuracy", True), ("kd", "cross_entropy", True)]
    assert found["settings"]["steps"] == 8
    assert found["data"]["labelled"] == 100
    assert (found["remarks"], found["out"]) == ([], None)
    limbeck.json("forecast", recipe, "--seed", 4)
    first, other = (one["student"].state_dict()["classifier.weight"] for one in calls)
    assert not torch.equal(first, other)
    assert calls[1]["pilot"] is False


def test_several_teachers_are_ranked(limbeck, recipe, teacher):
    cnn = "zoo:small_cnn,width=4,depth=2"
    said, _ = limbeck("forecast", recipe, "--teacher", cnn, "--teacher", teacher, "teacher=null")
    assert said.index(f"\n{teacher}\n") < said.index("\nsmall_cnn\n")


def test_what_is_not_looked_at_is_said(limbeck, recipe, teacher):
    arguments = ("weight=0.5", "loss={name: kd, temperature: 2}", "layers={student: stage1}")
    found = limbeck.json("forecast", recipe, *arguments, "data.split_seed=5")
    assert found["remarks"] == [
        "the forecast is of kd as published, without loss.temperature",
        "the forecast is of kd's published weights, not of `weight`",
        "the forecast is of kd on its default layers, not on `layers`",
        (
            f"{teacher} may have been trained on the validation rows: what it memorised would look "
            "like knowledge"
        ),
    ]
    _, errors = limbeck("forecast", recipe, "weight=0.5")
    assert errors == "note: the forecast is of kd's published weights, not of `weight`.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.validation=0"], "digits: expected validation rows to compare teacher and student"),
        (["teacher=null"], "expected `teacher` to name a model; it is null"),
        (["task=regression"], "expected `task` classification without options"),
        (["task={name: classification, label_smoothing: 0.1}"], "`task` classification without"),
        (["loss={kd: 1.0, itrd: 2.0}"], "expected one `loss` by name for a forecast; got kd, itrd"),
        (["loss=dkd"], "expected `loss` to be one of kd, itrd"),
        (["training.max_steps=5"], "forecast: expected no `max_steps`"),
        (["--teacher", "nowhere"], "'nowhere', which is no folder here"),
        (["training.epoch=5"], "Did you mean epochs"),
    ],
)
def test_what_is_wrong_is_said(limbeck, recipe, arguments, message):
    _, said = limbeck("forecast", recipe, *arguments, code=2)
    assert message in " ".join(said.split())


def test_the_task_is_refused_before_data_are_read(limbeck, recipe):
    _, said = limbeck("forecast", recipe, "task=regression", "data.name=nowhere", code=2)
    assert "expected `task` classification" in " ".join(said.split())


def test_help(limbeck):
    said, _ = limbeck("forecast", "--help")
    assert "Exit codes: 0 done; 1 a bug; 2 something given is wrong" in " ".join(said.split())
