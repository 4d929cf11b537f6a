"""Recipes that ``limbeck init`` prints."""

import pytest

from limbeck.cli.init import RECIPES
from limbeck.cli.parts import loss_of_recipe, task_of_recipe
from limbeck.cli.recipe import Recipe
from limbeck.cli.yaml_text import mapping_of
from limbeck.zoo.networks import NETWORKS


NAMES = [
    "digits",
    "cifar100/resnet56-resnet20",
    "cifar100/resnet32x4-resnet8x4",
    "fashion-mnist",
    "folder",
]


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_short_valid_and_explained(limbeck, name):
    text, _ = limbeck("init", "--recipe", name)
    lines = text.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("# ")
    recipe = Recipe.model_validate(mapping_of(text, name))
    assert recipe.student.model.removeprefix("zoo:") in NETWORKS
    assert recipe.teacher is not None
    loss_of_recipe(recipe, task_of_recipe(recipe.task))


def test_all_recipes_are_checked():
    assert list(RECIPES) == NAMES
    pair = Recipe.model_validate(mapping_of(RECIPES["cifar100/resnet32x4-resnet8x4"], "r"))
    assert pair.student.model == "zoo:resnet8x4"
    assert "zoo:resnet32x4" in RECIPES["cifar100/resnet32x4-resnet8x4"]


def test_a_file_is_written_once(limbeck, tmp_path):
    path = tmp_path / "new.yaml"
    assert limbeck("init", path)[0] == f"{path}\n"
    assert path.read_text() == RECIPES["digits"]
    _, said = limbeck("init", path, "--recipe", "folder", code=2)
    assert "expected a new file" in said
    assert path.read_text() == RECIPES["digits"]


def test_unknown_recipes_name_the_nearest(limbeck):
    _, said = limbeck("init", "--recipe", "digit", code=2)
    assert "Did you mean digits" in said
