"""All networks of the zoo by name."""

from __future__ import annotations

from collections.abc import Callable

from limbeck.checks import ArgumentError, nearest

from .base import Network
from .cnn import small_cnn
from .mobilenet import mobilenetv2_half
from .perceptron import mlp
from .resnet import resnet8x4, resnet20, resnet32, resnet32x4, resnet44, resnet56, resnet110
from .resnet50 import resnet50_32px
from .shufflenet_v1 import shufflenetv1
from .shufflenet_v2 import shufflenetv2
from .vgg import vgg8, vgg13
from .wide_resnet import wrn_16_1, wrn_16_2, wrn_16_8, wrn_28_10, wrn_40_1, wrn_40_2


NETWORKS: dict[str, Callable[..., Network]] = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "resnet8x4": resnet8x4,
    "resnet32x4": resnet32x4,
    "resnet50_32px": resnet50_32px,
    "wrn_16_1": wrn_16_1,
    "wrn_16_2": wrn_16_2,
    "wrn_16_8": wrn_16_8,
    "wrn_28_10": wrn_28_10,
    "wrn_40_1": wrn_40_1,
    "wrn_40_2": wrn_40_2,
    "vgg8": vgg8,
    "vgg13": vgg13,
    "mobilenetv2_half": mobilenetv2_half,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
    "small_cnn": small_cnn,
    "mlp": mlp,
}
"""The public builders by their names."""


def network(name: str, /, **kwargs: object) -> Network:
    """Build a network of the zoo by its name.

    Args:
        name: A key of ``NETWORKS``.
        **kwargs: What the builder takes: ``num_classes``, ``channels``, ``normalisation`` for
            all of them.

    Returns:
        The network, freshly initialised.

    Raises:
        ArgumentError: If there is no network of that name; the message names near ones.
        TypeError: If the builder has no such argument.

    Example:
        >>> network("mlp", inputs=4, hidden=[3], num_classes=2).classifier.weight.shape
        torch.Size([2, 3])
    """
    if name not in NETWORKS:
        raise ArgumentError(
            f"network: expected one of {', '.join(NETWORKS)}; got {name!r}."
            f"{nearest(name, NETWORKS)}"
        )
    return NETWORKS[name](**kwargs)
