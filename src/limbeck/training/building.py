"""Models by name: the zoo, binary networks, any callable, timm, folders of transformers models."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.checks import ArgumentError, ModelError, nearest
from limbeck.randomness import derive_seed
from limbeck.students import BINARY_NETWORKS, converted
from limbeck.training import language_models
from limbeck.training.torchvision_cpu import define_missing_operators


_ZOO = "limbeck.zoo.networks"

#: Arguments that make a builder run or read what somebody else wrote.
_REACHING = frozenset(
    {"trust_remote_code", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}
    | {"code_revision", "revision", "cache_dir", "subfolder"}
)


def build(name: str, *, seed: int = 0, **kwargs: Any) -> nn.Module:
    """Build a model by name, with initial weights that depend on ``seed`` alone.

    Args:
        name: ``zoo:resnet20``, ``binary:resnet20``, ``package.module:callable``, ``timm:name`` or
            ``hf:folder`` (a classifier or causal language model of transformers, read from disk
            only), ``hf-config:gpt2`` (a new causal language model of any of its types, or
            with ``num_labels`` a new classifier).
        seed: Seed of the initial weights.
        kwargs: Passed to whatever builds it.

    Returns:
        A module whose ``limbeck_source`` says how to build it again.

    Raises:
        ModelError: If the name cannot be resolved, the package is not installed, the arguments do
            not fit, or the result is not a module.
    """
    make, source = _resolved(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        try:
            model = make(**kwargs)
        except (ModelError, ArgumentError):
            raise
        except (TypeError, ValueError, OSError, RuntimeError) as problem:
            given = ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) or "no arguments"
            raise ModelError(f"{name}: could not be built with {given}: {problem}.") from None
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{name}: expected a callable that returns a torch module; got {type(model).__name__}."
        )
    kind = source.partition(":")[0]
    if kind in ("hf", language_models.PREFIX):
        # Of a classifier in a folder the folder is kept: its tokenizer lies there.
        portable = language_models.described(model, classifiers=kind != "hf")
        if portable is not None:
            model.limbeck_source = portable  # type: ignore[assignment]
            return model
    try:
        json.dumps(kwargs)
    except TypeError:
        return model  # arguments that JSON cannot hold: the folder will ask for model=...
    model.limbeck_source = {"builder": source, "kwargs": kwargs}  # type: ignore[assignment]
    return model


def rebuild(source: Mapping[str, Any]) -> nn.Module:
    """Build a model again from its ``limbeck_source``, conversions included.

    Args:
        source: ``builder`` and ``kwargs`` as :func:`build` takes them, and in ``convert`` a list of
            what :func:`limbeck.students.converted` takes, done one after the other.

    Returns:
        A module of the same architecture, with other weights.

    Raises:
        LimbeckError: If the builder or a conversion is unknown, or refuses its arguments.
    """
    steps = source.get("convert", [])
    if not isinstance(steps, list):
        raise ModelError(
            f"{source['builder']}: expected a list of conversions in `convert`; got {steps!r}. "
            "Save the model again."
        )
    model = build(source["builder"], **source.get("kwargs", {}))
    for step in steps:
        model = converted(model, step)
    return model


def is_trusted(builder: str, arguments: Iterable[str] = ()) -> bool:
    """Say whether a folder may name this builder: it runs no code and reads no file of others.

    limbeck's, timm's and transformers' builders do not, unless an argument says so or the name
    leads on to a hub. Conversions are limbeck's own and need no trust.
    """
    known = builder.startswith((f"{_ZOO}:", "zoo:", "binary:", "timm:", "hf:", "hf-config:"))
    return known and builder.count(":") == 1 and not _REACHING & set(arguments)


def _resolved(name: str) -> tuple[Callable[..., Any], str]:
    kind, _, rest = name.partition(":")
    if not rest:
        raise ModelError(
            f"{name}: expected zoo:NAME, binary:NAME, package.module:callable, timm:NAME, "
            "hf:FOLDER or hf-config:TYPE; got no colon."
        )
    if kind == "timm":
        define_missing_operators()
        timm = _imported("timm", "pip install 'limbeck[vision]'")
        return lambda **kwargs: timm.create_model(rest, **kwargs), name
    if kind == language_models.PREFIX:
        package = language_models.package()
        return lambda **kwargs: language_models.from_config(package, rest, **kwargs), name
    if kind == "hf":
        return lambda **kwargs: _from_folder(rest, **kwargs), name
    if kind in ("zoo", _ZOO):
        networks = importlib.import_module(_ZOO).NETWORKS
        return _network(name, rest, networks, "zoo's"), f"{_ZOO}:{rest}"
    if kind == "binary":
        return _network(name, rest, BINARY_NETWORKS, "binary"), name
    module = _imported(kind, "check its name, or put its folder on PYTHONPATH")
    target: Any = module
    for part in rest.split("."):
        if not hasattr(target, part):
            raise ModelError(f"{name}: {kind} has no `{part}`.{nearest(part, dir(target))}")
        target = getattr(target, part)
    if not callable(target):
        raise ModelError(f"{name}: expected a callable; got {type(target).__name__}.")
    return target, name


def _network(
    name: str, rest: str, networks: Mapping[str, Callable[..., Any]], whose: str
) -> Callable[..., Any]:
    if rest not in networks:
        raise ModelError(
            f"{name}: expected one of the {whose} networks: {', '.join(sorted(networks))}."
            f"{nearest(rest, networks)}"
        )
    return networks[rest]


def _from_folder(folder: str, **kwargs: Any) -> nn.Module:
    transformers = language_models.package()
    if not (Path(folder) / "config.json").is_file():
        raise ModelError(f"hf:{folder}: expected a folder with config.json; there is none.")
    head = kwargs.pop("head", None)
    return language_models.from_folder(transformers, folder, head, **kwargs)


def _imported(package: str, advice: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as problem:
        raise ModelError(f"{package}: cannot be imported ({problem}); {advice}.") from None
