"""Recipe: everything that a run is made of, in at most 20 lines of YAML."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from limbeck.checks import RecipeError, nearest
from limbeck.cli.yaml_text import mapping_of, overridden
from limbeck.training.options import Options, explained


def _weight(value: Any) -> Any:
    share = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    if not (value is None or share or value == "auto" or isinstance(value, dict)):
        raise ValueError(
            f"expected a share in [0, 1], null, auto or a mapping of options; got {value!r}"
        )
    return value


def _number(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"expected a whole number, a share or null; got {value!r}")
    return value


def _named(key: str) -> BeforeValidator:
    def spread(value: Any) -> Any:
        if value is not None and not isinstance(value, (str, dict, BaseModel)):
            raise ValueError(f"expected a name or a mapping; got {value!r}")
        return {key: value} if isinstance(value, str) else value

    return BeforeValidator(spread)


class DataRecipe(BaseModel):
    """Which data: a data set of the zoo by ``name``, or ``module: package.module:callable``.

    Attributes:
        name: A name that ``limbeck.zoo.data.load_dataset`` knows; the next fields go with it.
        folder: Where its files lie.
        validation: Share of the training rows that the best epoch is chosen on.
        split_seed: Seed of that split, and of ``labels`` and ``limit``.
        augment: "default", or another that the data set knows.
        labels: Number or share of training rows that keep their label.
        limit: Number of training rows.
        size: Side of the images of a folder.
        module: Returns (train, validation, test) or an object with these attributes.
        options: Keyword arguments of ``module``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    folder: Path | None = None
    validation: float = Field(default=0.1, ge=0, lt=1)
    split_seed: int = 0
    augment: str = "default"
    labels: Annotated[int | float | None, BeforeValidator(_number)] = None
    limit: int | None = Field(default=None, ge=1)
    size: int | None = Field(default=None, ge=1)
    module: str | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_source(self) -> DataRecipe:
        if (self.name is None) == (self.module is None):
            raise ValueError("expected either `name`, a data set, or `module`, your own callable")
        if self.module is not None:
            fields = type(self).model_fields
            for name in set(fields) - {"name", "module", "options"}:
                if getattr(self, name) != fields[name].default:
                    raise ValueError(f"`{name}` goes with `name`; give your callable `options`")
        elif self.options:
            raise ValueError("`options` goes with `module`")
        return self


class ModelRecipe(BaseModel):
    """A model: built by name, or read from a folder that limbeck wrote.

    Attributes:
        model: ``zoo:resnet20``, ``binary:resnet20``, ``package.module:callable``, ``timm:NAME`` or
            ``hf:FOLDER``; any other key is an argument of its builder.
        weights: A safetensors or .pt file, or a folder that holds model.safetensors.
        fresh: Names of parts that do not take their ``weights``, such as a new classifier.
        folder: A folder written by limbeck, instead of ``model``.
        convert: What makes it cheaper: a name in ``limbeck.students.CONVERSIONS``, or a mapping of
            ``name`` and options. It comes last: ``weights`` and ``folder`` are those of the model
            before it, so that a binary student may start from a pretrained one.
        trust: Call a builder outside of limbeck that ``folder`` names.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str | None = None
    weights: Path | None = None
    fresh: tuple[str, ...] = ()
    folder: Path | None = None
    convert: Annotated[dict[str, Any] | None, _named("name")] = None
    trust: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """The builder's arguments: every key that is not a field."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _one_source(self) -> ModelRecipe:
        if (self.model is None) == (self.folder is None):
            hint = nearest("model", self.arguments).replace("mean ", "mean `model` for ")
            raise ValueError(f"expected either `model`, a name, or `folder`, a saved model.{hint}")
        if self.fresh and self.weights is None:
            raise ValueError("expected `fresh` beside `weights`, of which it leaves parts out")
        if self.folder is not None:
            if self.weights is not None:
                raise ValueError("expected `weights` beside `model`; a `folder` has its own")
            if self.arguments:
                known = list(type(self).model_fields)
                first = next(iter(self.arguments))
                raise ValueError(
                    f"expected no `{first}` beside `folder`, which says how it was built."
                    f"{nearest(first, known)}"
                )
        return self


