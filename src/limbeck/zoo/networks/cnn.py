"""A small convolutional network for images of 8 to 28 pixels, with or without batch norm."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from limbeck.checks import check_between, check_choice, check_positive

from .base import Network, convolutional_network, rebuildable
from .blocks import start_convolutions
from .normalise import Normalisation


@rebuildable
def small_cnn(
    *,
    width: int = 32,
    depth: int = 3,
    dropout: float = 0.0,
    norm: str = "batch",
    num_classes: int = 10,
    channels: int = 1,
    normalisation: Normalisation = None,
) -> Network:
    """Build a plain chain of 3x3 convolutions, a global average and one linear layer.

    ``stage1`` to ``stage<depth>`` give maps after a ReLU; stage i has width * 2^(i-1) channels,
    and each stage but the first begins with a 2x2 max-pool (sizes rounded up, so that any depth
    goes with any image). The penultimate feature is as wide as the last stage.

    Args:
        width: Channels of the first stage.
        depth: Number of stages.
        dropout: Probability with which a pooled feature is dropped in training, in [0, 1].
        norm: "batch" for batch norm after each convolution, "none" for a bias instead.
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Raises:
        ArgumentError: If an argument is out of its range.
    """
    check_positive("small_cnn", width=float(width), depth=float(depth))
    check_between("small_cnn", 0.0, 1.0, dropout=float(dropout))
    check_choice("small_cnn", "norm", norm, ["batch", "none"])
    stages: dict[str, nn.Module] = {}
    inputs = channels
    for i in range(1, depth + 1):
        outputs = width * 2 ** (i - 1)
        chain: OrderedDict[str, nn.Module] = OrderedDict()
        if i > 1:
            chain["pool"] = nn.MaxPool2d(2, ceil_mode=True)
        chain["conv"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
        if norm == "batch":
            chain["norm"] = nn.BatchNorm2d(outputs)
        chain["relu"] = nn.ReLU()
        stages[f"stage{i}"] = nn.Sequential(chain)
        inputs = outputs
    network = convolutional_network(
        stages,
        inputs,
        num_classes=num_classes,
        channels=channels,
        normalisation=normalisation,
        dropout=dropout,
    )
    start_convolutions(network)
    return network
