"""What all networks of the zoo share: a chain of named modules that knows how to be rebuilt."""

from __future__ import annotations

import functools
import inspect
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ParamSpec

from jaxtyping import Float
from torch import Tensor, nn

from .normalise import Normalisation, Normalise, normaliser


Arguments = ParamSpec("Arguments")


class Network(nn.Sequential):
    """A chain of named modules: ``normalise`` first, then the stages, ``classifier`` last.

    The output of each stage is a feature that a hook can take by the stage's name; the input of
    ``classifier`` is the penultimate feature.

    Attributes:
        normalise: The first layer; every network takes pixels in [0, 1].
        classifier: The last layer; its output is the logits.
        limbeck_source: ``{"builder": "module:function", "kwargs": {...}}``, fit for JSON: how to
            build this architecture again.
    """

    normalise: Normalise
    classifier: nn.Linear
    limbeck_source: dict[str, Any]

    def forward(
        self,
        input: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch pixels"],
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits of images with pixels in [0, 1]."""
        return super().forward(input)


def convolutional_network(
    stages: dict[str, nn.Module],
    width: int,
    *,
    num_classes: int,
    channels: int,
    normalisation: Normalisation,
    dropout: float = 0.0,
) -> Network:
    """Chain normalisation, named stages, a global average and one linear classifier.

    Args:
        stages: Modules from the normalised image to the last map, in order, by name.
        width: Channels of the last map.
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: As :func:`normaliser` takes it.
        dropout: Probability with which a pooled feature is dropped in training; 0 adds no layer.

    Returns:
        The network, initialised as torch does it.
    """
    chain: OrderedDict[str, nn.Module] = OrderedDict(normalise=normaliser(normalisation, channels))
    chain.update(stages)
    chain["pool"] = nn.AdaptiveAvgPool2d(1)
    chain["flatten"] = nn.Flatten()
    if dropout > 0:
        chain["dropout"] = nn.Dropout(dropout)
    chain["classifier"] = nn.Linear(width, num_classes)
    return Network(chain)


def rebuildable(builder: Callable[Arguments, Network]) -> Callable[Arguments, Network]:
    """Note on every network that ``builder`` returns with which arguments it was built.

    Args:
        builder: A public function of :mod:`limbeck.zoo.networks`.

    Returns:
        The same function; its networks carry ``limbeck_source``, defaults written out.
    """
    signature = inspect.signature(builder)
    name = f"limbeck.zoo.networks:{builder.__name__}"

    @functools.wraps(builder)
    def build(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Network:
        network = builder(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        # through JSON, so that what is kept is what a reader of the file gets; a class count
        # taken from an array (`labels.max() + 1`) is a number of numpy's or torch's
        written = json.dumps(bound.arguments, default=lambda value: value.tolist())
        network.limbeck_source = {"builder": name, "kwargs": json.loads(written)}
        return network

    return build
