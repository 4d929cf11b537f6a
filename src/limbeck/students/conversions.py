"""Conversions by name: functions that make a cheaper student out of a full-precision one.

A conversion is a function ``(model, *, options) -> nn.Module`` that leaves the model as it is and
returns another one. :func:`conversion` above it makes it known by its name, to recipes
(``student: {model: "zoo:resnet20", convert: binary}``) and to saved folders: what it returns
carries in ``limbeck_source`` how the model was built and what was done to it since.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec

from torch import nn

from limbeck.checks import ArgumentError, LimbeckError, ModelError, check_choice


Options = ParamSpec("Options")

CONVERSIONS: dict[str, Callable[..., nn.Module]] = {}
"""Every conversion by its name; :func:`conversion` fills it as the modules are imported."""


def conversion(
    function: Callable[Concatenate[nn.Module, Options], nn.Module],
) -> Callable[Concatenate[nn.Module, Options], nn.Module]:
    """Make a function known as a conversion, under its own name.

    Args:
        function: Takes a model, which it leaves alone, and options by keyword that JSON can hold;
            returns another model.

    Returns:
        The function; its models carry ``limbeck_source`` with the conversion added, defaults
        written out. They carry none where the model has none, or an option is not fit for JSON.
    """
    name, signature = function.__name__, inspect.signature(function)

    @functools.wraps(function)
    def convert(model: nn.Module, *args: Options.args, **kwargs: Options.kwargs) -> nn.Module:
        made = function(model, *args, **kwargs)
        bound = signature.bind(model, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        _note(made, getattr(model, "limbeck_source", None), {"name": name, **dict(given)})
        return made

    CONVERSIONS[name] = convert
    return convert


def check_conversion(where: str, convert: Any) -> tuple[str, dict[str, Any]]:
    """Return name and options of a conversion.

    Args:
        where: What messages begin with, such as "student.convert".
        convert: A name in ``CONVERSIONS``, or a mapping of ``name`` and options.

    Returns:
        The name and the options without it.

    Raises:
        ArgumentError: If it is neither, or the conversion or an option is unknown.
    """
    options = {"name": convert} if isinstance(convert, str) else convert
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise ArgumentError(
            f"{where}: expected a conversion, {' or '.join(CONVERSIONS)}, or a mapping with its "
            f"`name` and options; got {convert!r}."
        )
    options = dict(options)
    name = options.pop("name")
    check_choice(where, "name", name, CONVERSIONS)
    accepted = list(inspect.signature(CONVERSIONS[name]).parameters)[1:]
    for option in options:
        check_choice(f"{where} {name}", "option", option, accepted)
    return name, options


def converted(model: nn.Module, convert: Any, *, where: str = "convert") -> nn.Module:
    """Return a model converted by name.

    Args:
        model: It is not changed.
        convert: A name in ``CONVERSIONS``, or a mapping of ``name`` and options.
        where: What messages begin with.

    Returns:
        What the conversion makes of the model.

    Raises:
        LimbeckError: If conversion or option is unknown, or the model cannot be converted.

    Example:
        >>> chain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
        >>> type(converted(chain, {"name": "binary", "threshold": 0.1})[2]).__name__
        'BinaryConv2d'
    """
    name, options = check_conversion(where, convert)
    try:
        return CONVERSIONS[name](model, **options)
    except LimbeckError:
        raise
    except (TypeError, ValueError, RuntimeError) as problem:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "no options"
        raise ModelError(
            f"{where}: {type(model).__name__} could not be made {name} with {given}: {problem}. "
            "Correct the options."
        ) from None


def _note(made: nn.Module, source: Mapping[str, Any] | None, step: dict[str, Any]) -> None:
    made.__dict__.pop("limbeck_source", None)  # a deep copy has the unconverted model's
    if source is None:
        return
    try:
        written = json.loads(json.dumps(step, default=_plain))
    except TypeError:
        return  # the folder will ask for model=...
    before = source.get("convert", [])
    made.limbeck_source = {**source, "convert": [*before, written]}  # type: ignore[assignment]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else sorted(value)
