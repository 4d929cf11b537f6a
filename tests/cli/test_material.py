"""From recipes to objects."""

import sys
import types

import pytest
import torch

from limbeck.checks import ArgumentError, RecipeError
from limbeck.cli.material import material_of
from limbeck.cli.parts import loss_of_recipe, model_of, task_of_recipe
from limbeck.cli.recipe import DataRecipe, ModelRecipe, recipe_of
from limbeck.data import Data
from limbeck.losses import ITRD, KD, WeightedSum
from limbeck.tasks import Classification, Regression


@pytest.fixture
def own(monkeypatch):
    module = types.ModuleType("own_data")
    monkeypatch.setitem(sys.modules, "own_data", module)
    return module


def _recipe(**fields):
    return recipe_of({"data": "digits", "student": "zoo:mlp", **fields}, "r")


def test_zoo_networks_take_classes_channels_and_normalisation_from_the_data():
    digits = material_of(DataRecipe.model_validate({"name": "digits", "validation": 0}))
    assert digits.validation is None
    cnn = model_of(ModelRecipe.model_validate({"model": "zoo:small_cnn"}), "student", digits)
    assert cnn.limbeck_source["kwargs"]["num_classes"] == 10
    assert cnn.limbeck_source["kwargs"]["channels"] == 1
    assert cnn.limbeck_source["kwargs"]["normalisation"] == "digits"
    given = {"model": "zoo:mlp", "num_classes": 12, "normalisation": None}
    perceptron = model_of(ModelRecipe.model_validate(given), "student", digits)
    assert perceptron.limbeck_source["kwargs"]["inputs"] == 64
    assert perceptron.limbeck_source["kwargs"]["num_classes"] == 12
    assert perceptron.limbeck_source["kwargs"]["normalisation"] is None


def test_initial_weights_depend_on_the_seed_alone():
    given = ModelRecipe.model_validate({"model": "zoo:mlp"})
    first, again, other = (model_of(given, "student", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_options_of_data_arrive():
    given = {"name": "digits", "validation": 0.2, "limit": 100, "labels": 50, "augment": "none"}
    found = material_of(DataRecipe.model_validate(given))
    assert len(found.train) == 100
    assert int((found.train.targets >= 0).sum()) == 50
    assert found.train.augment is None
    assert len(found.validation) == round(0.2 * 1258)


def test_own_data_as_three_parts(own):
    def parts(rows):
        images = torch.zeros(rows, 3, 4, 5)
        return (images, torch.arange(rows)), None, (images, torch.zeros(rows, dtype=torch.int64))

    own.parts = parts
    found = material_of(
        DataRecipe.model_validate({"module": "own_data:parts", "options": {"rows": 6}})
    )
    assert (len(found.train), found.validation, len(found.test)) == (6, None, 6)
    assert (found.classes, found.channels, found.pixels) == (6, 3, 60)


def test_own_data_as_an_object(own):
    rows = Data((torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])), class_names=["no", "yes"])
    own.make = types.SimpleNamespace(
        now=lambda: types.SimpleNamespace(train=rows, test=rows, classes=3, name="mnist")
    )
    found = material_of(DataRecipe.model_validate({"module": "own_data:make.now"}))
    assert (found.classes, found.class_names, found.validation) == (3, ["no", "yes"], None)
    assert found.train is rows
    network = model_of(ModelRecipe.model_validate({"model": "zoo:small_cnn"}), "student", found)
    assert network.limbeck_source["kwargs"]["normalisation"] == "mnist"


def test_own_data_that_cannot_be(own):
    own.wrong = lambda: 3
    with pytest.raises(RecipeError, match=r"own_data:wrong to return .*; got int"):
        material_of(DataRecipe.model_validate({"module": "own_data:wrong"}))
    with pytest.raises(RecipeError, match=r"own_data has no `wrongs`. Did you mean wrong"):
        material_of(DataRecipe.model_validate({"module": "own_data:wrongs"}))
    with pytest.raises(
        RecipeError, match=r"`data.module` to be importable; No module named 'nono'"
    ):
        material_of(DataRecipe.model_validate({"module": "nono:data"}))


def test_tasks_with_options():
    task = task_of_recipe(
        {"name": "classification", "label_smoothing": 0.1, "class_weights": [1, 2]}
    )
    assert isinstance(task, Classification)
    assert task.label_smoothing == 0.1
    assert task.class_weights.tolist() == [1.0, 2.0]
    assert isinstance(task_of_recipe({"name": "regression"}), Regression)
    with pytest.raises(ArgumentError, match="Did you mean regression"):
        task_of_recipe({"name": "regresion"})
    with pytest.raises(RecipeError, match=r"got `label_smooth`. Did you mean label_smoothing"):
        task_of_recipe({"name": "classification", "label_smooth": 0.1})


def test_one_loss_with_options_and_layers():
    task = Classification()
    loss = loss_of_recipe(_recipe(loss={"name": "kd", "temperature": 2.5}), task)
    assert isinstance(loss, KD)
    assert loss.temperature == 2.5
    loss = loss_of_recipe(_recipe(loss="itrd", layers={"student": "layer1"}), task)
    assert isinstance(loss, ITRD)
    assert loss.layers == {"student": ("layer1",), "teacher": ("penultimate",)}


def test_several_losses_become_a_weighted_sum():
    loss = {"kd": {"weight": 0.5, "temperature": 3}, "itrd": {"layers": {"teacher": "layer1"}}}
    loss |= {"warm": {"name": "kd", "temperature": 9}, "match": 2}
    found = loss_of_recipe(_recipe(loss=loss), Classification())
    assert isinstance(found, WeightedSum)
    assert found.weights == {"kd": 0.5, "itrd": 1.0, "warm": 1.0, "match": 2.0}
    assert (found.losses["kd"].temperature, found.losses["warm"].temperature) == (3, 9)
    assert found.losses["itrd"].layers["teacher"] == ("layer1",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"loss": {"kd": {}, "itdr": {}}}, "Did you mean itrd"),
        ({"loss": "kdd"}, "Did you mean kd"),
        ({"loss": {"kd": {"temprature": 3}}}, "Did you mean temperature"),
        ({"loss": {"kd": "strong"}}, r"`loss.kd` to be a weight or a mapping .* got 'strong'"),
        ({"loss": {"kd": {"weight": "much"}}}, r"`loss.kd.weight` to be a number; got 'much'"),
        ({"loss": {"kd": {}, "itrd": {}}, "layers": {"student": "a"}}, "Put `layers` inside each"),
    ],
)
def test_losses_that_cannot_be(fields, said):
    with pytest.raises((RecipeError, ArgumentError), match=said):
        loss_of_recipe(_recipe(**fields), Classification())
