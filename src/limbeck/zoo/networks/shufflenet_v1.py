"""ShuffleNet (version 1): grouped 1x1 convolutions with a shuffle between them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network, convolutional_network, rebuildable
from .blocks import channel_shuffle, conv_norm
from .normalise import Normalisation


_GROUPS = 3


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; then a ReLU over sum or concatenation.

    With stride 1 the input is added; with stride 2 its 3x3 average is appended, so that
    ``outputs`` channels are ``outputs - inputs`` convolved ones and ``inputs`` averaged ones.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, first_groups: int) -> None:
        super().__init__()
        convolved = outputs - inputs if stride == 2 else outputs
        width = convolved // 4
        self.stride, self.first_groups = stride, first_groups
        self.reduce = conv_norm(inputs, width, 1, groups=first_groups)
        self.depthwise = conv_norm(width, width, 3, stride=stride, groups=width)
        self.expand = conv_norm(width, convolved, 1, groups=_GROUPS, relu=False)

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the unit's maps, which are never negative."""
        shuffled = channel_shuffle(self.reduce(maps), self.first_groups)
        convolved = self.expand(self.depthwise(shuffled))
        if self.stride == 1:
            return F.relu(convolved + maps)
        return F.relu(torch.cat([convolved, F.avg_pool2d(maps, 3, 2, 1)], dim=1))


@rebuildable
def shufflenetv1(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build ShuffleNet with 3 groups, 949,258 parameters at 100 classes.

    At 32 pixels ``stem`` is [24, 32, 32], ``stage1`` [240, 16, 16], ``stage2`` [480, 8, 8] and
    ``stage3`` [960, 4, 4], all after a ReLU; the penultimate feature is [960].

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        Zhang, Zhou, Lin and Sun (2018), arXiv:1707.01083, table 1; as in the CRD set-up,
        arXiv:1910.10699, with a 1x1 stem and a ReLU after the depthwise convolution too.
    """
    stages: dict[str, nn.Module] = {"stem": conv_norm(channels, 24, 1)}
    inputs = 24
    for i, (outputs, count) in enumerate(zip((240, 480, 960), (4, 8, 4), strict=True), 1):
        units = [ShuffleUnit(inputs, outputs, 2, 1 if i == 1 else _GROUPS)]
        units += [ShuffleUnit(outputs, outputs, 1, _GROUPS) for _ in range(count - 1)]
        stages[f"stage{i}"] = nn.Sequential(*units)
        inputs = outputs
    return convolutional_network(
        stages, inputs, num_classes=num_classes, channels=channels, normalisation=normalisation
    )
