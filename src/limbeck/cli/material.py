"""From a recipe to objects: data, models, task and loss."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checks import RecipeError, check_choice, nearest
from limbeck.cli.recipe import DataRecipe, ModelRecipe, Recipe
from limbeck.cli.weights import load_weights_from
from limbeck.data import Arrays, Data
from limbeck.losses import LOSSES, WeightedSum
from limbeck.tasks import TASKS
from limbeck.training.building import build
from limbeck.training.saving import load
from limbeck.training.terms import loss_of
from limbeck.types import Task


@dataclass(frozen=True)
class Material:
    """Data in three parts, and what a network must know about it.

    Attributes:
        name: The data set's name, or the callable's.
        train: Rows to train on.
        validation: Rows that the best epoch is chosen on, or None.
        test: Rows that are looked at once, or None.
        classes: Number of classes where there are classes.
        class_names: Their names, where known.
        channels: Channels of images.
        pixels: Numbers in one image.
    """

    name: str
    train: Data
    validation: Data | None
    test: Data | None
    classes: int | None = None
    class_names: list[str] | None = None
    channels: int | None = None
    pixels: int | None = None


def material_of(recipe: DataRecipe) -> Material:
    """Load the data that a recipe names.

    Raises:
        LimbeckError: If it is unknown, missing or damaged.
    """
    if recipe.module is not None:
        return _from_callable(recipe.module, recipe.options)
    from limbeck.zoo.data import load_dataset

    given = {"folder": recipe.folder, "labels": recipe.labels, "limit": recipe.limit}
    given["size"] = recipe.size
    found = load_dataset(
        str(recipe.name),
        validation=recipe.validation,
        split_seed=recipe.split_seed,
        augment=recipe.augment,
        **{key: value for key, value in given.items() if value is not None},
    )
    return _described(found, found.name, (found.train, found.validation, found.test))


def model_of(
    recipe: ModelRecipe, where: str, material: Material | None = None, seed: int = 0
) -> nn.Module:
    """Build or load a model; networks of the zoo take what they are not told from the data.

    Args:
        recipe: Which model.
        where: "student" or "teacher", for messages.
        material: The data, for the defaults of networks of the zoo.
        seed: Seed of initial weights.

    Raises:
        LimbeckError: If it cannot be built, or its weights do not fit.
    """
    if recipe.folder is not None:
        return load(recipe.folder, trust=recipe.trust)
    name, arguments = str(recipe.model), recipe.arguments
    if name.startswith("zoo:"):
        arguments = _zoo_defaults(name, material) | arguments
        _check_arguments(name, recipe.arguments, where)
    model = build(name, seed=seed, **arguments)
    if recipe.weights is not None:
        load_weights_from(model, recipe.weights)
    return model


def task_of_recipe(options: dict[str, Any]) -> Task:
    """Return the task that a recipe names, with its options.

    Raises:
        ArgumentError: If task or option is unknown.
    """
    options = dict(options)
    name = options.pop("name")
    check_choice("recipe", "task", name, TASKS)
    accepted = list(inspect.signature(TASKS[name]).parameters)
    for option in options:
        if option not in accepted:
            raise RecipeError(
                f"recipe: expected `task` {name} to have options "
                f"{', '.join(accepted) or '(none)'}; got `{option}`.{nearest(option, accepted)}"
            )
    if isinstance(options.get("class_weights"), list):
        options["class_weights"] = torch.tensor(options["class_weights"], dtype=torch.float32)
    return TASKS[name](**options)


def loss_of_recipe(recipe: Recipe, task: Task) -> nn.Module:
    """Return the distillation term that a recipe asks for, with parameters of its own.

    Raises:
        LimbeckError: If a loss or an option is unknown, or layers do not belong.
    """
    options = dict(recipe.loss)
    if "name" in options:
        return loss_of(_with_floats(options), recipe.layers, task)
    if recipe.layers is not None:
        raise RecipeError(
            "recipe: expected `layers` beside a single loss; got several. Put `layers` inside each."
        )
    terms: dict[str, tuple[float, Any]] = {}
    for key, given in options.items():
        term: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
        if given is not None and not isinstance(given, dict):
            if isinstance(given, bool) or not isinstance(given, (int, float)):
                raise RecipeError(
                    f"recipe: expected `loss.{key}` to be a weight or a mapping of options; got "
                    f"{given!r}. For one loss with options, say its `name`."
                )
            term = {"weight": given}
        name = term.setdefault("name", key)
        check_choice("recipe", f"loss.{key}", name, LOSSES)
        weight, layers = _weight(key, term.pop("weight", 1.0)), term.pop("layers", None)
        terms[key] = (weight, loss_of(_with_floats(term), layers, task))
    # Through loss_of once more: it refuses a sum that is not meant for the task.
    return loss_of(WeightedSum(terms), None, task)


def _with_floats(options: dict[str, Any]) -> dict[str, Any]:
    """Return a loss's options with 4 as 4.0 where it takes a float: YAML tells them apart."""
    kind = LOSSES.get(str(options["name"]))
    accepted = {} if kind is None else inspect.signature(kind).parameters
    return {
        key: float(value)
        if type(value) is int and key in accepted and "float" in str(accepted[key].annotation)
        else value
        for key, value in options.items()
    }


