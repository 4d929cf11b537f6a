"""Checkpoints: everything a killed run needs to end as if it had never stopped."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from limbeck.checks import CheckpointError
from limbeck.files import atomic


FILE_NAME = "checkpoint.pt"
FORMAT = 1


def save_checkpoint(folder: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; the one before stays until then.

    Args:
        folder: The run's folder.
        state: Tensors, numbers, strings, lists and dicts.
        identity: What a run must have in common with this one to go on from it.
    """
    with atomic(folder / FILE_NAME) as aside:
        torch.save({"format": FORMAT, "identity": identity, "state": state}, aside)


def open_checkpoint(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state in a folder's checkpoint, or None where there is none.

    Raises:
        CheckpointError: If it is damaged, or belongs to a run with other settings.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        kind = found["format"]
    except (
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        BadZipFile,
        pickle.UnpicklingError,
    ) as problem:
        raise CheckpointError(
            f"{path}: expected a whole checkpoint; it cannot be read "
            f"({(str(problem) or type(problem).__name__).splitlines()[0]})"
            ". Delete it and start again, or restore a copy."
        ) from None
    if kind != FORMAT:
        raise CheckpointError(f"{path}: expected checkpoint format {FORMAT}; got {kind}.")
    before = found["identity"]
    differences = [
        f"{name}: {before.get(name)!r} then, {identity.get(name)!r} now"
        for name in sorted(before.keys() | identity.keys())
        if before.get(name) != identity.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{path}: expected the run that wrote it; settings differ: {'; '.join(differences)}. "
            "Repeat the same settings, or choose another `out`."
        )
    return found["state"]


def remove_checkpoint(folder: Path) -> None:
    """Delete a finished run's checkpoint."""
    (folder / FILE_NAME).unlink(missing_ok=True)
