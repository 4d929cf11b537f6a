"""A multilayer perceptron on the pixels of small images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from .base import Network, rebuildable
from .normalise import Normalisation, normaliser


@rebuildable
def mlp(
    *,
    inputs: int = 64,
    hidden: Sequence[int] = (128,),
    num_classes: int = 10,
    channels: int = 1,
    normalisation: Normalisation = None,
) -> Network:
    """Build linear layers with ReLUs between them, on flattened images.

    ``layer1`` to ``layer<n>`` give the hidden features after a ReLU; without hidden layers the
    network is linear.

    Args:
        inputs: Numbers of an image: channels * height * width.
        hidden: Width of each hidden layer, may be empty.
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images in [0, 1], flattened ([batch, inputs], one channel after the
        other) or not ([batch, channels, height, width]), to logits.
    """
    chain: OrderedDict[str, nn.Module] = OrderedDict(normalise=normaliser(normalisation, channels))
    chain["flatten"] = nn.Flatten()
    for i, width in enumerate(hidden, 1):
        chain[f"layer{i}"] = nn.Sequential(
            OrderedDict(linear=nn.Linear(inputs, width), relu=nn.ReLU())
        )
        inputs = width
    chain["classifier"] = nn.Linear(inputs, num_classes)
    return Network(chain)
