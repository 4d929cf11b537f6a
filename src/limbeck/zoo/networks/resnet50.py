"""ResNet-50 with a stem for 32-pixel images."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network, convolutional_network, rebuildable
from .blocks import conv_norm, start_convolutions
from .normalise import Normalisation


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, beside a shortcut; the sum goes through a ReLU."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce = conv_norm(inputs, width, 1)
        self.convolve = conv_norm(width, width, 3, stride=stride)
        self.expand = conv_norm(width, outputs, 1, relu=False)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else conv_norm(inputs, outputs, 1, stride=stride, relu=False)
        )

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the block's maps, which are never negative."""
        return F.relu(self.expand(self.convolve(self.reduce(maps))) + self.shortcut(maps))


@rebuildable
def resnet50_32px(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build ResNet-50 with a 3x3 stem and no max-pool, 23,705,252 parameters at 100 classes.

    At 32 pixels ``stem`` is [64, 32, 32], ``layer1`` [256, 32, 32], ``layer2`` [512, 16, 16],
    ``layer3`` [1024, 8, 8] and ``layer4`` [2048, 4, 4], all after a ReLU; the penultimate feature
    is [2048].

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        He, Zhang, Ren and Sun (2016), arXiv:1512.03385, table 1; stem, stride in the 3x3
        convolution and start values as in the CRD set-up, arXiv:1910.10699.
    """
    stages: dict[str, nn.Module] = {"stem": conv_norm(channels, 64, 3)}
    inputs = 64
    for i, (width, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), 1):
        chain = [Bottleneck(inputs, width, 1 if i == 1 else 2)]
        inputs = 4 * width
        chain += [Bottleneck(inputs, width, 1) for _ in range(blocks - 1)]
        stages[f"layer{i}"] = nn.Sequential(*chain)
    network = convolutional_network(
        stages, inputs, num_classes=num_classes, channels=channels, normalisation=normalisation
    )
    start_convolutions(network)
    return network
