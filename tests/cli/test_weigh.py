"""``weigh``: what is measured, with which step and weight, and what is printed and written."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch.nn import functional as F

from limbeck.cli import weighing
from limbeck.cli.weighing import setting_of
from limbeck.losses import LOSSES
from limbeck.training.saving import load
from limbeck.zoo.data import load_dataset


FAST = ("--rows", 64, "--no-curvature", "--device", "cpu")


@pytest.fixture
def recorder(monkeypatch):
    """Keep what the report is asked for, beside making it."""
    calls, real = [], weighing.variance_report

    def noted(student, teacher, data, **options):
        calls.append({"student": student, "teacher": teacher, "data": data, **options})
        return real(student, teacher, data, **options)

    monkeypatch.setattr(weighing, "variance_report", noted)
    return calls


def test_a_recipe_is_weighed_printed_and_written(limbeck, recipe, tmp_path):
    out = tmp_path / "out"
    said, errors = limbeck(
        "weigh", recipe, "--rows", 64, "--device", "cpu", "--out", out, "weight=0.35"
    )
    held = json.loads((out / "weights.json").read_text(), parse_constant=pytest.fail)
    ElementTree.fromstring((out / "weights.svg").read_text())
    for text in (
        "digits, 64 of 200 training rows by gram",
        "weights for learning rate 0.05, momentum 0.9, batch 50; 95 % intervals",
        "held-out rows",
        "long run, loss",
        "0.35*",
        "which layer noise and bias come from",
        "which class noise and bias come from",
        "plateau, nats",
        f"diagnosis: {held['advice']['diagnosis']}. ",
        held["verdict"],
        f"{out}: weights.json, weights.svg",
    ):
        assert text in said, text
    assert f"{held['train']['tr_gg']:.4g} ± " in said
    assert f"{held['held_out']['tr_gg']:.4g} ± " in said
    for text in held["notes"]:
        assert f"note: {text}" in errors
    assert "note: the student is untrained: the law is about the plateau" in errors
    assert "peak learning rate" in errors
    assert set(held["classes"]) <= set("0123456789")


def test_the_rows_are_those_of_training_and_validation(limbeck, recipe, recorder):
    found = limbeck.json("weigh", recipe, *FAST, "--seed", 3)
    (call,) = recorder
    sets = load_dataset("digits", limit=200)
    assert torch.equal(call["data"].targets, sets.train.targets)
    assert call["data"].augment is not None
    assert torch.equal(call["held_out"].targets, sets.validation.targets)
    assert (call["seed"], call["n"], call["curvature"]) == (3, 64, False)
    assert found["held_out"]["n"] == 64
    assert (found["data"], found["out"]) == ("digits", None)
    # The student is the one that training of this seed begins with.
    other = limbeck.json("weigh", recipe, *FAST, "--held-out", "none", "--gradients", "groups")
    assert other["held_out"] is None
    assert other["train"]["settings"]["method"] == "groups"
    assert recorder[1]["held_out"] is None
    weights = [call["student"].state_dict()["classifier.weight"] for call in recorder]
    assert not torch.equal(*weights)


def test_a_run_is_weighed_with_its_trained_student(limbeck, recipe, recorder, teacher, tmp_path):
    limbeck("distill", recipe, "--out", tmp_path / "run")
    found = limbeck.json("weigh", tmp_path / "run", *FAST)
    (call,) = recorder
    saved, mine = load(tmp_path / "run").state_dict(), call["student"].state_dict()
    assert all(torch.equal(mine[name], value) for name, value in saved.items())
    theirs = load(teacher).state_dict()
    assert all(torch.equal(call["teacher"].state_dict()[k], v) for k, v in theirs.items())
    assert not any("untrained" in text for text in found["remarks"])
    assert found["settings"]["batch_size"] == 50
    # A half of the labels hidden: those rows count for the teacher alone.
    fewer = limbeck.json("weigh", tmp_path / "run", *FAST, "data.labels=100")
    assert "unlabelled" in fewer["classes"]


def test_teacher_and_student_of_one_shape_have_a_free_baseline(limbeck, recipe, recorder, teacher):
    found = limbeck.json("weigh", recipe, *FAST, "--rows", 200, "student.width=8")
    (call,) = recorder
    assert len(found["interpolation"]) == len(found["cosine"]) == len(found["grid"])
    plan = [(torch.arange(200), torch.zeros(200, dtype=torch.int64))]
    (batch,) = call["data"].batches(plan)  # view 0
    for model, loss in ((call["student"], 0), (load(teacher), -1)):
        with torch.no_grad():
            expected = F.cross_entropy(model.eval()(batch.inputs), batch.targets)
        assert found["interpolation"][loss] == pytest.approx(float(expected), rel=1e-4)


def test_step_and_weight_as_the_law_takes_them(limbeck, recipe, recorder):
    """kd as published is 0.1 task + 0.9 distillation; match is 1 + 1, half of twice the step."""
    found = limbeck.json("weigh", recipe, *FAST)
    assert LOSSES["kd"]().published_weights == (0.1, 0.9)
    assert found["settings"]["learning_rate"] == pytest.approx(0.05)
    assert found["weight_in_use"] == pytest.approx(0.9)
    found = limbeck.json("weigh", recipe, *FAST, "loss=match")
    assert found["settings"]["learning_rate"] == pytest.approx(0.1)
    assert found["settings"]["momentum"] == 0.9
    assert found["weight_in_use"] == 0.5
    assert any("1 task + 1 distillation" in text for text in found["remarks"])
    found = limbeck.json(
        "weigh", recipe, *FAST, "loss=match", "weight=0.25", "training.optimizer=adamw",
        "training.average=0.99", "training.schedule=constant", "training.learning_rate=0.2",
    )  # fmt: skip
    assert found["weight_in_use"] == 0.25
    assert found["settings"]["learning_rate"] == 0.2
    assert found["settings"]["momentum"] == 0.0
    assert any("plain SGD steps" in text for text in found["remarks"])
    assert any("averaged weights" in text for text in found["remarks"])
    assert not any("peak" in text for text in found["remarks"])


def test_rows_that_are_augmented_are_taken_as_independent(limbeck, recipe, recorder):
    limbeck.json("weigh", recipe, *FAST, "data.augment=none")
    found = limbeck.json("weigh", recipe, *FAST, "data.augment=default")
    plain, augmented = recorder
    assert plain["data"].augment is None
    assert plain["steps_per_epoch"] == 4  # 200 rows in batches of 50
    assert (augmented["data"].augment is None) == (augmented["steps_per_epoch"] is not None)
    assert any("each row once" in text for text in found["remarks"]) == (
        augmented["steps_per_epoch"] is not None
    )


def test_a_weight_measured_while_training_is_not_in_use(limbeck, recipe):
    from limbeck.cli.material import material_of
    from limbeck.cli.recipe import read_recipe

    made = read_recipe(str(recipe)).model_copy(update={"weight": "auto"})
    setting = setting_of(made, LOSSES["kd"](), material_of(made.data))
    assert setting.weight is None
    assert any("while training" in text for text in setting.notes)
    assert setting.batch_size == 50


def test_losses_on_features_are_made_ready_and_frozen_parts_do_not_count(limbeck, recipe, recorder):
    found = limbeck.json("weigh", recipe, *FAST, "loss=fsp", "layers={student: [stage1, stage2], "
                         "teacher: [stage1, stage2]}", "student.width=8")  # fmt: skip
    assert found["train"]["tr_hh"] > 0
    found = limbeck.json("weigh", recipe, *FAST, "training.train_only=[classifier]")
    assert list(found["layers"]) == ["classifier"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss=itrd"], "expected a loss that is a mean over samples; ITRD compares"),
        (["loss=itrd", "data.name=nowhere"], "expected a loss that is a mean"),  # before data
        (["teacher=null"], "expected `teacher` to name a model; it is null"),
        (["--rows", "3"], "Invalid value for '--rows'"),
        (["student.wdth=3"], "width"),
        (["--gradients", "last"], "'last' is not one of"),
    ],
)
def test_what_is_wrong_is_said(limbeck, recipe, arguments, message):
    _, said = limbeck("weigh", recipe, *arguments, code=2)
    assert message in " ".join(said.split())


def test_a_folder_without_recipe_is_refused(limbeck, tmp_path):
    _, said = limbeck("weigh", tmp_path, code=2)
    assert f"Give a recipe with student.folder={tmp_path}" in " ".join(said.split())
