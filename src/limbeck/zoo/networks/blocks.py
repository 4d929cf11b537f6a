"""Pieces that several networks are made of: convolution with batch norm, shuffling, start values.

No ReLU works in place: a hook keeps what the layer before it put out.
"""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Build a convolution without bias, then batch norm, then a ReLU unless it is left out.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        kernel: Side of the kernel, odd; padded so that stride 1 keeps the size.
        stride: Step of the kernel.
        groups: Number of groups of channels; ``inputs`` for a depthwise convolution.
        relu: Whether a ReLU follows.

    Returns:
        The modules ``conv``, ``norm`` and ``relu`` in a chain.
    """
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    chain: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs))
    if relu:
        chain["relu"] = nn.ReLU()
    return nn.Sequential(chain)


def channel_shuffle(
    maps: Float[Tensor, "batch channels height width"], groups: int
) -> Float[Tensor, "batch channels height width"]:
    """Interleave groups of channels: (a1 a2 a3 b1 b2 b3) becomes (a1 b1 a2 b2 a3 b3).

    Args:
        maps: Feature maps; ``groups`` divides the number of channels.
        groups: Number of groups.

    Returns:
        The same maps in another order.

    Example:
        >>> import torch
        >>> channel_shuffle(torch.arange(6.0).view(1, 6, 1, 1), groups=2).flatten().tolist()
        [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]

    Source:
        Zhang, Zhou, Lin and Sun (2018), arXiv:1707.01083, figure 1.
    """
    return maps.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def start_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions as He does, and set their biases to zero.

    The standard deviation is sqrt(2 / (k^2 C_out)), which is Kaiming's with fan_out, also for
    depthwise convolutions.

    Args:
        network: Changed in place.

    Source:
        He, Zhang, Ren and Sun (2015), arXiv:1502.01852, equation 14.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_classifier(classifier: nn.Linear, std: float = 0.01) -> None:
    """Draw a classifier's weights from a normal distribution and set its bias to zero.

    Args:
        classifier: Changed in place.
        std: Standard deviation of the weights.
    """
    nn.init.normal_(classifier.weight, std=std)
    nn.init.zeros_(classifier.bias)
