"""Recipes: what they accept, what they refuse and how they say it."""

import pytest
import yaml

from limbeck.checks import RecipeError
from limbeck.cli.recipe import Recipe, read_recipe, recipe_of
from limbeck.cli.yaml_text import mapping_of, overridden


MINIMAL = {"data": "digits", "student": "zoo:small_cnn"}


def test_defaults_and_short_forms():
    recipe = recipe_of(MINIMAL, "r")
    assert recipe.data.name == "digits"
    assert recipe.data.validation == 0.1
    assert recipe.student.model == "zoo:small_cnn"
    assert recipe.teacher is None
    assert (recipe.task, recipe.loss) == ({"name": "classification"}, {"name": "itrd"})
    assert (recipe.seed, recipe.weight, recipe.training.epochs) == (0, None, 60)


def test_arguments_of_builders_are_kept_apart():
    recipe = recipe_of({**MINIMAL, "student": {"model": "zoo:mlp", "hidden": [3], "x": None}}, "r")
    assert recipe.student.arguments == {"hidden": [3], "x": None}


def test_yaml_of_a_recipe_is_the_same_recipe():
    given = {
        **MINIMAL,
        "out": "runs/x",
        "teacher": {"model": "zoo:mlp", "normalisation": None, "hidden": [4, 5]},
        "loss": {"kd": {"weight": 0.5}, "itrd": {}},
        "training": {"milestones": [1, 2], "learning_rate": 0.1},
    }
    recipe = recipe_of(given, "r")
    assert recipe_of(yaml.safe_load(recipe.as_yaml()), "r") == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"studnet": 1}, r"r: expected a known field; got `studnet`. Did you mean student"),
        ({"training": {"epoch": 1}}, r"got `training.epoch`. Did you mean epochs"),
        ({"data": {"name": "digits", "folders": "x"}}, r"`data.folders`. Did you mean folder"),
        ({"training": {"epochs": "many"}}, r"`training.epochs`: .*integer.*got 'many'"),
        ({"training": {"epochs": 0}}, r"`training.epochs`: .*greater than or equal to 1; got 0"),
        ({"seed": "one"}, r"`seed`: .*integer.*got 'one'"),
        ({"weight": 1.5}, r"`weight`: expected a share in \[0, 1\], null, auto or .*; got 1.5"),
        ({"weight": "atuo"}, r"`weight`: expected a share .*; got 'atuo'"),
        ({"weight": True}, r"`weight`: expected a share .*; got True"),
        ({"loss": 5}, r"`loss`: expected a name or a mapping; got 5"),
        ({"task": {"label_smoothing": 0.1}}, r"`task`: expected `name`"),
        ({"student": None}, r"`student`: .*got None"),
        ({"student": {"modle": "zoo:mlp"}}, r"`student`: expected either `model`.*mean `model`"),
        ({"student": {"folder": ".", "weights": "."}}, r"expected `weights` beside `model`"),
        ({"student": {"folder": ".", "trusted": 1}}, r"no `trusted` .*Did you mean trust"),
        ({"data": {}}, r"`data`: expected either `name`"),
        ({"data": {"name": "a", "module": "b:c"}}, r"`data`: expected either `name`"),
        ({"data": {"module": "b:c", "limit": 3}}, r"`limit` goes with `name`"),
        ({"data": {"name": "a", "options": {"n": 3}}}, r"`options` goes with `module`"),
        ({"data": {"name": "digits", "labels": "all"}}, r"`data.labels`: expected a whole number"),
    ],
)
def test_errors_name_the_field(change, said):
    with pytest.raises(RecipeError, match=said):
        recipe_of({**MINIMAL, **change}, "r")


def test_missing_fields_are_named():
    with pytest.raises(RecipeError, match="expected the field `student`; it is missing"):
        recipe_of({"data": "digits"}, "r")


@pytest.mark.parametrize("field", ["student.weights", "teacher.folder", "data.folder"])
def test_missing_files_are_named_with_the_nearest(tmp_path, field):
    (tmp_path / "teacher.pt").touch()
    part, key = field.split(".")
    inner = {"name": "cifar10"} if part == "data" else {"model": "zoo:mlp"}
    if key == "folder" and part == "teacher":
        inner = {}
    given = {**MINIMAL, part: {**inner, key: str(tmp_path / "teachr.pt")}}
    with pytest.raises(
        RecipeError, match=rf"`{field}` to exist; .*Did you mean teacher.pt"
    ) as said:
        recipe_of(given, "r")
    assert str(tmp_path / "teachr.pt") in str(said.value)


def test_missing_recipe_names_the_nearest(tmp_path):
    (tmp_path / "digits.yaml").touch()
    with pytest.raises(RecipeError, match=r"there is no such file. Did you mean digits.yaml\?"):
        read_recipe(str(tmp_path / "digit.yaml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nout: [a\nloss: kd\n", r"r, line 3, column \d+: expected YAML"),
        ("seed: 1\nloss: kd\nseed: 2\n", r"r, line 3, column 1: expected YAML; `seed` is given tw"),
        (
            "training:\n  epochs: 1\n  epochs: 2\n",
            r"r, line 3, column 3: .*`epochs` is given twice",
        ),
        ("a: !!python/object/apply:os.system [x]\n", r"r, line 1.*could not determine a constr"),
        ("- seed\n", r"r: expected fields, `key: value`; got a list"),
        ("", r"r: expected fields, `key: value`; got nothing"),
        ("1: 2\n", r"r: expected names of fields; got 1"),
    ],
)
def test_yaml_errors_name_the_line(text, said):
    with pytest.raises(RecipeError, match=said):
        mapping_of(text, "r")


def test_numbers_without_a_point_are_numbers():
    assert mapping_of("a: 5e-4\nb: [1E3, 2]\nc: e5\n", "r") == {
        "a": 5e-4,
        "b": [1000.0, 2],
        "c": "e5",
    }


def test_overrides_go_into_copies_of_nested_fields():
    given = {**MINIMAL, "training": {"epochs": 3}}
    found = overridden(
        given,
        [
            "training.epochs=5",
            "training.milestones=[1, 2]",
            "loss=kd",
            "loss.temperature=2.5",
            "teacher.model=zoo:mlp",
            "student.width=4",
            "out=",
        ],
    )
    assert found["training"] == {"epochs": 5, "milestones": [1, 2]}
    assert found["loss"] == {"name": "kd", "temperature": 2.5}
    assert found["teacher"] == {"model": "zoo:mlp"}
    assert found["student"] == {"model": "zoo:small_cnn", "width": 4}
    assert found["out"] is None
    assert given == {**MINIMAL, "training": {"epochs": 3}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs", "expected KEY.SUB=VALUE"),
        ("=3", "expected KEY.SUB=VALUE"),
        ("training..epochs=3", "expected KEY.SUB=VALUE"),
        ("seed.first=3", "expected `seed` to have fields; it is 7. Override `seed` itself"),
        ("out=[a", r"out=\[a, line 1, column \d+: expected YAML"),
    ],
)
def test_overrides_that_cannot_be(override, said):
    with pytest.raises(RecipeError, match=said):
        overridden({**MINIMAL, "seed": 7}, [override])


def test_unknown_overrides_meet_the_same_error(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(RecipeError, match=r"got `training.epoch`. Did you mean epochs"):
        read_recipe(str(path), ["training.epoch=3"])
    assert read_recipe(str(path), ["training.epochs=3"]).training.epochs == 3


def test_recipes_cannot_be_changed():
    recipe = Recipe.model_validate(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3
