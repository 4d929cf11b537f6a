"""Weights of all kinds, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from limbeck.checks import ModelError, RecipeError
from limbeck.cli.parts import model_of
from limbeck.cli.recipe import ModelRecipe
from limbeck.cli.weights import load_weights_from
from limbeck.training.saving import save_model
from limbeck.zoo.networks import STATISTICS, mlp, resnet20


def _network(seed):
    torch.manual_seed(seed)
    return mlp(inputs=3, hidden=[2], num_classes=2)


def _same(one, two):
    first, second = one.state_dict(), two.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _write(kind, source, folder):
    state = source.state_dict()
    path = folder / f"w.{kind.partition(' ')[0]}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "folder":
        save_model(source, path)
    elif kind == "folder run":
        save_model(source, path / "student")
    else:
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save(
            {
                "pt": state,
                "pth module": wrapped,
                "pt state_dict": {"state_dict": wrapped, "epoch": 3},
                "pth model": {"model": state, "optimizer": {}},
            }[kind],
            path,
        )
    return path


@pytest.mark.parametrize(
    "kind",
    ["safetensors", "folder", "folder run", "pt", "pth module", "pt state_dict", "pth model"],
)
def test_weights_of_all_kinds_arrive(tmp_path, kind):
    source, target = _network(1), _network(2)
    assert not _same(source, target)
    load_weights_from(target, _write(kind, source, tmp_path))
    assert _same(source, target)


def _akamaster(source):
    back = {"stem.conv": "conv1", "stem.norm": "bn1", "classifier": "linear"}
    found = {}
    for name, value in source.state_dict().items():
        for own, theirs in back.items():
            name = name.replace(own, theirs)
        if not name.startswith("normalise"):
            found[f"module.{name}"] = value
    return found


def test_akamasters_names_fit_the_zoo(tmp_path):
    torch.manual_seed(0)
    source = resnet20(num_classes=10, shortcut="pad", normalisation="imagenet")
    path = tmp_path / "resnet20.pt"
    torch.save({"state_dict": _akamaster(source), "best_prec1": 91.7}, path)
    given = {"model": "zoo:resnet20", "num_classes": 10, "shortcut": "pad", "weights": path}
    found = model_of(ModelRecipe.model_validate(given), "teacher")
    assert _same(source, found)
    assert found.normalise.mean.flatten().tolist() == pytest.approx(STATISTICS["imagenet"][0])


def test_akamasters_weights_without_projections_say_what_to_add(tmp_path):
    path = tmp_path / "resnet20.pt"
    torch.save(_akamaster(resnet20(num_classes=10, shortcut="pad")), path)
    with pytest.raises(ModelError, match="Add `shortcut: pad` to the model"):
        load_weights_from(resnet20(num_classes=10), path)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    path, ran = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save({"state_dict": _network(0).state_dict(), "extra": Malicious(ran)}, path)
    with pytest.raises(ModelError, match=r"evil.pt: expected tensors alone; .* it is refused"):
        load_weights_from(_network(0), path)
    assert not ran.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(nn.Linear(1, 1), path)
    with pytest.raises(ModelError, match=r"Save model.state_dict\(\), or safetensors"):
        load_weights_from(_network(0), path)


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 300])
def test_truncated_files_are_refused(tmp_path, kind, kept):
    path = _write(kind, _network(0), tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=rf"w.{kind}: expected "):
        load_weights_from(_network(0), path)


def test_other_contents_are_described(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"epoch": 3, "loss": 0.5}, path)
    with pytest.raises(ModelError, match="got a mapping with epoch, loss"):
        load_weights_from(_network(0), path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ModelError, match="got a list"):
        load_weights_from(_network(0), path)


def test_other_names_and_shapes_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    state = _network(0).state_dict()
    state["classifier.weights"] = state.pop("classifier.weight")
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"missing classifier.weight; unknown classifier.weights"):
        load_weights_from(_network(0), path)
    torch.save(_network(0).state_dict(), path)
    with pytest.raises(ModelError, match="other shape classifier"):
        load_weights_from(mlp(inputs=3, hidden=[2], num_classes=3), path)


def test_other_endings_and_empty_folders_are_refused(tmp_path):
    (tmp_path / "w.bin").touch()
    with pytest.raises(ModelError, match=r"got `.bin`"):
        load_weights_from(_network(0), tmp_path / "w.bin")
    with pytest.raises(ModelError, match=r"expected a folder with model.safetensors"):
        load_weights_from(_network(0), tmp_path)


def test_folders_that_name_foreign_code_need_trust(tmp_path):
    save_model(_network(3), tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    builder = "limbeck.zoo.networks.perceptron:mlp"  # reached by a name that is not the zoo's
    description["source"]["builder"] = builder
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="--trust"):
        model_of(ModelRecipe.model_validate({"folder": tmp_path}), "teacher")
    found = model_of(ModelRecipe.model_validate({"folder": tmp_path, "trust": True}), "teacher")
    assert _same(found, _network(3))


def test_unknown_arguments_of_zoo_networks_name_the_nearest():
    given = ModelRecipe.model_validate({"model": "zoo:small_cnn", "widht": 3})
    with pytest.raises(RecipeError, match=r"got `student.widht`. Did you mean width"):
        model_of(given, "student")
    given = ModelRecipe.model_validate({"model": "zoo:small_cnn", "wieghts": 3})
    with pytest.raises(RecipeError, match=r"got `student.wieghts`. Did you mean weights"):
        model_of(given, "student")
