"""From a recipe's ``data`` to rows, and what a network must know about them."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.checks import RecipeError, nearest
from limbeck.cli.own_modules import search_here
from limbeck.cli.recipe import DataRecipe
from limbeck.data import Arrays, Data
from limbeck.vocabulary import Vocabulary


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
        vocabulary: What token ids stand for, of texts for language models.
        token_bytes: Bytes of text of every token id, where known.
    """

    name: str
    train: Data
    validation: Data | None
    test: Data | None
    classes: int | None = None
    class_names: list[str] | None = None
    channels: int | None = None
    pixels: int | None = None
    vocabulary: Vocabulary | None = None
    token_bytes: tuple[int, ...] | None = None


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


def _from_callable(name: str, options: dict[str, Any]) -> Material:
    package, _, rest = name.partition(":")
    search_here()
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
    _check_call(name, target, options)
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


def _check_call(name: str, target: Any, options: dict[str, Any]) -> None:
    """Raise RecipeError where a callable cannot be called with the options."""
    try:
        taken = inspect.signature(target)
    except (TypeError, ValueError):  # no function, or one that does not say what it takes
        taken = None
    try:
        if taken is not None:
            taken.bind(**options)
    except TypeError as problem:
        raise RecipeError(
            f"recipe: expected `data.options` to be what {name} takes; {problem}. It takes {taken}."
        ) from None


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
        vocabulary=getattr(source, "vocabulary", None),
        token_bytes=getattr(source, "token_bytes", None),
    )


def _classes_of(targets: list[Tensor | None]) -> int | None:
    known = [part for part in targets if part is not None]
    if not known or any(part.is_floating_point() or part.ndim != 1 for part in known):
        return None
    return max(int(part.max()) for part in known) + 1
