"""ShuffleNet version 2: half of the channels pass by each unit, then a shuffle mixes both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Network, convolutional_network, rebuildable
from .blocks import channel_shuffle, conv_norm
from .normalise import Normalisation


def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Chain 1x1, depthwise 3x3 without ReLU, and 1x1."""
    return nn.Sequential(
        conv_norm(inputs, outputs, 1),
        conv_norm(outputs, outputs, 3, stride=stride, groups=outputs, relu=False),
        conv_norm(outputs, outputs, 1),
    )


class SplitUnit(nn.Module):
    """Convolve the second half of the channels and shuffle both halves together."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = _branch(channels // 2, channels // 2, 1)

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return maps of the same shape, never negative if the input is not."""
        passed, convolved = maps.chunk(2, dim=1)
        return channel_shuffle(torch.cat([passed, self.branch(convolved)], dim=1), 2)


class DownUnit(nn.Module):
    """Halve the size in two branches of all channels and shuffle them together."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(
            conv_norm(inputs, inputs, 3, stride=2, groups=inputs, relu=False),
            conv_norm(inputs, outputs // 2, 1),
        )
        self.branch = _branch(inputs, outputs // 2, 2)

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the unit's maps, which are never negative."""
        return channel_shuffle(torch.cat([self.shortcut(maps), self.branch(maps)], dim=1), 2)


@rebuildable
def shufflenetv2(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build ShuffleNetV2 of size 1x, 1,355,528 parameters at 100 classes.

    At 32 pixels ``stem`` is [24, 32, 32], ``stage1`` [116, 16, 16], ``stage2`` [232, 8, 8] and
    ``stage3`` [464, 4, 4], all after a ReLU; ``head`` is [1024, 4, 4] and the penultimate feature
    [1024].

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        Ma, Zhang, Zheng and Sun (2018), arXiv:1807.11164, table 5; 1x1 stem without max-pool as
        in the CRD set-up, arXiv:1910.10699.
    """
    stages: dict[str, nn.Module] = {"stem": conv_norm(channels, 24, 1)}
    inputs = 24
    for i, (outputs, count) in enumerate(zip((116, 232, 464), (3, 7, 3), strict=True), 1):
        units = [DownUnit(inputs, outputs), *(SplitUnit(outputs) for _ in range(count))]
        stages[f"stage{i}"] = nn.Sequential(*units)
        inputs = outputs
    stages["head"] = conv_norm(inputs, 1024, 1)
    return convolutional_network(
        stages, 1024, num_classes=num_classes, channels=channels, normalisation=normalisation
    )
