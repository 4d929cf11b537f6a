"""Students as they are shipped: one file with packed weights, and models read back from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.checks import CheckpointError
from limbeck.files import atomic
from limbeck.students.binary import BinaryConv2d
from limbeck.students.packing import (
    PackedWeight,
    is_torchao_linear,
    packed_bits,
    unpacked,
    unpacked_levels,
)
from limbeck.students.quantised_layers import Quantised


FORMAT = "limbeck packed weights 1"


@torch.no_grad()
def fixed(model: nn.Module) -> nn.Module:
    """Return a copy for inference whose quantised weights lie on their grids for good.

    Args:
        model: Any model; it is not changed.

    Returns:
        The copy in eval mode. Its outputs are those of the model in eval mode; quantised layers do
        not round their weights any more, and cannot train. Inputs of layers are rounded as before;
        binary layers stay as they are.

    Example:
        >>> from limbeck.students.quantised_layers import FakeQuantisedLinear
        >>> layer = FakeQuantisedLinear(2, 1, bias=False, bits=1)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
        >>> fixed(layer).weight.data
        tensor([[ 2., -2.]])
    """
    copied = copy.deepcopy(model).eval()
    for part in copied.modules():
        if isinstance(part, Quantised) and not part.fixed:
            part.fix()
        elif is_torchao_linear(part):
            _fix_torchao(part)
    return copied


def save_packed(model: nn.Module, path: str | Path) -> None:
    """Write a student to one safetensors file, its binary and quantised weights packed.

    Args:
        model: A model with binary or quantised layers; it is not changed.
        path: The file; it is whole or absent at any moment.

    Raises:
        LayerError: If the model has neither binary nor quantised layers.
        StorageError: If the file cannot be written.
    """
    packed = packed_bits(model)
    replaced = _replaced(model, packed)
    tensors = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in fixed(model).state_dict().items()
        if name not in replaced
    }
    for name, weight in packed.items():
        tensors[f"{name}.packed"], tensors[f"{name}.packed_scale"] = weight.bits, weight.scale
    layers = {name: {"shape": list(w.shape), "grid": w.grid} for name, w in packed.items()}
    with atomic(Path(path)) as aside:
        save_file(tensors, aside, {"format": FORMAT, "packed": json.dumps(layers)})


@torch.no_grad()
def load_packed(model: nn.Module, path: str | Path) -> nn.Module:
    """Return a copy of a student with the weights of a packed file, for inference.

    Args:
        model: Built and converted as the one that was saved; its weights don't matter, and it is
            not changed.
        path: What :func:`save_packed` wrote.

    Returns:
        As :func:`fixed`: outputs equal in every bit those of the saved student in eval mode, on the
        same device.

    Raises:
        CheckpointError: If the file is missing, damaged or of another kind, or belongs to another
            model or to another number of bits.
        ShapeError: If packed bytes do not fit a weight's shape.
    """
    packed, tensors = _read(Path(path))
    expected = packed_bits(model)
    for name in [*packed, *expected]:
        ours, theirs = (_kind(side.get(name)) for side in (expected, packed))
        if ours != theirs:
            raise CheckpointError(
                f"{path}: expected for {name!r} {ours}, as in {type(model).__name__}; the file has "
                f"{theirs}. Build and convert the model as it was saved."
            )
    copied = fixed(model)
    replaced = _replaced(model, packed)
    state = copied.state_dict()
    wrong = (set(state) - replaced) ^ set(tensors)
    wrong |= {key for key in set(state) & set(tensors) if state[key].shape != tensors[key].shape}
    if wrong:
        raise CheckpointError(
            f"{path}: expected the tensors of {type(model).__name__}; {', '.join(sorted(wrong))} "
            "are missing, too many or of another shape. Build the model as it was saved."
        )
    copied.load_state_dict(tensors, strict=False)
    for name, weight in unpacked(packed).items():
        _put(copied.get_submodule(name), name, packed[name], weight)
    return copied


def _put(part: Any, name: str, packed: PackedWeight, weight: Tensor) -> None:
    if isinstance(part, BinaryConv2d):
        part.weight.copy_(unpacked_levels(name, packed))
        part.scale.copy_(packed.scale.view_as(part.scale))
    else:
        part.weight.copy_(weight)


def _fix_torchao(part: Any) -> None:
    if part.weight_fake_quantizer is not None:
        weight = part.weight_fake_quantizer(part.weight).detach().clone()
        part.weight = nn.Parameter(weight, requires_grad=False)
        part.weight_fake_quantizer = None


def _replaced(model: nn.Module, packed: Mapping[str, PackedWeight]) -> set[str]:
    """Return the names in the state dict that packed weights stand for, shared layers included."""
    layers = {id(model.get_submodule(name)) for name in packed}
    found = set()
    for name, part in model.named_modules(remove_duplicate=False):
        if id(part) in layers:
            prefix = f"{name}." if name else ""
            found.add(f"{prefix}weight")
            if isinstance(part, BinaryConv2d):
                found.add(f"{prefix}scale")
    return found


def _kind(weight: PackedWeight | None) -> str:
    if weight is None:
        return "no packed weight"
    return f"a packed weight {tuple(weight.shape)} of bits={weight.grid!r}"


def _read(path: Path) -> tuple[dict[str, PackedWeight], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as problem:
        raise CheckpointError(
            f"{path}: expected a file of `save_packed`; it cannot be read: {problem}. "
            "Save it again."
        ) from None
    if notes.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected {FORMAT!r}; got {notes.get('format')!r}. Save it with `save_packed`."
        )
    packed = {}
    for name, layer in json.loads(notes["packed"]).items():
        bits, scale = tensors.pop(f"{name}.packed"), tensors.pop(f"{name}.packed_scale")
        packed[name] = PackedWeight(bits, scale, tuple(layer["shape"]), layer["grid"])
    return packed, tensors
