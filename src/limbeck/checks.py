"""Errors that a user can act on, and the checks of arguments that raise them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torch import Tensor


#: What other libraries call an option, and what it is called here.
_SHORT = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay"}


class LimbeckError(Exception):
    """Base of every error that limbeck raises about what it was given."""


class ShapeError(LimbeckError, ValueError):
    """Tensors whose shapes do not fit each other."""


class ArgumentError(LimbeckError, ValueError):
    """An argument outside of what the function accepts."""


class DataError(LimbeckError, ValueError):
    """Data that cannot be used: empty, not finite, labels out of range, unreadable."""


class LayerError(LimbeckError, LookupError):
    """A layer name that the model does not have, or a layer that did not run."""


class RecipeError(LimbeckError, ValueError):
    """A recipe with an unknown field, a wrong type or a missing file."""


class ModelError(LimbeckError, ValueError):
    """A model that cannot be built, loaded or used for this."""


class CheckpointError(LimbeckError, RuntimeError):
    """A checkpoint that cannot be read, or that belongs to another run."""


class StoreError(LimbeckError, ValueError):
    """A store of teacher outputs that is unfinished, damaged, or made of something else."""


class StorageError(LimbeckError, OSError):
    """A folder that cannot be written, or a disk that is full."""


def check_same_shape(where: str, **tensors: Tensor) -> None:
    """Raise ShapeError unless all tensors have one shape; names are shown as given."""
    if len({tuple(tensor.shape) for tensor in tensors.values()}) > 1:
        got = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(f"{where}: expected tensors of one shape; got {got}.")


def check_same_rows(where: str, **tensors: Tensor) -> None:
    """Raise ShapeError unless all tensors are [rows, width] with one number of rows."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len({shape[0] for shape in shapes.values() if shape}) > 1 or any(
        len(shape) != 2 for shape in shapes.values()
    ):
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"{where}: expected matrices with one row a sample; got {got}.")


def check_positive(where: str, **numbers: float | int) -> None:
    """Raise ArgumentError unless every number is finite and above zero."""
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise ArgumentError(f"{where}: expected `{name}` > 0; got {number}.")


def check_between(where: str, low: float, high: float, **numbers: float | int) -> None:
    """Raise ArgumentError unless every number lies in [low, high]."""
    for name, number in numbers.items():
        if not low <= number <= high:
            raise ArgumentError(f"{where}: expected `{name}` in [{low}, {high}]; got {number}.")


def check_choice(where: str, argument: str, value: object, choices: Iterable[str]) -> None:
    """Raise ArgumentError unless ``value`` is one of ``choices``; the nearest one is named."""
    known = list(choices)
    if value not in known:
        hint = nearest(str(value), known)
        raise ArgumentError(
            f"{where}: expected `{argument}` to be one of {', '.join(known)}; got {value!r}.{hint}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" for the closest known names, or an empty string.

    Capitals count as small letters, and a usual short name stands for the long one.

    Example:
        >>> nearest("KD", ["kd", "dkd"]), nearest("lr", ["learning_rate", "clip"])
        (' Did you mean kd?', ' Did you mean learning_rate?')
    """
    names: dict[str, list[str]] = {}
    for one in known:
        names.setdefault(one.lower(), []).append(one)
    wanted = name.lower()
    wanted = _SHORT[wanted] if _SHORT.get(wanted) in names else wanted
    exact = wanted in names and name not in names[wanted]
    close = [wanted] if exact else difflib.get_close_matches(wanted, list(names), n=3, cutoff=0.5)
    found = [one for folded in close for one in names[folded]][:3]
    return f" Did you mean {' or '.join(found)}?" if found else ""
