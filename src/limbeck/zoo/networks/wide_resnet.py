"""Wide residual networks (WRN): pre-activation blocks, depth 6n + 4, widened k times."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network, convolutional_network, rebuildable
from .blocks import start_convolutions
from .normalise import Normalisation


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two convolutions; the sum itself stays signed.

    Where the width changes, the shortcut is a bare 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = (
            None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the block's maps, before the norm and ReLU of the next block."""
        active = F.relu(self.bn1(maps))
        hidden = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return hidden + (maps if self.shortcut is None else self.shortcut(active))


def _wide_resnet(
    depth: int, factor: int, num_classes: int, channels: int, normalisation: Normalisation
) -> Network:
    """Build a stem of 16 channels and three stages of ``(depth - 4) / 6`` blocks each."""
    stages: dict[str, nn.Module] = {"stem": nn.Conv2d(channels, 16, 3, 1, 1, bias=False)}
    inputs = 16
    for i, outputs in enumerate((16 * factor, 32 * factor, 64 * factor), 1):
        # at factor 1 the first stage has no change of width, and its stride is 1
        blocks = [PreActivationBlock(inputs, outputs, 1 if i == 1 else 2)]
        blocks += [PreActivationBlock(outputs, outputs, 1) for _ in range((depth - 4) // 6 - 1)]
        stages[f"stage{i}"] = nn.Sequential(*blocks)
        inputs = outputs
    stages["norm"] = nn.BatchNorm2d(inputs)
    stages["relu"] = nn.ReLU()
    network = convolutional_network(
        stages, inputs, num_classes=num_classes, channels=channels, normalisation=normalisation
    )
    start_convolutions(network)
    nn.init.zeros_(network.classifier.bias)
    return network


@rebuildable
def wrn_16_1(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build WRN-16-1, 180,916 parameters at 100 classes.

    At 32 pixels and factor k, ``stem`` is [16, 32, 32], ``stage1`` [16k, 32, 32], ``stage2``
    [32k, 16, 16] and ``stage3`` [64k, 8, 8], all signed: norm and ReLU come in the next block, or
    in ``norm`` and ``relu`` after the last. The penultimate feature is [64k].

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        Zagoruyko and Komodakis (2016), arXiv:1605.07146, table 1, without dropout; start values
        as in the CRD set-up, arXiv:1910.10699.
    """
    return _wide_resnet(16, 1, num_classes, channels, normalisation)


@rebuildable
def wrn_16_2(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build WRN-16-2, 703,284 parameters at 100 classes; else as :func:`wrn_16_1`."""
    return _wide_resnet(16, 2, num_classes, channels, normalisation)


@rebuildable
def wrn_40_1(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build WRN-40-1, 569,780 parameters at 100 classes; else as :func:`wrn_16_1`."""
    return _wide_resnet(40, 1, num_classes, channels, normalisation)


@rebuildable
def wrn_40_2(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build WRN-40-2, 2,255,156 parameters at 100 classes; else as :func:`wrn_16_1`."""
    return _wide_resnet(40, 2, num_classes, channels, normalisation)


@rebuildable
def wrn_28_10(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build WRN-28-10, 36,536,884 parameters at 100 classes; else as :func:`wrn_16_1`."""
    return _wide_resnet(28, 10, num_classes, channels, normalisation)


@rebuildable
def wrn_16_8(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build WRN-16-8, 11,007,540 parameters at 100 classes; else as :func:`wrn_16_1`."""
    return _wide_resnet(16, 8, num_classes, channels, normalisation)
