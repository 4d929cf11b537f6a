"""Conversions and binary networks from recipes, from saved folders, and in ``info``."""

import json

import pytest
import torch
from torch import nn

from limbeck import load
from limbeck.checks import ArgumentError, LayerError, ModelError, RecipeError
from limbeck.cli.material import material_of
from limbeck.cli.parts import model_of
from limbeck.cli.recipe import DataRecipe, ModelRecipe, read_recipe
from limbeck.cli.specs import model_spec
from limbeck.record import RunRecord
from limbeck.students import BinaryConv2d
from limbeck.training.building import build
from limbeck.training.saving import save_model


SMALL = {"model": "zoo:small_cnn", "width": 4, "depth": 3}


def given(where="student", **fields):
    return model_of(ModelRecipe.model_validate(fields), where)


def binary_layers(model):
    return [
        name.removesuffix(".conv")
        for name, part in model.named_modules()
        if isinstance(part, BinaryConv2d)
    ]


def test_a_name_or_a_mapping():
    assert binary_layers(given(**SMALL)) == []
    assert binary_layers(given(**SMALL, convert=None)) == []
    assert binary_layers(given(**SMALL, convert="binary")) == ["stage2", "stage3"]
    options = {"name": "binary", "keep": ["stage2"], "threshold": 0.2}
    model = given(**SMALL, convert=options)
    assert binary_layers(model) == ["stage3"]
    assert model.stage3.conv.threshold.flatten().tolist() == pytest.approx(8 * [0.2])
    assert model.limbeck_source["convert"] == [options]


@pytest.mark.parametrize(
    ("overrides", "convert"),
    [
        (["student.convert=binary"], {"name": "binary"}),
        (
            ["student.convert=binary", "student.convert.keep=[stage2]"],
            {"name": "binary", "keep": ["stage2"]},
        ),
        (["student.convert.name=binary"], {"name": "binary"}),
        (["student={model: 'zoo:small_cnn', convert: binary}"], {"name": "binary"}),
        (["student.convert=binary", "student.convert=null"], None),
    ],
)
def test_overrides(recipe, overrides, convert):
    found = read_recipe(str(recipe), overrides)
    assert found.student.convert == convert
    again = ModelRecipe.model_validate(json.loads(found.student.model_dump_json()))
    assert again == found.student


def test_short_texts_of_measure():
    assert model_spec("zoo:small_cnn,depth=3,convert=binary", "--student") == {
        "model": "zoo:small_cnn",
        "depth": 3,
        "convert": "binary",
    }


def test_weights_of_the_full_precision_model_come_before_the_conversion(tmp_path):
    trained = build("zoo:small_cnn", seed=5, width=4, depth=3)
    save_model(trained, tmp_path)
    own = {name: value.clone() for name, value in trained.state_dict().items()}
    for source in ({**SMALL, "weights": tmp_path}, {"folder": tmp_path}):
        model = given(**source, convert="binary")
        assert binary_layers(model) == ["stage2", "stage3"]
        assert all(torch.equal(model.state_dict()[name], value) for name, value in own.items())
        filters = own["stage2.conv.weight"].flatten(1)
        expected = (filters - filters.mean(1, keepdim=True)).abs().mean(1)
        torch.testing.assert_close(model.stage2.conv.scale.flatten().detach(), expected)
    save_model(model, tmp_path / "binary")
    with pytest.raises(ModelError, match=r"unknown stage2\.conv\.scale"):
        given(**SMALL, weights=tmp_path / "binary", convert="binary")
    with pytest.raises(LayerError, match="binary: expected a convolution to replace"):
        given(folder=tmp_path / "binary", convert="binary")


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        ("binry", r"student\.convert: expected `name` .* Did you mean binary"),
        ({"name": "binary", "kepp": []}, r"student\.convert binary: .*Did you mean keep"),
        ({"keep": ["stage2"]}, r"student\.convert: expected a conversion, binary"),
    ],
)
def test_unknown_conversions_are_explained_before_files_are_read(tmp_path, convert, message):
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArgumentError, match=message):
        given(**SMALL, weights=tmp_path, convert=convert)


@pytest.mark.parametrize("wrong", [3, ["binary"], True])
def test_what_is_no_conversion(recipe, wrong):
    with pytest.raises(RecipeError, match=r"student\.convert`: expected a name or a mapping"):
        read_recipe(str(recipe), [f"student.convert={json.dumps(wrong)}"])


