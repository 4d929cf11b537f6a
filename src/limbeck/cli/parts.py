"""From a recipe to the model, the task and the loss that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from limbeck.checks import RecipeError, check_choice, nearest
from limbeck.cli.material import Material
from limbeck.cli.own_modules import is_own, search_here
from limbeck.cli.recipe import ModelRecipe, Recipe
from limbeck.cli.texts import defaults_of, fit_model
from limbeck.cli.weights import load_weights_from
from limbeck.losses import LOSSES, WeightedSum
from limbeck.store.group import is_store, open_store
from limbeck.students import BINARY_NETWORKS, check_conversion, converted
from limbeck.tasks import TASKS
from limbeck.training.building import build
from limbeck.training.saving import is_model, load
from limbeck.training.terms import loss_of
from limbeck.types import Task


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
        LimbeckError: If it cannot be built or converted, or its weights do not fit.
    """
    if recipe.convert is None:
        return fit_model(_unconverted(recipe, where, material, seed), where, material)
    check_conversion(f"{where}.convert", recipe.convert)  # before files are read
    model = _unconverted(recipe, where, material, seed)
    return converted(model, recipe.convert, where=f"{where}.convert")


def teacher_of(recipe: ModelRecipe, material: Material, seed: int = 0) -> Any:
    """Build or load a teacher; a folder that ``limbeck cache`` wrote is opened as a store.

    Raises:
        LimbeckError: If it cannot be built, loaded or opened, or a store is to be converted.
    """
    if recipe.folder is None or is_model(recipe.folder) or not is_store(recipe.folder):
        return model_of(recipe, "teacher", material, seed)
    if recipe.convert is not None:
        raise RecipeError(
            f"teacher.convert: expected a model to convert; {recipe.folder} is a store of a "
            "teacher's outputs. Convert the teacher before it is stored."
        )
    return open_store(recipe.folder)


def _unconverted(
    recipe: ModelRecipe, where: str, material: Material | None, seed: int
) -> nn.Module:
    search_here(recipe.trust or is_own(recipe.model))
    if recipe.folder is not None:
        return load(recipe.folder, trust=recipe.trust)
    name, arguments = str(recipe.model), recipe.arguments
    builder = _builder(name)
    if builder is not None:
        _check_arguments(name, builder, arguments, where)
        arguments = _defaults(builder, material) | arguments
        if name.startswith("binary:"):
            arguments = _with_statistics(arguments, where)
    model = build(name, seed=seed, **defaults_of(name, material) | arguments)
    if recipe.weights is not None:
        load_weights_from(model, recipe.weights, recipe.fresh)
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
        return loss_of(_with_floats(options), recipe.layers, task, recipe.seed)
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
        terms[key] = (weight, loss_of(_with_floats(term), layers, task, recipe.seed))
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


def _builder(name: str) -> Callable[..., nn.Module] | None:
    """Return the builder of one of limbeck's own networks; build() explains unknown names."""
    from limbeck.zoo.networks import NETWORKS

    kind, _, rest = name.partition(":")
    return {"zoo": NETWORKS, "binary": BINARY_NETWORKS}.get(kind, {}).get(rest)


def _defaults(builder: Callable[..., nn.Module], material: Material | None) -> dict[str, Any]:
    from limbeck.zoo.networks import STATISTICS

    if material is None:
        return {}
    found: dict[str, Any] = {"num_classes": material.classes, "channels": material.channels}
    if "inputs" in inspect.signature(builder).parameters:
        found["inputs"] = material.pixels
    known = material.name.replace("-", "_")
    if known in STATISTICS and len(STATISTICS[known][0]) == material.channels:
        found["normalisation"] = known
    return {key: value for key, value in found.items() if value is not None}


def _with_statistics(arguments: dict[str, Any], where: str) -> dict[str, Any]:
    """Return arguments with numbers for the name of a data set: binary networks take these only."""
    from limbeck.zoo.networks import STATISTICS

    named = arguments.get("normalisation")
    if not isinstance(named, str):
        return arguments
    check_choice("recipe", f"{where}.normalisation", named, STATISTICS)
    statistics = None if named == "none" else [list(row) for row in STATISTICS[named]]
    return {**arguments, "normalisation": statistics}


def _check_arguments(
    name: str, builder: Callable[..., nn.Module], given: dict[str, Any], where: str
) -> None:
    known = [*inspect.signature(builder).parameters, *ModelRecipe.model_fields]
    for argument in given:
        if argument not in known:
            raise RecipeError(
                f"recipe: expected a field of `{where}` or an argument of {name}; got "
                f"`{where}.{argument}`.{nearest(argument, known)} Fields: {', '.join(known)}."
            )
