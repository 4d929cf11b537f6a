"""What the shell offers on TAB; names are read from the sources, so that torch stays away."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from pathlib import Path

from limbeck.cli.names import DATA_SETS


_PACKAGE = Path(__file__).parents[1]
_BREAKS = ("=", ":")  # bash cuts words at these


def losses() -> list[str]:
    """Return the names of losses."""
    return _keys("losses/__init__.py", "LOSSES")


def models() -> list[str]:
    """Return the names of networks as recipes and options take them."""
    zoo = _keys("zoo/networks/registry.py", "NETWORKS")
    binary = _keys("students/binary_resnet.py", "BINARY_NETWORKS")
    return [*(f"zoo:{name}" for name in zoo), *(f"binary:{name}" for name in binary)]


def complete_value(incomplete: str) -> list[str]:
    """Offer values of ``loss=``, ``data=``, ``student=`` and ``teacher=``, and of model options."""
    typed, option = _typed(incomplete)
    field, equals, value = typed.partition("=")
    if equals:
        found = [f"{field}={name}" for name in _starting(_values(field.lstrip("-")), value)]
    else:
        found = _starting(_values(option.lstrip("-")) if option.startswith("--") else (), typed)
    cut = len(typed) - len(incomplete)
    return [name[cut:] for name in found]


def complete_model(incomplete: str) -> list[str]:
    """Offer names of networks."""
    typed, _ = _typed(incomplete)
    cut = len(typed) - len(incomplete)
    return [name[cut:] for name in _starting(models(), typed)]


def complete_data(incomplete: str) -> list[str]:
    """Offer names of data sets."""
    return _starting(DATA_SETS, incomplete)


def complete_recipe(incomplete: str) -> list[str]:
    """Offer names of recipes; here alone torch is imported, which takes a second."""
    from limbeck.cli.recipes import names

    return _starting(names(), incomplete)


def _typed(incomplete: str) -> tuple[str, str]:
    """Return the whole word under the cursor, put together again, and the word before it."""
    words = os.environ.get("COMP_WORDS", "").split() if "COMP_CWORD" in os.environ else []
    words = words[: int(os.environ.get("COMP_CWORD", "0") or 0)]
    typed = incomplete
    while words and (words[-1] in _BREAKS or typed[:1] in _BREAKS):
        typed = words.pop() + typed
    return typed, words[-1] if words else ""


def _values(field: str) -> Iterable[str]:
    if field in ("loss", "loss.name"):
        return losses()
    if field in ("data", "data.name"):
        return DATA_SETS
    return models() if field in ("student", "teacher", "student.model", "teacher.model") else ()


def _starting(names: Iterable[str], start: str) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _keys(place: str, name: str) -> list[str]:
    """Return the keys of a dict that a source file of limbeck assigns to a name."""
    for node in ast.parse((_PACKAGE / place).read_text(encoding="utf8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            target = node.target
            if isinstance(target, ast.Name) and target.id == name:
                keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
                return [key for key in keys if isinstance(key, str)]
    return []
