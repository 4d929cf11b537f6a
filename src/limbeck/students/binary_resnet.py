"""The published binary residual networks for 32-pixel images: all but both ends is 1-bit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, check_positive
from limbeck.students.binary import BinaryConv2d


Statistics = Sequence[Sequence[float]]
"""Mean and standard deviation of the training set's pixels in [0, 1], one number a channel."""

CIFAR10: Statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


class BinaryBlock(nn.Module):
    """Two 3x3 binary convolutions beside a shortcut, between hardtanhs.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, ``inputs`` or twice as many.
        stride: Step of the first convolution, 1 or 2.
        inner_shortcut: Add the shortcut after the first convolution and the sum after the second
            one (ResNet-20); otherwise after the second one alone (ResNet-18).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, inner_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = BinaryConv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = BinaryConv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.missing = stride, outputs - inputs
        self.inner_shortcut = inner_shortcut

    def shortcut(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the maps, averaged over 2x2 pixels and between zero maps where they change."""
        if self.stride > 1:
            maps = F.avg_pool2d(maps, self.stride)
        before = self.missing // 2
        return F.pad(maps, (0, 0, 0, 0, before, self.missing - before)) if self.missing else maps

    def forward(
        self, maps: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels_out height_out width_out"]:
        """Return the block's maps, in [-1, 1]."""
        beside, hidden = self.shortcut(maps), self.bn1(self.conv1(maps))
        if self.inner_shortcut:
            hidden = beside = F.hardtanh(hidden + beside)
        else:
            hidden = F.hardtanh(hidden)
        return F.hardtanh(self.bn2(self.conv2(hidden)) + beside)


class BinaryResNet(nn.Sequential):
    """A chain of named modules, ``normalise`` first and ``classifier`` last.

    The input of ``classifier``, the penultimate feature, is the batch-normalised pooled feature.

    Attributes:
        limbeck_source: How to build this architecture again, fit for JSON.
    """

    limbeck_source: dict[str, Any]

    def forward(
        self, input: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits of images with pixels in [0, 1]."""
        return super().forward(input)


class Standardise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel; both are saved."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        for name, numbers in zip(("mean", "std"), statistics, strict=True):
            column = torch.tensor([float(number) for number in numbers]).view(-1, 1, 1)
            self.register_buffer(name, column)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the images, zero where a pixel is at its channel's mean."""
        return (images - self.mean) / self.std


def binary_resnet20(
    *,
    num_classes: int = 10,
    channels: int = 3,
    normalisation: Statistics | None = CIFAR10,
    thresholds: bool = False,
) -> BinaryResNet:
    """Build the binary ResNet-20: widths 16, 32, 64, three blocks each; 87.5 % on CIFAR-10.

    At 32 pixels ``stem`` is [16, 32, 32] after a hardtanh, ``layer1`` [16, 32, 32], ``layer2``
    [32, 16, 16] and ``layer3`` [64, 8, 8], all in [-1, 1]; ``norm``, the batch-normalised pooled
    feature, is [64]. First convolution and classifier are in full precision.

    Args:
        num_classes: Number of logits.
        channels: Channels of the images.
        normalisation: Mean and standard deviation of the pixels in [0, 1], one number a channel
            each; None for images that stay as they are.
        thresholds: Let the thresholds of the binary activations be learnt, as in ReActNet. They
            start at zero and stay there otherwise, as published.

    Returns:
        The network, from images [batch, channels, height, width] in [0, 1] with an even number of
        pixels at every step (sides of 32) to logits.

    Raises:
        ArgumentError: If ``normalisation`` does not fit ``channels``, or a standard deviation is
            not above zero.

    Example:
        >>> network = binary_resnet20()
        >>> sum(isinstance(part, BinaryConv2d) for part in network.modules())
        18

    Source:
        Xu et al. (2021), ReCU, arXiv:2103.12369, and the code of its authors: blocks, shortcuts,
        batch norm on the pooled feature, start values (Kaiming's normal with fan_in for
        convolutions, scales uniform in [0, 1)). There the statistics of CIFAR-10's pixels may be
        others, and sign(0) is 0.
    """
    parts = {"layer1": (16, 1), "layer2": (32, 2), "layer3": (64, 2)}
    return _resnet("resnet20", parts, 3, num_classes, channels, normalisation, thresholds)


def binary_resnet18(
    *,
    num_classes: int = 10,
    channels: int = 3,
    normalisation: Statistics | None = CIFAR10,
    thresholds: bool = False,
) -> BinaryResNet:
    """Build the binary ResNet-18: widths 64, 128, 256, 512, two blocks each; 92.8 % on CIFAR-10.

    At 32 pixels ``stem`` is [64, 32, 32] without an activation, ``layer1`` [64, 32, 32], ``layer2``
    [128, 16, 16], ``layer3`` [256, 8, 8] and ``layer4`` [512, 4, 4]; ``norm`` is [512]. Else as
    :func:`binary_resnet20`.
    """
    parts = {"layer1": (64, 1), "layer2": (128, 2), "layer3": (256, 2), "layer4": (512, 2)}
    return _resnet("resnet18", parts, 2, num_classes, channels, normalisation, thresholds)


BINARY_NETWORKS: dict[str, Callable[..., BinaryResNet]] = {
    "resnet20": binary_resnet20,
    "resnet18": binary_resnet18,
}
"""The published binary networks by name: ``binary:resnet20`` in recipes."""


def _resnet(
    name: str,
    parts: dict[str, tuple[int, int]],
    blocks: int,
    num_classes: int,
    channels: int,
    normalisation: Statistics | None,
    thresholds: bool,
) -> BinaryResNet:
    statistics = _statistics(name, normalisation, channels)
    deep = blocks == 3  # ResNet-20; ResNet-18 has neither the inner shortcut nor a hardtanh first
    width = next(iter(parts.values()))[0]
    stem: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm=nn.BatchNorm2d(width)
    )
    if deep:
        stem["hardtanh"] = nn.Hardtanh()
    chain: OrderedDict[str, nn.Module] = OrderedDict(
        normalise=Standardise(statistics), stem=nn.Sequential(stem)
    )
    for layer, (outputs, stride) in parts.items():
        steps = [(width, stride), *[(outputs, 1)] * (blocks - 1)]
        chain[layer] = nn.Sequential(
            *(BinaryBlock(inputs, outputs, step, inner_shortcut=deep) for inputs, step in steps)
        )
        width = outputs
    chain["pool"], chain["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    chain["norm"], chain["classifier"] = nn.BatchNorm1d(width), nn.Linear(width, num_classes)
    network = BinaryResNet(chain)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, BinaryConv2d):
            nn.init.uniform_(part.scale)
            part.threshold.requires_grad_(thresholds)
    network.limbeck_source = {
        "builder": f"binary:{name}",
        "kwargs": {
            "num_classes": int(num_classes),
            "channels": int(channels),
            "normalisation": [[float(number) for number in row] for row in statistics],
            "thresholds": thresholds,
        },
    }
    return network


def _statistics(name: str, normalisation: Statistics | None, channels: int) -> Statistics:
    if normalisation is None:
        return [[0.0] * channels, [1.0] * channels]
    if isinstance(normalisation, str) or [len(row) for row in normalisation] != [channels] * 2:
        raise ArgumentError(
            f"binary:{name}: expected a mean and a standard deviation of {channels} channels each; "
            f"got {normalisation!r}. Pass `normalisation` and `channels` that fit, or None."
        )
    for number in normalisation[1]:
        check_positive(f"binary:{name}", std=number)
    return normalisation
