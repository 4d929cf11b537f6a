"""MobileNetV2 at half width, as the distillation literature uses it for 32-pixel images."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from .base import Network, convolutional_network, rebuildable
from .blocks import conv_norm, start_classifier, start_convolutions
from .normalise import Normalisation


# (expansion, channels at full width, blocks, first stride), grouped into the stages whose last
# maps the literature takes as features
_SETTINGS = {
    "stage1": [(1, 16, 1, 1), (6, 24, 2, 1)],
    "stage2": [(6, 32, 3, 2)],
    "stage3": [(6, 64, 4, 2), (6, 96, 3, 1)],
    "stage4": [(6, 160, 3, 2), (6, 320, 1, 1)],
}


class InvertedResidual(nn.Module):
    """Expand by 1x1, convolve depthwise, project by 1x1 without ReLU; shortcut if shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = conv_norm(inputs, hidden, 1)
        self.depthwise = conv_norm(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1, relu=False)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the block's maps, which are signed."""
        projected = self.project(self.depthwise(self.expand(maps)))
        return projected + maps if self.has_shortcut else projected


@rebuildable
def mobilenetv2_half(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build MobileNetV2 of width 0.5, 812,836 parameters at 100 classes.

    At 32 pixels ``stem`` is [16, 16, 16] after a ReLU; ``stage1`` [12, 16, 16], ``stage2``
    [16, 8, 8], ``stage3`` [48, 4, 4] and ``stage4`` [160, 2, 2] are signed (linear bottlenecks);
    ``head`` is [1280, 2, 2] and the penultimate feature [1280].

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        Sandler et al. (2018), arXiv:1801.04381, table 2; as in the CRD set-up, arXiv:1910.10699,
        with ReLU for ReLU6, an expansion in the first block too, 24-channel blocks at stride 1,
        1280 channels at the end and no dropout.
    """
    stages: dict[str, nn.Module] = {"stem": conv_norm(channels, 16, 3, stride=2)}
    inputs = 16
    for name, settings in _SETTINGS.items():
        blocks: list[nn.Module] = []
        for expansion, full_width, count, first_stride in settings:
            for i in range(count):
                stride = 1 if i else first_stride
                blocks.append(InvertedResidual(inputs, full_width // 2, stride, expansion))
                inputs = full_width // 2
        stages[name] = nn.Sequential(*blocks)
    stages["head"] = conv_norm(inputs, 1280, 1)
    network = convolutional_network(
        stages, 1280, num_classes=num_classes, channels=channels, normalisation=normalisation
    )
    start_convolutions(network)
    start_classifier(network.classifier)
    return network
