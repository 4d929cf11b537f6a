"""Published comparisons as recipes: their numbers, their parts, and one run of each method."""

import copy
from collections import OrderedDict
from functools import cache

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from limbeck.capture import PENULTIMATE
from limbeck.cli.parts import loss_of_recipe, task_of_recipe
from limbeck.cli.recipe import Recipe
from limbeck.cli.recipes import names, text_of
from limbeck.cli.recipes.composing import flow
from limbeck.cli.recipes.methods import METHODS
from limbeck.cli.recipes.pairs import PAIRS
from limbeck.cli.weights import load_weights_from
from limbeck.cli.yaml_text import mapping_of
from limbeck.training.saving import save_model
from limbeck.zoo.networks import NETWORKS, network


NAMES = names()
PUBLISHED = [name for name in NAMES if name.split("/")[0] not in ("train", "probe", "binary")]


def recipe_of(name):
    return Recipe.model_validate(mapping_of(text_of(name), name))


@cache
def parts_of(model):
    return {path for path, _ in network(model).named_modules()}


def networks_of(recipe):
    """Return the zoo's networks of "student" and "teacher"."""
    out = {"student": recipe.student.model.removeprefix("zoo:")}
    if recipe.teacher is not None and recipe.teacher.folder is not None:
        out["teacher"] = recipe.teacher.folder.name
    return out


