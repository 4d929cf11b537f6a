"""Weights from files that others wrote: safetensors, limbeck folders, torch state dicts."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from limbeck.checks import ModelError, nearest
from limbeck.training.saving import WEIGHTS, load_strictly, read_weights


_NESTED = ("state_dict", "model")
_AKAMASTER = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "linear.weight"}


def load_weights_from(model: nn.Module, path: Path, fresh: Sequence[str] = ()) -> None:
    """Load weights strictly into a model.

    A .pt or .pth file may hold a state dict, or one under "state_dict" or "model"; prefixes
    "module." are taken off, and akamaster's names fit the ResNets of the zoo. It is read without
    running any code that it holds.

    Args:
        model: Is changed in place.
        path: A file, or a folder that limbeck wrote.
        fresh: Names of parts that keep what they have, such as a classifier of other classes.

    Raises:
        ModelError: If there are no weights, the file is damaged or holds more than tensors, names
            or shapes differ, or the model has no part of a name in ``fresh``.
    """
    weights = _read(path, model)
    own = model.state_dict()
    for part in fresh:
        if not any(_within(name, part) for name in own):
            parts = [name for name, _ in model.named_modules() if name]
            raise ModelError(
                f"{path}: expected `fresh` to name parts of {type(model).__name__}; got {part!r}."
                f"{nearest(part, parts)}"
            )
        weights = {name: value for name, value in weights.items() if not _within(name, part)}
        weights |= {name: value for name, value in own.items() if _within(name, part)}
    load_strictly(model, weights, str(path))


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _read(path: Path, model: nn.Module) -> dict[str, Tensor]:
    if path.is_dir():
        inside = (path / WEIGHTS, path / "student" / WEIGHTS)
        found = next((file for file in inside if file.is_file()), None)
        if found is None:
            raise ModelError(f"{path}: expected a folder with {WEIGHTS}; there is none in it.")
        return read_weights(found)
    if path.suffix in (".pt", ".pth"):
        return _fitting(_state_dict(path), model, path)
    if path.suffix == ".safetensors":
        return read_weights(path)
    raise ModelError(
        f"{path}: expected a folder, or a file .safetensors, .pt or .pth; got "
        f"`{path.suffix or path.name}`. Save the weights as safetensors."
    )


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise ModelError(
            f"{path}: expected tensors alone; the file is damaged or would run code when opened, "
            f"so it is refused ({_first_line(problem)}). Save model.state_dict(), or safetensors."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, BadZipFile) as problem:
        raise ModelError(
            f"{path}: expected a whole file of torch.save; it cannot be read "
            f"({_first_line(problem)}). Copy or save it again."
        ) from None
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(value, Tensor) for value in found.values())
    ):
        raise ModelError(
            f"{path}: expected a state dict, or one under {' or '.join(_NESTED)}; got "
            f"{_described(found)}. Save model.state_dict()."
        )
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _fitting(weights: dict[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    own = model.state_dict()
    if set(weights) >= _AKAMASTER and "stem.conv.weight" in own:
        from limbeck.zoo.networks import akamaster_state_dict

        weights = akamaster_state_dict(weights)
        if any(".shortcut." in name for name in set(own) - set(weights)):
            raise ModelError(
                f"{path}: expected weights with projections; these are akamaster's, without. Add "
                "`shortcut: pad` to the model."
            )
    # Files of before PyTorch 0.4.1 lack how many batches a BatchNorm has seen, which only an
    # average without momentum needs.
    counters = {name: own[name] for name in own if name.endswith(".num_batches_tracked")}
    return {**counters, **weights}


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:120]


def _described(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a mapping with {', '.join(map(str, list(found)[:5])) or 'nothing'}"
    return f"a {type(found).__name__}"