def test_trained_distilled_loaded_and_shown(limbeck, recipe, tmp_path):
    kept = "student.convert={name: binary, keep: [stage2]}"
    depth = "student.depth=3"
    out = {"distill": tmp_path / "distilled", "train": tmp_path / "trained"}
    limbeck("distill", recipe, depth, kept, "--out", out["distill"])
    limbeck("train", recipe, depth, "student.convert=binary", "teacher=null", "--out", out["train"])
    layers = {"distill": ["stage3"], "train": ["stage2", "stage3"]}
    for kind, folder in out.items():
        assert RunRecord.open(folder).status == "finished"
        student = load(folder)
        assert binary_layers(student) == layers[kind]
        other = {name: p for name, p in student.named_parameters() if "stage3.conv" not in name}
        plain = sum(p.numel() for p in student.parameters()) - 16 - 8  # scales, thresholds
        plain -= 8 + 4 if kind == "train" else 0
        weights = 9 * 8 * 16 + (9 * 4 * 8 if kind == "train" else 0)
        packed = 4 * (sum(p.numel() for p in student.parameters()) - weights) + weights // 8
        assert len(other) == len(list(student.parameters())) - 3
        expected = {
            "converted to": "binary",
            "1-bit convolutions": len(layers[kind]),
            "bytes in float32": 4 * plain,
            "bytes packed": packed,
        }
        assert limbeck.json("info", folder)["packed layers"] == expected
        found = limbeck.json("info", folder / "student")
        assert found["packed layers"] == expected
        assert "sizes" not in found["model"]
        said, _ = limbeck("info", folder)
        assert "1-bit convolutions" in said
        images = torch.rand(3, 1, 8, 8)
        save_model(student, tmp_path / "again")
        assert torch.equal(load(tmp_path / "again")(images), student(images))
    said, _ = limbeck("evaluate", out["distill"], "--data", "digits")
    assert "accuracy" in said


def test_info_without_packed_layers_and_in_general(limbeck, teacher):
    assert "packed layers" not in limbeck.json("info", teacher)
    assert "packed layers" not in limbeck.json("info", teacher / "student")
    found = limbeck.json("info")
    assert "binary" in found["conversions"]
    assert found["binary networks (binary:NAME)"] == ["resnet20", "resnet18"]
    found = limbeck.json("info", "binary:resnet20")
    assert found["model"]["parameters"] == 271_146
    assert found["packed layers"]["1-bit convolutions"] == 18
    assert "converted to" not in found["packed layers"]


def test_a_folder_that_names_what_is_not_known(tmp_path):
    save_model(given(**SMALL, convert="binary"), tmp_path)
    path = tmp_path / "model.json"
    whole = json.loads(path.read_text())
    for convert, message in (
        ([{"name": "os.system"}], "expected `name` to be one of binary"),
        ([{"name": "binary", "command": "ls"}], "expected `option` to be one of keep"),
        ("binary", "expected a list of conversions.*got 'binary'"),
    ):
        path.write_text(json.dumps(whole | {"source": whole["source"] | {"convert": convert}}))
        with pytest.raises((ArgumentError, ModelError), match=message):
            load(tmp_path)
    source = {"builder": "os:system", "kwargs": {"command": "ls"}, "convert": ["binary"]}
    path.write_text(json.dumps(whole | {"source": source}))
    with pytest.raises(ModelError, match="code that is not limbeck's"):
        load(tmp_path)


def test_binary_networks_take_what_they_are_not_told_from_the_data():
    digits = material_of(DataRecipe(name="digits", limit=50))
    recipe = ModelRecipe.model_validate({"model": "binary:resnet20"})
    model = model_of(recipe, "student", digits)
    assert model.limbeck_source["kwargs"] == {
        "num_classes": 10,
        "channels": 1,
        "normalisation": [[0.3053], [0.3760]],
    }
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert isinstance(model.classifier, nn.Linear)
    named = given(model="binary:resnet18", normalisation="imagenet")
    assert named.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    same = given(model="binary:resnet20", normalisation="none", channels=1)
    assert same.normalise.std.flatten().tolist() == [1.0]


def test_mistakes_about_binary_networks():
    with pytest.raises(RecipeError, match=r"argument of binary:resnet20; got `student\.clases`"):
        given(model="binary:resnet20", clases=3)
    with pytest.raises(ArgumentError, match=r"student\.normalisation.*Did you mean cifar10"):
        given(model="binary:resnet20", normalisation="cifar11")
    with pytest.raises(ModelError, match=r"binary:resnet21: expected one of the binary networks"):
        given(model="binary:resnet21")


def test_a_published_network_is_distilled_from_a_recipe(limbeck, recipe, tmp_path):
    out = tmp_path / "run"
    options = ("student={model: 'binary:resnet20'}", "data.limit=60", "training.batch_size=30")
    limbeck("distill", recipe, *options, "loss=itrd", "--out", out)
    assert len(binary_layers(load(out))) == 18


def test_the_recipe_of_the_published_setting(limbeck, tmp_path):
    said, _ = limbeck("init", "--recipe", "binary/resnet56-resnet20")
    assert len(said.splitlines()) <= 20
    path = tmp_path / "recipe.yaml"
    path.write_text(said.replace("runs/resnet56-c10", str(tmp_path)))
    found = read_recipe(str(path), [f"data.folder={tmp_path}"])
    training = found.training
    assert (training.learning_rate, training.momentum, training.weight_decay) == (0.1, 0.9, 5e-4)
    assert (training.epochs, training.warmup_epochs, training.batch_size) == (600, 5, 256)
    assert (training.optimizer, training.schedule, training.nesterov) == ("sgd", "cosine", False)
    assert found.student.model == "binary:resnet20"