def images(rows=8, classes=100, side=32):
    """Return what a recipe's ``data.module`` gives: a handful of random images."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 3, side, side, generator=source)
    return (x, torch.arange(rows) % classes), None, (x[:2], torch.arange(2))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_short_and_names_what_exists(name):
    text = text_of(name)
    lines = text.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("# ")
    recipe = recipe_of(name)
    if "crd" in recipe.loss:  # a bank of that size would be made: 1.3 GB for ImageNet
        rows = 1_281_167 if "timm:" in text else 50_000
        assert recipe.loss["crd"].pop("bank") == rows
    loss = loss_of_recipe(recipe, task_of_recipe(recipe.task))
    own = ("digits", "fashion-mnist", "folder", "text", "language")
    if "timm:" in text or name in own or "binary" in name:
        return
    found = networks_of(recipe)
    assert found.keys() == ({"student"} if recipe.teacher is None else {"student", "teacher"})
    for side, model in found.items():
        assert model in NETWORKS
        if recipe.teacher is not None:
            assert set(loss.layers[side]) <= parts_of(model) | {PENULTIMATE}


def test_the_reference_pairs_are_all_there():
    methods = ("kd", "crd", "itrd", "wttm", "ttm", "dist", "wttm+itrd", "kd+itrd", "kd+crd")
    pairs = [
        "wrn_40_2-wrn_16_2",
        "wrn_40_2-wrn_40_1",
        "resnet56-resnet20",
        "resnet110-resnet20",
        "resnet110-resnet32",
        "resnet32x4-resnet8x4",
        "vgg13-vgg8",
        "vgg13-mobilenetv2_half",
        "resnet50_32px-mobilenetv2_half",
        "resnet50_32px-vgg8",
        "resnet32x4-shufflenetv1",
        "resnet32x4-shufflenetv2",
        "wrn_40_2-shufflenetv1",
    ]
    assert len(pairs) == 13
    assert {f"{method}/{pair}" for method in methods for pair in pairs} <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize(
    ("name", "loss"),
    [  # read off the tables of the papers once more, not from limbeck's
        ("itrd/resnet32x4-resnet8x4", {"itrd": {"weight": 1, "alpha": 1.01, "mutual_weight": 1}}),
        ("itrd/vgg13-mobilenetv2_half", {"itrd": {"weight": 1, "alpha": 1.5, "mutual_weight": 1}}),
        ("itrd/resnet50_32px-vgg8", {"itrd": {"weight": 1, "alpha": 1.5, "mutual_weight": 0}}),
        (
            "wttm+itrd/resnet110-resnet32",
            {
                "wttm": {"weight": 0.015, "exponent": 0.3},
                "itrd": {"weight": 1, "alpha": 1.01, "mutual_weight": 1},
            },
        ),
        ("wttm/resnet32x4-shufflenetv2", {"wttm": {"weight": 16, "exponent": 0.4}}),
        ("ttm/vgg13-vgg8", {"ttm": {"weight": 45, "exponent": 0.1}}),
        (
            "wttm+crd/wrn_40_2-shufflenetv1",
            {"wttm": {"weight": 0.16, "exponent": 0.2}, "crd": {"weight": 0.8, "bank": 50000}},
        ),
        (
            "dkd/resnet56-resnet20",
            {"dkd": {"weight": 1, "temperature": 4, "nontarget_weight": 2}},
        ),
        (
            "kd+crd/resnet56-resnet20",
            {"kd": {"weight": 1, "temperature": 4}, "crd": {"weight": 0.8, "bank": 50000}},
        ),
        ("luminet/resnet32x4-resnet8x4", {"name": "luminet", "scale": 33, "temperature": 4}),
        ("luminet/vgg13-vgg8", {"luminet": {"weight": 1, "scale": 70, "temperature": 8}}),
        (
            "catkd/wrn_40_2-shufflenetv1",
            {
                "catkd": {
                    "weight": 80,
                    "size": 4,
                    "normalise": True,
                    "layer": {"student": "stage3", "teacher": "relu"},
                }
            },
        ),
        (
            "fitnet/resnet32x4-shufflenetv1",
            {"fitnet": {"weight": 100, "layer": {"student": "stage2", "teacher": "layer2"}}},
        ),
        (
            "reviewkd/wrn_40_2-wrn_40_1",
            {
                "reviewkd": {
                    "weight": 5,
                    "layer": ["stage1", "stage2", "stage3", "penultimate"],
                }
            },
        ),
        (
            "fsp/resnet56-resnet20",
            {"name": "fsp", "share": 1, "layer": ["stem", "layer1", "layer2", "layer3"]},
        ),
        (
            "sp/resnet50_32px-vgg8",
            {"sp": {"weight": 3000, "layer": {"student": "stage4", "teacher": "layer4"}}},
        ),
        ("sp/vgg13-mobilenetv2_half", {"sp": {"weight": 3000, "layer": "stage4"}}),
        (
            "wkdl+wkdf/resnet32x4-resnet8x4",
            {
                "wkdl": {"weight": 1, "temperature": 8, "distance_weight": 200},
                "wkdf": {"weight": 0.08, "mean_weight": 8, "grid": 1, "layer": "layer3"},
            },
        ),
        (
            "dkd/resnet50-mobilenetv1",
            {"dkd": {"weight": 1, "temperature": 1, "nontarget_weight": 2}},
        ),
    ],
)
def test_weights_are_the_published_ones(name, loss):
    assert recipe_of(name).loss == loss


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crd/resnet32x4-resnet8x4", "pair F, published: 75.51 % (Tian"),
        ("itrd/resnet50_32px-mobilenetv2_half", "pair I, published: 71.41 % (Miles"),
        ("wttm+itrd/wrn_40_2-wrn_16_2", "pair A, published: 76.65 % (Zheng"),
        ("dkd/wrn_40_2-shufflenetv1", "pair M, published: 76.70 % (Zhao"),
        ("lskd/resnet32x4-shufflenetv2", "pair L, published: 75.56 % (Sun"),
        ("skd/vgg13-vgg8", "pair G, published: 75.75 %"),
        ("reviewkd/resnet32x4-shufflenetv1", "pair K, published: 77.45 % (Chen"),
        ("rld/wrn_40_2-wrn_16_2", "pair A, no published accuracy known"),
        ("kd+itrd/vgg13-vgg8", "pair G, no published accuracy known"),
        ("kd/resnet50-mobilenetv1", "published: 70.50 %"),
        ("train/shufflenetv2", "published: 71.82 %"),
    ],
)
def test_accuracies_are_the_published_ones(name, said):
    assert said in text_of(name).splitlines()[0]


def test_lskd_has_the_published_weights_of_both_terms():
    for pair, weight in (("resnet56-resnet20", 9), ("resnet110-resnet20", 12)):
        recipe = recipe_of(f"lskd/{pair}")
        assert recipe.weight == pytest.approx(0.9)
        assert recipe.weight * recipe.loss["lskd"]["weight"] == pytest.approx(weight, abs=1e-5)


def test_training_is_the_published_one():
    for name in PUBLISHED:
        training = recipe_of(name).training
        if name in ("digits", "fashion-mnist", "folder", "text", "language"):
            continue
        if "timm:" in text_of(name):
            assert (training.epochs, training.milestones) == (100, (30, 60, 90))
            assert training.weight_decay == pytest.approx(1e-4)
            rows = 512 if name.startswith(("kd", "dkd")) else 256
            assert (training.batch_size, training.learning_rate) == (rows, 0.1 * rows / 256)
            continue
        first_stage = name.startswith(("ab/", "fsp/"))
        assert (training.epochs, training.batch_size) == (30 if first_stage else 240, 64)
        assert training.schedule == ("constant" if first_stage else "step")
        assert training.milestones == (150, 180, 210)
        assert training.weight_decay == pytest.approx(5e-4)
        small = name.endswith(("mobilenetv2_half", "shufflenetv1", "shufflenetv2"))
        usual = 0.1 if name.startswith("skd/") else 0.05
        assert training.learning_rate == (0.01 if small else usual), name
        rising = name.split("/")[0] in ("dkd", "luminet", "reviewkd", "rld")
        assert training.loss_warmup_epochs == (20 if rising else 0), name
    assert recipe_of("dkd/resnet34-resnet18").training.loss_warmup_epochs == 1


def test_task_and_loss_weigh_what_was_published():
    weights = {
        "kd/vgg13-vgg8": 0.9,
        "ctkd/vgg13-vgg8": 0.9,
        "skd/vgg13-vgg8": 0.9,
        "skd/resnet32x4-resnet8x4": 0.5,
        "kd/resnet34-resnet18": 0.5,
        "ab/vgg13-vgg8": 1.0,
        "fsp/vgg13-vgg8": 1.0,
        "at/vgg13-vgg8": None,
        "wttm+itrd/vgg13-vgg8": None,
    }
    assert {name: recipe_of(name).weight for name in weights} == weights


# A small network on each side wherever the method is not bound to a pair, all students in all.
RUNS = [
    "kd/resnet56-resnet20",
    "fitnet/vgg13-mobilenetv2_half",
    "at/resnet50_32px-vgg8",
    "sp/resnet56-resnet20",
    "cc/resnet56-resnet20",
    "vid/resnet50_32px-mobilenetv2_half",
    "rkd/resnet56-resnet20",
    "pkt/resnet56-resnet20",
    "ab/wrn_40_2-wrn_40_1",
    "ft/wrn_40_2-shufflenetv1",
    "fsp/vgg13-vgg8",
    "nst/resnet32x4-shufflenetv2",
    "crd/resnet56-resnet20",
    "itrd/resnet32x4-shufflenetv1",
    "dkd/vgg13-vgg8",
    "dist/resnet56-resnet20",
    "ttm/resnet56-resnet20",
    "wttm/resnet56-resnet20",
    "lskd/resnet110-resnet32",
    "ctkd/resnet56-resnet20",
    "catkd/resnet32x4-shufflenetv2",
    "luminet/wrn_40_2-shufflenetv1",
    "reviewkd/wrn_40_2-shufflenetv1",
    "rld/resnet56-resnet20",
    "skd/resnet56-resnet20",
    "wkdl/resnet32x4-resnet8x4",
    "wkdf/wrn_40_2-shufflenetv1",
    "kd+crd/resnet56-resnet20",
    "kd+itrd/resnet56-resnet20",
    "wttm+crd/resnet56-resnet20",
    "wttm+itrd/wrn_40_2-wrn_16_2",
    "wkdl+wkdf/resnet32x4-resnet8x4",
]


def written(name, folder):
    """Write a recipe on eight random images with an untrained teacher, for two steps."""
    mapping = mapping_of(text_of(name), name)
    mapping["data"] = {"module": f"{__name__}:images"}
    mapping["out"] = str(folder / "run")
    if mapping["teacher"]:
        model = mapping["teacher"]["folder"].rpartition("/")[2]
        mapping["teacher"] = {"model": f"zoo:{model}", "num_classes": 100}
        mapping["student"]["num_classes"] = 100
    mapping["training"] |= {"epochs": 2, "device": "cpu", "progress": False}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(mapping))
    return path


def test_the_runs_cover_every_method_and_every_student():
    assert [name.split("/")[0] for name in RUNS] == list(METHODS)
    assert {recipe_of(name).student.model for name in RUNS} == {
        recipe_of(f"kd/{pair.name}").student.model for pair in PAIRS.values()
    }


@pytest.mark.parametrize("name", RUNS)
def test_each_method_takes_its_steps(name, limbeck, tmp_path):
    limbeck("distill", written(name, tmp_path), "--force")
    before = network(networks_of(recipe_of(name))["student"]).state_dict()
    after = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(bool(torch.isfinite(part).all()) for part in after.values())


def test_a_dry_run_says_what_a_recipe_takes(limbeck, tmp_path):
    out, _ = limbeck("distill", written("crd/resnet56-resnet20", tmp_path), "--force", "--dry-run")
    assert "278,324" in out  # parameters of the student, as published
    assert "861,620" in out
    assert not (tmp_path / "run").exists()


def test_the_second_stage_starts_from_the_first(limbeck, tmp_path):
    path = written("ab/resnet56-resnet20", tmp_path)
    limbeck("distill", path, "--force")
    remarks = " ".join(line.removeprefix("# ") for line in text_of("ab/vgg13-vgg8").splitlines())
    said = remarks.partition("limbeck train RECIPE ")[2].partition(" seed: 0")[0].split()
    assert said == [
        "teacher=null",
        "student.weights=OUT",
        "out=OUT-2",
        "training.epochs=240",
        "training.schedule=step",
    ]
    weights, out = f"student.weights={tmp_path / 'run'}", f"out={tmp_path / 'second'}"
    limbeck("train", path, "teacher=null", weights, out, "training.schedule=step")
    assert (tmp_path / "second" / "student").is_dir()


def test_plain_training_runs(limbeck, tmp_path):
    limbeck("train", written("train/resnet20", tmp_path))
    assert (tmp_path / "run" / "student").is_dir()


def test_a_probe_trains_a_new_classifier_on_a_body_that_rests(limbeck, tmp_path):
    body = network("wrn_16_2")
    save_model(body, tmp_path / "body")
    mapping = mapping_of(text_of("probe/stl10"), "probe")
    mapping["student"] |= {"weights": str(tmp_path / "body"), "num_classes": 10}
    mapping["data"] = {"module": f"{__name__}:images", "options": {"classes": 10}}
    mapping |= {"out": str(tmp_path / "run")}
    mapping["training"] |= {"epochs": 2, "device": "cpu", "progress": False}
    (tmp_path / "probe.yaml").write_text(yaml.safe_dump(mapping))
    limbeck("train", tmp_path / "probe.yaml")
    before = body.state_dict()
    after = load_file(tmp_path / "run" / "student" / "model.safetensors")
    resting = [name for name in before if not name.startswith(("classifier.", "normalise."))]
    assert any("running_var" in name for name in resting)
    assert all(torch.equal(before[name], after[name]) for name in resting)
    assert after["classifier.weight"].shape == (10, 128)
    assert after["normalise.mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_fresh_part_may_be_built_otherwise_than_in_the_file(tmp_path):
    def made(head):
        return nn.Sequential(OrderedDict(body=nn.Linear(2, 3), head=head))

    deep = made(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)))
    shallow = made(nn.Linear(3, 5))
    before = shallow.head.weight.detach().clone()
    torch.save(deep.state_dict(), tmp_path / "deep.pt")
    load_weights_from(shallow, tmp_path / "deep.pt", ["head"])
    assert torch.equal(shallow.body.weight, deep.body.weight)
    assert torch.equal(shallow.head.weight, before)


def test_fresh_parts_must_exist_and_go_with_weights(limbeck, tmp_path):
    save_model(network("resnet20"), tmp_path / "body")
    student = {"model": "zoo:resnet20", "weights": str(tmp_path / "body"), "fresh": ["clasifier"]}
    recipe = {"data": {"module": f"{__name__}:images"}, "student": student}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(recipe))
    _, said = limbeck("train", path, "student.num_classes=100", code=2)
    assert "expected `fresh` to name parts" in " ".join(said.split())
    assert "Did you mean classifier" in " ".join(said.split())
    recipe = copy.deepcopy(recipe)
    del recipe["student"]["weights"]
    path.write_text(yaml.safe_dump(recipe))
    _, said = limbeck("train", path, code=2)
    assert "expected `fresh` beside `weights`" in " ".join(said.split())


def test_yaml_on_one_line_reads_back():
    value = {"a": [1.0, 0.015, True], "b": {"c": None, "d": "stage1"}, "e": 16384, "f": "x-y"}
    assert yaml.safe_load(flow(value)) == value
    assert flow([1000.0, 0.5, 16384]) == "[1000, 0.5, 16384]"