def _weight(key: str, weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise RecipeError(
            f"recipe: expected `loss.{key}.weight` to be a number; got {weight!r}. Correct it."
        )
    return float(weight)


def _zoo_defaults(name: str, material: Material | None) -> dict[str, Any]:
    from limbeck.zoo.networks import NETWORKS, STATISTICS

    builder = NETWORKS.get(name.removeprefix("zoo:"))
    if builder is None or material is None:
        return {}
    found: dict[str, Any] = {"num_classes": material.classes, "channels": material.channels}
    if "inputs" in inspect.signature(builder).parameters:
        found["inputs"] = material.pixels
    known = material.name.replace("-", "_")
    if known in STATISTICS and len(STATISTICS[known][0]) == material.channels:
        found["normalisation"] = known
    return {key: value for key, value in found.items() if value is not None}


def _check_arguments(name: str, given: dict[str, Any], where: str) -> None:
    from limbeck.zoo.networks import NETWORKS

    builder = NETWORKS.get(name.removeprefix("zoo:"))
    if builder is None:
        return  # build() says so, with the near names
    known = [*inspect.signature(builder).parameters, *ModelRecipe.model_fields]
    for argument in given:
        if argument not in known:
            raise RecipeError(
                f"recipe: expected a field of `{where}` or an argument of {name}; got "
                f"`{where}.{argument}`.{nearest(argument, known)} Fields: {', '.join(known)}."
            )


def _from_callable(name: str, options: dict[str, Any]) -> Material:
    package, _, rest = name.partition(":")
    try:
        target: Any = importlib.import_module(package)
    except ModuleNotFoundError as problem:
        raise RecipeError(
            f"recipe: expected `data.module` to be importable; {problem}. Check its name, or put "
            "its folder on PYTHONPATH."
        ) from None
    for part in rest.split("."):
        if not rest or not hasattr(target, part):
            raise RecipeError(
                f"recipe: expected `data.module` as package.module:callable; {package} has no "
                f"`{rest}`.{nearest(rest, dir(target))}"
            )
        target = getattr(target, part)
    found: Any = target(**options)
    if isinstance(found, (tuple, list)) and len(found) == 3:
        return _described(None, name, (found[0], found[1], found[2]))
    train = getattr(found, "train", None)
    if train is None:
        raise RecipeError(
            f"recipe: expected {name} to return (train, validation, test) or an object with these "
            f"attributes; got {type(found).__name__}."
        )
    parts = (train, getattr(found, "validation", None), getattr(found, "test", None))
    return _described(found, name, parts)


def _described(source: Any, name: str, parts: tuple[Any, Any, Any]) -> Material:
    train, validation, test = (
        None if part is None else Data.of(part, which)
        for part, which in zip(parts, ("train", "validation", "test"), strict=True)
    )
    if train is None:
        raise RecipeError(f"recipe: expected {name} to give training rows; got None.")
    classes = getattr(source, "classes", None)
    if classes is None:
        classes = _classes_of([part.targets for part in (train, validation, test) if part])
    inputs = train.source.inputs if isinstance(train.source, Arrays) else None
    images = inputs if isinstance(inputs, Tensor) and inputs.ndim > 1 else None
    channels = images.shape[1] if images is not None and images.ndim == 4 else None
    return Material(
        name=getattr(source, "name", name),
        train=train,
        validation=validation,
        test=test,
        classes=classes,
        class_names=getattr(source, "class_names", None) or train.class_names,
        channels=channels or getattr(source, "channels", None),
        pixels=None if images is None else images[0].numel(),
    )


def _classes_of(targets: list[Tensor | None]) -> int | None:
    known = [part for part in targets if part is not None]
    if not known or any(part.is_floating_point() or part.ndim != 1 for part in known):
        return None
    return max(int(part.max()) for part in known) + 1
