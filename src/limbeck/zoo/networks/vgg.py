"""VGG networks with batch norm for small images, one linear layer at their end."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network, convolutional_network, rebuildable
from .blocks import start_classifier, start_convolutions
from .normalise import Normalisation


class PoolLargeMaps(nn.Module):
    """Halve maps of 8 pixels or more: those that images of 64 pixels have after four blocks."""

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height_out width_out"]:
        """Return the pooled maps, or small maps as they are."""
        return F.max_pool2d(maps, 2) if maps.shape[2] >= 8 else maps


def _stage(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    """Chain 3x3 convolutions with bias, each with batch norm and ReLU."""
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, convolutions + 1):
        chain[f"conv{i}"] = nn.Conv2d(inputs if i == 1 else outputs, outputs, 3, 1, 1)
        chain[f"norm{i}"] = nn.BatchNorm2d(outputs)
        chain[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(chain)


def _vgg(
    convolutions: tuple[int, ...], num_classes: int, channels: int, normalisation: Normalisation
) -> Network:
    """Build five blocks with a max-pool after the first three, and after the fourth if large."""
    stages: dict[str, nn.Module] = {}
    inputs = channels
    for i, (outputs, count) in enumerate(zip((64, 128, 256, 512, 512), convolutions, strict=True)):
        stages[f"stage{i}" if i else "stem"] = _stage(inputs, outputs, count)
        if i < 4:
            stages[f"pool{i}"] = nn.MaxPool2d(2) if i < 3 else PoolLargeMaps()
        inputs = outputs
    network = convolutional_network(
        stages, inputs, num_classes=num_classes, channels=channels, normalisation=normalisation
    )
    start_convolutions(network)
    start_classifier(network.classifier)
    return network


@rebuildable
def vgg8(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build VGG-8, one convolution a block, 3,965,028 parameters at 100 classes.

    At 32 pixels ``stem`` is [64, 32, 32], ``stage1`` [128, 16, 16], ``stage2`` [256, 8, 8],
    ``stage3`` and ``stage4`` [512, 4, 4], all after a ReLU and before the max-pool; the
    penultimate feature is [512]. Images of 64 pixels or more are pooled once more.

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Name or statistics of the images, see :func:`normaliser`.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] to logits.

    Source:
        Simonyan and Zisserman (2015), arXiv:1409.1556; this short form, with batch norm, and its
        start values as in the CRD set-up, arXiv:1910.10699.
    """
    return _vgg((1, 1, 1, 1, 1), num_classes, channels, normalisation)


@rebuildable
def vgg13(
    *, num_classes: int = 100, channels: int = 3, normalisation: Normalisation = "cifar100"
) -> Network:
    """Build VGG-13, two convolutions a block, 9,462,180 parameters; else as :func:`vgg8`."""
    return _vgg((2, 2, 2, 2, 2), num_classes, channels, normalisation)
