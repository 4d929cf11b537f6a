"""Recipes that ``limbeck init`` prints."""

import pytest

from limbeck.cli.parts import loss_of_recipe, task_of_recipe
from limbeck.cli.recipe import Recipe
from limbeck.cli.recipes import names, text_of
from limbeck.cli.yaml_text import mapping_of
from limbeck.zoo.networks import NETWORKS


@pytest.mark.parametrize(
    "name", ["digits", "fashion-mnist", "folder", "text", "language", "crd/vgg13-vgg8"]
)
def test_recipes_are_printed_short_valid_and_explained(limbeck, name):
    text, _ = limbeck("init", "--recipe", name)
    assert text == text_of(name)
    lines = text.splitlines()
    assert len(lines) <= 20
    assert lines[0].startswith("# ")
    recipe = Recipe.model_validate(mapping_of(text, name))
    made = recipe.student.model.removeprefix("zoo:") in NETWORKS
    assert made or recipe.student.model in ("hf-config:gpt2", "hf-config:encoder")
    assert recipe.teacher is not None
    loss_of_recipe(recipe, task_of_recipe(recipe.task))


@pytest.mark.parametrize("pair", ["resnet56-resnet20", "resnet32x4-resnet8x4"])
def test_the_first_names_of_the_itrd_recipes_still_work(limbeck, pair):
    old, _ = limbeck("init", "--recipe", f"cifar100/{pair}")
    new, _ = limbeck("init", "--recipe", f"itrd/{pair}")
    assert old == new
    assert "itrd" in new


def test_the_list_has_every_recipe(limbeck):
    said, _ = limbeck("init", "--list")
    assert max(map(len, said.splitlines())) <= 100
    assert len(said.splitlines()) < 60
    words = said.split()
    for name in names():
        method, _, rest = name.partition("/")
        assert name in words or (method in words and rest in words), name
    line = next(line for line in said.splitlines() if line.split()[:1] == ["luminet"])
    assert line.split()[1:] == list("BFGHIM")


def test_a_file_is_written_once(limbeck, tmp_path):
    path = tmp_path / "new.yaml"
    assert limbeck("init", path)[0] == f"{path}\n"
    assert path.read_text() == text_of("digits")
    _, said = limbeck("init", path, "--recipe", "folder", code=2)
    assert "expected a new file" in " ".join(said.split())
    assert path.read_text() == text_of("digits")


def test_unknown_recipes_name_the_nearest(limbeck):
    _, said = limbeck("init", "--recipe", "digit", code=2)
    assert "Did you mean digits" in said


def test_a_pair_that_a_method_was_not_published_for_is_refused(limbeck):
    _, said = limbeck("init", "--recipe", "dkd/resnet50_32px-vgg8", code=2)
    assert "expected the name of a recipe" in said
    assert "dkd/" in said.partition("Did you mean")[2]
    for wrong in ("train/resnet1", "nothing", "kd", "cifar100/vgg13-vgg9"):
        assert "limbeck init --list" in " ".join(
            limbeck("init", "--recipe", wrong, code=2)[1].split()
        )
