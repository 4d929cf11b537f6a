"""Training some modules of a student while the others rest."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from limbeck.checks import LayerError, nearest


def parts_of(student: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Return the modules of these dotted names.

    Raises:
        LayerError: If there is no module of that name (near ones are listed), or it has no
            parameters to train.
    """
    modules = dict(student.named_modules())
    known = [name for name in modules if name]
    found = []
    for name in names:
        if name not in known:
            raise LayerError(
                f"train_only: expected the name of a module of {type(student).__name__}; got "
                f"{name!r}.{nearest(name, known)} It has "
                f"{', '.join(child for child, _ in student.named_children()) or 'none'}."
            )
        if not any(parameter.requires_grad for parameter in modules[name].parameters()):
            raise LayerError(
                f"train_only: expected a module with parameters to train; {name!r} has none. "
                "Name another, or unfreeze it."
            )
        found.append(modules[name])
    return found


def put_to_rest(student: nn.Module, trained: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Take the gradient from all parameters outside of ``trained``.

    Returns:
        Those that took one before, so that the caller can give it back.
    """
    kept = {id(parameter) for part in trained for parameter in part.parameters()}
    resting = [p for p in student.parameters() if p.requires_grad and id(p) not in kept]
    for parameter in resting:
        parameter.requires_grad_(False)
    return resting
