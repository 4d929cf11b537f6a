"""The networks that a measurement compares: labelled, opened one at a time, their layers named."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from limbeck.checks import ArgumentError, ModelError, nearest
from limbeck.store.group import is_store, open_store
from limbeck.training.representations import Network, in_eval
from limbeck.training.saving import is_model, load
from limbeck.types import Batch, Teacher


Layers = str | Sequence[str] | Mapping[str, str | Sequence[str] | None]
SIDES = ("teacher", "student")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network with its label: a module, a Teacher, or the folder that one is loaded from."""

    side: str
    label: str
    given: Any
    trust: bool

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.side if self.label == self.side else f"{self.side} {self.label!r}"

    @contextlib.contextmanager
    def opened(
        self,
        layers: Sequence[str] | None,
        example: Batch,
        device: torch.device,
        *,
        with_logits: bool,
    ) -> Generator[Network]:
        """Give the network in eval mode on a device; hooks, mode and place are undone at the end.

        Raises:
            LimbeckError: If it cannot be loaded, or a layer is not there.
        """
        network = self.given
        if isinstance(network, (str, Path)):
            network = load(network, trust=self.trust)
        with in_eval(cast(Teacher, network), device):
            read = Network(network, layers, example, self.name, with_logits=with_logits)
            try:
                yield read
            finally:
                read.close()


def candidates(side: str, given: Any, *, trust: bool) -> list[Candidate]:
    """Return the networks given: one, several in a list, or several by label in a dict.

    Raises:
        ModelError: If one is neither a module, a Teacher nor a folder.
        ArgumentError: If there is none, or two have one label.
    """
    if isinstance(given, Mapping):
        found = [(str(label), one) for label, one in given.items()]
    elif isinstance(given, (list, tuple)):
        found = [
            (str(one) if isinstance(one, (str, Path)) else str(number), one)
            for number, one in enumerate(given)
        ]
    else:
        found = [(side, given)]
    found = [(label, _opened_store(one)) for label, one in found]
    labels = [label for label, _ in found]
    if not found or len(set(labels)) < len(labels):
        raise ArgumentError(
            f"measure: expected at least one {side}, each under a label of its own; got "
            f"{', '.join(labels) or 'none'}. Give a dict {{label: network}}."
        )
    for label, one in found:
        if not (isinstance(one, (str, Path, nn.Module)) or callable(one)):
            raise ModelError(
                f"measure: expected {side} {label!r} to be a torch module, a folder that limbeck "
                f"saved or a Teacher (teacher(batch) -> Outputs); got {type(one).__name__}."
            )
    return [Candidate(side, label, one, trust) for label, one in found]


def _opened_store(given: Any) -> Any:
    """Open a folder that is a store and no model; all else is as it was given."""
    if isinstance(given, (str, Path)) and not is_model(given) and is_store(given):
        return open_store(given)
    return given


def layers_by_side(layers: Layers | None) -> dict[str, tuple[str, ...] | None]:
    """Return the layer names of each side, None where they are left open.

    Raises:
        ArgumentError: If there is another key than the two sides, or a value is no name.
    """
    given = layers if isinstance(layers, Mapping) else dict.fromkeys(SIDES, layers)
    for side in given:
        if side not in SIDES:
            raise ArgumentError(
                f"measure: expected `layers` for teacher and student; got {side!r}."
                f"{nearest(str(side), SIDES)}"
            )
    return {side: _names(side, given.get(side)) for side in SIDES}


def _names(side: str, given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else given
    if (
        not isinstance(names, (list, tuple))
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ArgumentError(
            f"measure: expected the name of a layer, or a list of names, for the {side}; got "
            f"{given!r}. Names are dotted paths, 'penultimate' or 'logits'."
        )
    return tuple(dict.fromkeys(names))
