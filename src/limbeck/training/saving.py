"""A student as a folder: its weights as safetensors, and how to build it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.checks import ModelError, nearest
from limbeck.files import atomic, write_text
from limbeck.students import BinaryConv2d, size_table
from limbeck.training.building import is_trusted, rebuild
from limbeck.vocabulary import Vocabulary


WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def save_model(
    module: nn.Module,
    folder: Path | str,
    *,
    weights: Mapping[str, Tensor] | None = None,
    class_names: list[str] | None = None,
) -> Path:
    """Save a module into ``folder`` as ``model.safetensors`` and ``model.json``.

    Args:
        module: The module; one made by limbeck's builders knows how it was built, and what was
            converted since.
        folder: Made if absent.
        weights: A state dict to save instead of the module's present one.
        class_names: Names of the classes, kept beside.

    Returns:
        The folder.
    """
    folder = Path(folder)
    state = module.state_dict() if weights is None else weights
    # Tied weights are stored once each: safetensors refuses tensors that share memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with atomic(folder / WEIGHTS) as aside:
        save_file(plain, aside)
    kind = type(module)
    description = {
        "format": 1,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "source": getattr(module, "limbeck_source", None),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "sizes": sizes_of(module),
        "class_names": class_names,
    }
    vocabulary = getattr(module, "limbeck_vocabulary", None)
    if isinstance(vocabulary, Vocabulary):  # which token an id of a language model is
        description["vocabulary"] = vocabulary.as_dict()
    write_text(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    return folder


def load(folder: Path | str, model: nn.Module | None = None, *, trust: bool = False) -> nn.Module:
    """Bring a saved student back, in eval mode, on the CPU.

    Args:
        folder: A folder written by limbeck: a student's, or a run's (its last student).
        model: A module of the same architecture to load into; needed where the student was not
            made by a builder that the folder names.
        trust: Call a builder outside of limbeck, timm and transformers that the folder names. It
            is code of whoever wrote the folder.

    Returns:
        The student with its saved weights.

    Raises:
        ModelError: If files are missing or damaged, the builder is not known or not trusted, or
            weights do not fit.
        LimbeckError: If a conversion that the folder names is not known, or refuses its options.
    """
    folder = Path(folder)
    if not (folder / WEIGHTS).is_file() and (folder / "student" / WEIGHTS).is_file():
        folder = folder / "student"
    description = describe(folder)
    if model is None:
        source = description.get("source")
        if not source:
            raise ModelError(
                f"{folder}: expected to know how to build {description['class']}; the folder does "
                "not say. Pass a module of that architecture: load(folder, model=MyNetwork())."
            )
        if not trust and not is_trusted(source["builder"], source.get("kwargs", {})):
            raise ModelError(
                f"{folder}: the folder asks to call {source['builder']}, code that is not "
                "limbeck's. "
                "Pass model=..., or if you trust it trust=True (on the command line: --trust; in a "
                "recipe: `trust: true` beside `folder`)."
            )
        model = rebuild(source)
    load_weights(model, folder / WEIGHTS)
    if description.get("vocabulary"):
        model.limbeck_vocabulary = Vocabulary.of_dict(description["vocabulary"])  # type: ignore[assignment]
    return model.eval()


def is_model(folder: Path | str) -> bool:
    """Say whether a folder is one that :func:`load` would read."""
    place = Path(folder)
    return any((at / DESCRIPTION).is_file() for at in (place, place / "student"))


def sizes_of(module: nn.Module) -> dict[str, int] | None:
    """Return what a module's parameters take in float32 and packed, in bytes.

    Returns:
        The number of 1-bit convolutions, and both sizes as :func:`limbeck.students.size_table`
        counts them; None where nothing can be packed.
    """
    rows = size_table(module)
    full, packed = sum(row.float_bytes for row in rows), sum(row.packed_bytes for row in rows)
    if full == packed:
        return None
    binary = sum(isinstance(part, BinaryConv2d) for part in module.modules())
    return {"1-bit convolutions": binary, "bytes in float32": full, "bytes packed": packed}


def describe(folder: Path) -> dict[str, Any]:
    """Return what ``model.json`` in a folder says.

    Raises:
        ModelError: If it is absent or damaged.
    """
    path = folder / DESCRIPTION
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"{folder}: expected a folder with {WEIGHTS} and {DESCRIPTION}, as limbeck saves them; "
            "there are none. Give the run's folder or its `student` folder."
        )
    try:
        found = json.loads(path.read_text(encoding="utf8"))
        if found["format"] != 1 or not isinstance(found["class"], str):
            raise ValueError(f"format {found['format']!r}")
    except (ValueError, KeyError, TypeError) as problem:
        raise ModelError(
            f"{path}: expected a description of format 1; it cannot be read ({problem}). "
            "Save the model again."
        ) from None
    return found


def load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors weights strictly.

    Raises:
        ModelError: If the file is truncated or not safetensors, or names or shapes differ.
    """
    load_strictly(model, read_weights(path), str(path))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ModelError: If the file is truncated or not safetensors.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as problem:
        raise ModelError(
            f"{path}: expected a whole safetensors file; it cannot be read ({problem}). "
            "Copy or save it again."
        ) from None


def load_strictly(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict whose names and shapes must be the model's.

    Raises:
        ModelError: If they are not; the first differences are named.
    """
    own = model.state_dict()
    missing = sorted(set(own) - set(weights))
    extra = sorted(set(weights) - set(own))
    wrong = [
        f"{name} {tuple(weights[name].shape)}, here {tuple(own[name].shape)}"
        for name in own
        if name in weights and own[name].shape != weights[name].shape
    ]
    if missing or extra or wrong:
        parts = [
            f"{label} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            for label, names in (("missing", missing), ("unknown", extra), ("other shape", wrong))
            if names
        ]
        hint = nearest(missing[0], extra) if missing and extra else ""
        raise ModelError(
            f"{where}: expected the weights of {type(model).__name__}; {'; '.join(parts)}.{hint} "
            "Check the architecture and its number of classes."
        )
    model.load_state_dict(dict(weights))
