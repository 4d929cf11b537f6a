"""YAML with errors that name the line, and ``key.sub=value`` overrides of what it says."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import yaml

from limbeck.checks import RecipeError


#: Under which key a word alone stands, so that ``loss.temperature=2`` may follow ``loss: kd``.
_WORD = {"loss": "name", "task": "name", "data": "name", "teacher": "model", "student": "model"}
_WORD |= {"teacher.convert": "name", "student.convert": "name"}


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 5e-4 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"`{name}` is given twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), None
)


def parsed(text: str, where: str) -> Any:
    """Return what a YAML text says.

    Raises:
        RecipeError: If it is not YAML; the line is named.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        raise RecipeError(
            f"{where}{line}: expected YAML; {what}. Correct this line or the one above it."
        ) from None


def mapping_of(text: str, where: str) -> dict[str, Any]:
    """Return the mapping that a YAML text holds.

    Raises:
        RecipeError: If it holds something else.
    """
    found = parsed(text, where)
    if not isinstance(found, dict):
        got = "nothing" if found is None else f"a {type(found).__name__}"
        raise RecipeError(f"{where}: expected fields, `key: value`; got {got}. See `limbeck init`.")
    for key in found:
        if not isinstance(key, str):
            raise RecipeError(f"{where}: expected names of fields; got {key!r}. Quote it.")
    return found


def overridden(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return the mapping with ``key.sub=value`` changes; values are read as YAML.

    Raises:
        RecipeError: If a change has no ``=``, or goes into something that has no fields.
    """
    result = dict(mapping)
    for override in overrides:
        place, equals, value = override.partition("=")
        keys = place.strip().split(".")
        if not equals or not all(keys):
            raise RecipeError(
                f"{override}: expected KEY.SUB=VALUE, such as training.epochs=30. Write it so."
            )
        _put(result, keys, parsed(value, override), override)
    return result


def _put(mapping: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for depth, key in enumerate(keys[:-1]):
        inner, place = mapping.get(key), ".".join(keys[: depth + 1])
        if inner is None:
            inner = {}
        elif isinstance(inner, str) and place in _WORD:
            inner = {_WORD[place]: inner}
        elif not isinstance(inner, dict):
            raise RecipeError(
                f"{override}: expected `{place}` to have fields; it is {inner!r}. Override "
                f"`{place}` itself."
            )
        mapping[key] = dict(inner)
        mapping = mapping[key]
    mapping[keys[-1]] = value
