"""A student as a folder, and models by name."""

from __future__ import annotations

import json
import os

import pytest
import torch
from helpers.small import network, same
from safetensors.torch import save_file
from torch import nn

import limbeck as lb
from limbeck.checks import ModelError
from limbeck.training.building import build, is_trusted
from limbeck.training.saving import save_model


def test_a_zoo_student_comes_back_by_itself(tmp_path):
    student = build(
        "zoo:small_cnn", seed=3, num_classes=4, width=4, normalisation="digits", channels=1
    )
    save_model(student, tmp_path, class_names=["a", "b", "c", "d"])
    again = lb.load(tmp_path)
    assert same(student, again)
    assert not again.training
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(student.eval()(images), again(images))
    assert json.loads((tmp_path / "model.json").read_text())["class_names"] == ["a", "b", "c", "d"]


def test_building_depends_on_the_seed_alone():
    torch.manual_seed(0)
    first = build("zoo:small_cnn", seed=1, num_classes=4)
    state = torch.get_rng_state()
    second = build("zoo:small_cnn", seed=1, num_classes=4)
    assert torch.equal(state, torch.get_rng_state())
    assert same(first, second)
    assert not same(first, build("zoo:small_cnn", seed=2, num_classes=4))


def test_another_module_comes_back_into_one_of_its_kind(tmp_path):
    save_model(network(seed=1), tmp_path)
    assert same(lb.load(tmp_path, model=network(seed=2)), network(seed=1))
    with pytest.raises(ModelError, match=r"how to build torch\.nn\.modules\.container:Sequential"):
        lb.load(tmp_path)


def test_tied_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_model(model, tmp_path)
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    assert same(lb.load(tmp_path, model=other), model)


def test_code_named_by_a_folder_is_not_called_unasked(tmp_path):
    model = build("helpers.small:network", width=4)
    save_model(model, tmp_path)
    with pytest.raises(
        ModelError, match=r"helpers\.small:network, code that is not limbeck's.*--trust"
    ):
        lb.load(tmp_path)
    assert same(lb.load(tmp_path, trust=True), model)
    description = json.loads((tmp_path / "model.json").read_text())
    description["source"] = {"builder": "os:system", "kwargs": {"command": f"touch {tmp_path}/bad"}}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="not limbeck's"):
        lb.load(tmp_path)
    assert not (tmp_path / "bad").exists()
    assert os.system is not None  # nothing was patched: the builder existed and was refused


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "expected a whole safetensors file"),
        (
            "other network",
            r"expected the weights of Sequential; other shape 0\.weight \(8, 6\), here",
        ),
        ("missing", r"missing 0\.bias"),
        ("unknown", r"unknown 9\.extra"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, damage, message):
    save_model(network(), tmp_path)
    path, weights = tmp_path / "model.safetensors", dict(network().state_dict())
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "missing":
        save_file({name: part for name, part in weights.items() if name != "0.bias"}, path)
    elif damage == "unknown":
        save_file(weights | {"9.extra": torch.ones(1)}, path)
    model = network(width=4 if damage == "other network" else 8)
    with pytest.raises(ModelError, match=message):
        lb.load(tmp_path, model=model)


def test_folders_without_a_model_are_refused(tmp_path):
    with pytest.raises(
        ModelError, match=r"expected a folder with model\.safetensors and model\.json"
    ):
        lb.load(tmp_path)
    save_model(network(), tmp_path)
    for text in ("{", '{"format": 2, "class": "a:B"}', '{"format": 1, "class": null}'):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(ModelError, match="expected a description of format 1"):
            lb.load(tmp_path, model=network())


def test_a_runs_folder_means_its_last_student(tmp_path):
    save_model(network(seed=1), tmp_path / "student")
    assert same(lb.load(tmp_path, model=network()), network(seed=1))


@pytest.mark.parametrize(
    ("builder", "trusted"),
    [
        *((name, True) for name in ("zoo:resnet20", "timm:resnet18", "hf:folder")),
        ("limbeck.zoo.networks:resnet20", True),
        *((name, False) for name in ("zoology:a", "timm.layers:a", "hf_other:a", "os:system")),
        ("limbeck.zoo.networks.registry:a", False),
        ("limbeck.cli.demo:run_demo", False),
        ("timm:hf-hub:somebody/net", False),
    ],
)
def test_builders_that_a_folder_may_name(builder, trusted):
    assert is_trusted(builder) == trusted


@pytest.mark.parametrize("argument", ["trust_remote_code", "checkpoint_path", "pretrained_cfg"])
def test_arguments_that_reach_foreign_code_need_trust(tmp_path, argument):
    save_model(network(), tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["source"] = {"builder": "hf:folder", "kwargs": {argument: True}}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match=r"hf:folder, code that is not limbeck's.*trust=True"):
        lb.load(tmp_path)


def test_arguments_that_json_cannot_hold_are_not_kept(tmp_path):
    model = build("torch.nn:Linear", in_features=2, out_features=1, dtype=torch.float64)
    save_model(model, tmp_path)
    with pytest.raises(ModelError, match="Pass a module of that architecture"):
        lb.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet20", "got no colon"),
        ("zoo:resnet21", "expected one of the zoo's networks.*Did you mean .*resnet20"),
        ("no_such_package:net", "no_such_package: cannot be imported"),
        ("helpers.small:networks", "helpers.small has no `networks`. Did you mean network"),
        ("helpers.small:QUICK", "expected a callable; got dict"),
        ("helpers.small:rows", "returns a torch module; got tuple"),
        ("hf:/nowhere", r"expected a folder with config\.json"),
    ],
)
def test_unknown_models_are_explained(name, message):
    with pytest.raises(ModelError, match=message):
        build(name)


def test_arguments_that_do_not_fit_are_explained():
    with pytest.raises(
        ModelError, match=r"zoo:small_cnn: could not be built with depht=3: .*depht"
    ):
        build("zoo:small_cnn", depht=3)
