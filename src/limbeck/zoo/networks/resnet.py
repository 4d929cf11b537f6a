"""Residual networks for 32-pixel images, of depth 6n + 2."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import check_choice

from .base import Network, convolutional_network, rebuildable
from .blocks import conv_norm, start_convolutions
from .normalise import Normalisation


class PadShortcut(nn.Module):
    """He's option A: every ``stride``-th pixel, and zero maps where channels are missing.

    Half of the zero maps (rounded down) stand before the given ones, the rest behind them.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before
        self.stride = stride

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the subsampled and padded maps; nothing here is learnt."""
        kept = maps[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the sum goes through a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride == 1 and inputs == outputs:
            self.shortcut = nn.Identity()
        elif shortcut == "pad":
            self.shortcut = PadShortcut(inputs, outputs, stride)
        else:
            self.shortcut = conv_norm(inputs, outputs, 1, stride=stride, relu=False)

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the block's maps, which are never negative."""
        hidden = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(maps))


def _resnet(
    depth: int,
    widths: tuple[int, int, int, int],
    num_classes: int,
    channels: int,
    normalisation: Normalisation,
    shortcut: str,
) -> Network:
    """Build stem and three stages of ``(depth - 2) / 6`` blocks each; strides 1, 2, 2."""
    check_choice("resnet", "shortcut", shortcut, ["projection", "pad"])
    stages: dict[str, nn.Module] = {"stem": conv_norm(channels, widths[0], 3)}
    for i in (1, 2, 3):
        blocks = [BasicBlock(widths[i - 1], widths[i], 1 if i == 1 else 2, shortcut)]
        blocks += [
            BasicBlock(widths[i], widths[i], 1, shortcut) for _ in range((depth - 2) // 6 - 1)
        ]
        stages[f"layer{i}"] = nn.Sequential(*blocks)
    network = convolutional_network(
        stages, widths[3], num_classes=num_classes, channels=channels, normalisation=normalisation
    )
    start_convolutions(network)
    return network


_NARROW = (16, 16, 32, 64)
_WIDE = (32, 64, 128, 256)


@rebuildable
def resnet20(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-20 for small images, 278,324 parameters at 100 classes.

    At 32 pixels ``stem`` is [16, 32, 32], ``layer1`` [16, 32, 32], ``layer2`` [32, 16, 16] and
    ``layer3`` [64, 8, 8], all after a ReLU; the penultimate feature is [64].

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.
        shortcut: Where a block changes the shape: "projection" is a 1x1 convolution with batch
            norm (option B, the distillation literature); "pad" is every second pixel with zero
            maps added (option A, He's own CIFAR networks; no parameters).

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        He, Zhang, Ren and Sun (2016), arXiv:1512.03385, section 4.2; widths and start values as
        in the CRD set-up, arXiv:1910.10699.
    """
    return _resnet(20, _NARROW, num_classes, channels, normalisation, shortcut)


@rebuildable
def resnet32(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-32, 472,756 parameters at 100 classes; else as :func:`resnet20`."""
    return _resnet(32, _NARROW, num_classes, channels, normalisation, shortcut)


@rebuildable
def resnet44(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-44, 667,188 parameters at 100 classes; else as :func:`resnet20`."""
    return _resnet(44, _NARROW, num_classes, channels, normalisation, shortcut)


@rebuildable
def resnet56(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-56, 861,620 parameters at 100 classes; else as :func:`resnet20`."""
    return _resnet(56, _NARROW, num_classes, channels, normalisation, shortcut)


@rebuildable
def resnet110(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-110, 1,736,564 parameters at 100 classes; else as :func:`resnet20`."""
    return _resnet(110, _NARROW, num_classes, channels, normalisation, shortcut)


@rebuildable
def resnet8x4(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-8 with widened stages, 1,233,540 parameters at 100 classes.

    At 32 pixels ``stem`` is [32, 32, 32], ``layer1`` [64, 32, 32], ``layer2`` [128, 16, 16] and
    ``layer3`` [256, 8, 8]; the penultimate feature is [256]. Else as :func:`resnet20`.
    """
    return _resnet(8, _WIDE, num_classes, channels, normalisation, shortcut)


@rebuildable
def resnet32x4(
    *,
    num_classes: int = 100,
    channels: int = 3,
    normalisation: Normalisation = "cifar100",
    shortcut: str = "projection",
) -> Network:
    """Build ResNet-32 with widened stages, 7,433,860 parameters; else as :func:`resnet8x4`."""
    return _resnet(32, _WIDE, num_classes, channels, normalisation, shortcut)