Model = Annotated[ModelRecipe, _named("model")]


class Recipe(BaseModel):
    """One run, or one for each of several seeds.

    Attributes:
        seed: All randomness of the run derives from it.
        out: The run's folder; None means runs/ and the recipe's name.
        task: A name, or a mapping with ``name`` and its options.
        data: What is trained and evaluated on.
        teacher: The network to learn from; null for plain training.
        student: The network that learns.
        loss: A name, a mapping with ``name`` and options, or several by name, each with a
            ``weight`` and options.
        weight: Share of the distillation term in [0, 1]; null for the published combination;
            "auto", or a mapping of mode and options, for one measured while the student trains.
        layers: Layer names of "student" and "teacher" for a loss on features.
        training: How it is trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0)
    out: Path | None = None
    task: Annotated[dict[str, Any], _named("name")] = {"name": "classification"}
    data: Annotated[DataRecipe, _named("name")]
    teacher: Model | None = None
    student: Model
    loss: Annotated[dict[str, Any], _named("name")] = {"name": "itrd"}
    weight: Annotated[float | str | dict[str, Any] | None, BeforeValidator(_weight)] = None
    layers: dict[str, Any] | None = None
    training: Options = Field(default_factory=lambda: Options.model_validate({}))

    @field_validator("task")
    @classmethod
    def _task_has_name(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("expected `name`, such as classification")
        return value

    def trusting(self) -> Recipe:
        """Return the recipe with ``trust`` beside each ``folder`` of a model: what --trust says."""
        models = {"teacher": self.teacher, "student": self.student}
        trusted = {
            name: model.model_copy(update={"trust": True})
            for name, model in models.items()
            if model is not None and model.folder is not None
        }
        return self.model_copy(update=trusted)

    def as_yaml(self) -> str:
        """Return all fields, defaults included, as YAML that is a recipe again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_of(mapping: dict[str, Any], where: str) -> Recipe:
    """Return a checked recipe.

    Raises:
        RecipeError: If a field is unknown, missing or of a wrong type, or names a missing file.
    """
    try:
        recipe = Recipe.model_validate(mapping)
    except ValidationError as problem:
        raise RecipeError(explained(where, problem, Recipe)) from None
    _check_files(recipe, where)
    return recipe


def read_mapping(source: str) -> dict[str, Any]:
    """Return the fields of a recipe file, or of standard input for ``-``.

    Raises:
        RecipeError: If there is no such file, or it is not YAML.
    """
    if source == "-":
        return mapping_of(sys.stdin.read(), "standard input")
    path = Path(source)
    if not path.is_file():
        raise RecipeError(
            f"{path}: expected a recipe; there is no such file.{_near_file(path)} `limbeck init` "
            "writes one."
        )
    try:
        text = path.read_text(encoding="utf8")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: expected a text file in UTF-8; it is not one.") from None
    return mapping_of(text, source)


def read_recipe(source: str, overrides: Iterable[str] = ()) -> Recipe:
    """Return the recipe in a file (``-``: standard input), with overrides.

    Raises:
        RecipeError: If there is none, it is not YAML, or a field is wrong.
    """
    return recipe_of(overridden(read_mapping(source), overrides), source)


def _check_files(recipe: Recipe, where: str) -> None:
    places = {"data.folder": recipe.data.folder, "student.weights": recipe.student.weights}
    places["student.folder"] = recipe.student.folder
    if recipe.teacher is not None:
        places["teacher.weights"] = recipe.teacher.weights
        places["teacher.folder"] = recipe.teacher.folder
    for field, path in places.items():
        if path is not None and not path.exists():
            raise RecipeError(
                f"{where}: expected `{field}` to exist; got {path}.{_near_file(path)} Paths are "
                "relative to the present folder."
            )


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, [other.name for other in path.parent.iterdir()])
