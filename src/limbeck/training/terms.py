"""From what the user asked for to distillation terms: which loss, which layers, which weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limbeck.capture import PENULTIMATE
from limbeck.checks import ArgumentError, check_between, check_choice
from limbeck.losses import LOSSES
from limbeck.types import Batch, Outputs, Task


Layers = Mapping[str, str | list[str] | tuple[str, ...]]


class OwnLoss(nn.Module):
    """A user's function ``loss(student, teacher, batch)`` as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Return the function's value."""
        return self.function(student, teacher, batch)


def loss_of(loss: Any, layers: Layers | None, task: Task, seed: int = 0) -> nn.Module:
    """Return the distillation term asked for.

    Args:
        loss: A name in ``limbeck.losses.LOSSES``, a mapping ``{"name": ..., option: value}``, a
            module or a function with the signature of :class:`limbeck.types.Loss`.
        layers: Layer names of "student" and "teacher", for a loss given by name.
        task: What the student is for; a loss that is not meant for it is refused by name.
        seed: Seed of a loss given by name that has parameters, unless its options say another.

    Raises:
        ArgumentError: If the loss is unknown, does not take these options or layers, or is not
            meant for the task.
    """
    _check_layers(layers)
    if isinstance(loss, str):
        loss = {"name": loss}
    if isinstance(loss, Mapping):
        module = _by_name(dict(loss), layers, seed)
    elif layers is not None:
        raise ArgumentError(
            "distill: expected `layers` only beside a loss given by name; a module carries its "
            "own. Give the module its layers."
        )
    elif isinstance(loss, nn.Module):
        module = loss
    elif callable(loss):
        module = OwnLoss(loss)
    else:
        raise ArgumentError(
            f"distill: expected `loss` to be a name ({', '.join(LOSSES)}), a module or a "
            "function; got "
            f"{type(loss).__name__}."
        )
    meant_for = getattr(module, "tasks", None)
    name = getattr(task, "name", None)
    if meant_for is not None and name is not None and name not in meant_for:
        fitting = [
            known
            for known, kind in LOSSES.items()
            if getattr(kind, "tasks", None) is None or name in getattr(kind, "tasks", ())
        ]
        raise ArgumentError(
            f"distill: {type(module).__name__} is for {', '.join(sorted(meant_for))}; the task is "
            f"{name}. Losses that fit: {', '.join(fitting)}."
        )
    return module


def layers_of(loss: nn.Module, who: str) -> tuple[str, ...]:
    """Return the names of the layers that a loss needs of "student" or "teacher"."""
    found = getattr(loss, "layers", {}).get(who, ())
    return (found,) if isinstance(found, str) else tuple(found)


def weights_of(loss: nn.Module | None, weight: Any) -> tuple[float, float]:
    """Return the weights of the task term and of the distillation term.

    Args:
        loss: The distillation term, or None for plain training.
        weight: None for the method's published additive combination, or w in [0, 1] for
            (1 - w) task + w distillation.

    Raises:
        ArgumentError: If the weight is neither.
    """
    if loss is None:
        return 1.0, 0.0
    if weight is None:
        return getattr(loss, "published_weights", (1.0, 1.0))
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise ArgumentError(
            "distill: expected `weight` to be None (the method's published combination), a number "
            f'in [0, 1], "auto", a mapping of options or an AdaptiveWeight; got {weight!r}.'
        )
    check_between("distill", 0.0, 1.0, weight=weight)
    return 1.0 - weight, float(weight)


def copies(loss: nn.Module | None, teachers: int) -> list[nn.Module]:
    """Return a term for each teacher, with parameters of its own."""
    if loss is None:
        return []
    return [loss, *(copy.deepcopy(loss) for _ in range(teachers - 1))]


def _check_layers(layers: Any) -> None:
    """Raise ArgumentError unless layers are None or names by side."""
    if layers is None:
        return
    if isinstance(layers, Mapping):
        several = [one if isinstance(one, (list, tuple)) else [one] for one in layers.values()]
        if all(isinstance(name, str) for names in several for name in names):
            return
    raise ArgumentError(
        'distill: expected `layers` as {"student": [...], "teacher": [...]}, each a name or a list '
        f"of names; got {layers!r}. Say of each network which of its layers are meant."
    )


def _by_name(options: dict[str, Any], layers: Layers | None, seed: int) -> nn.Module:
    if "name" not in options:
        raise ArgumentError(
            f"distill: expected `loss` to say its `name`; got {', '.join(options) or 'nothing'}."
        )
    name = options.pop("name")
    check_choice("distill", "loss", name, LOSSES)
    accepted = inspect.signature(LOSSES[name]).parameters
    if layers is not None:
        if "layer" not in accepted:
            raise ArgumentError(
                f"distill: expected no `layers` for {name}, which compares outputs; got "
                f"{dict(layers)}."
            )
        unknown = set(layers) - {"student", "teacher"}
        if unknown:
            raise ArgumentError(
                "distill: expected `layers` for student and teacher; got "
                f"{', '.join(sorted(unknown))}."
            )
        options["layer"] = {who: layers.get(who, PENULTIMATE) for who in ("student", "teacher")}
    if "seed" in accepted:
        options.setdefault("seed", seed)
    for option in options:
        check_choice(f"loss {name}", "option", option, accepted)
    return LOSSES[name](**options)
