"""Image normalisation as a network's first layer, so that every network takes pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError, check_choice, check_positive


Normalisation = str | Sequence[Sequence[float]] | None
"""A name in ``STATISTICS``, a pair (mean, std) with one number a channel, or None for neither."""

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # as the CRD recipe has them; the exact standard deviations are 0.2673, 0.2564, 0.2762
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "digits": ((0.3053,), (0.3760,)),
    "none": ((0.0,), (1.0,)),
}
"""Mean and standard deviation of a training set's pixels in [0, 1], one number a channel."""


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Both are persistent buffers [channels, 1, 1], so that a saved network carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for number in std:
            check_positive("Normalise", std=number)
        self.register_buffer("mean", torch.tensor([float(m) for m in mean]).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor([float(s) for s in std]).view(-1, 1, 1))

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch pixels"],
    ) -> Float[Tensor, "batch channels height width"] | Float[Tensor, "batch pixels"]:
        """Return the images with the statistics taken out.

        Args:
            images: Pixels in [0, 1]; flattened images have one channel after the other.

        Returns:
            The same shape; zero where a pixel is at its channel's mean.

        Raises:
            ArgumentError: If the images are integers, whose range is not [0, 1].
            ShapeError: If the number of channels is another one.
        """
        if not images.is_floating_point():
            raise ArgumentError(
                f"Normalise: expected floating-point pixels in [0, 1]; got {images.dtype}. "
                "Divide 8-bit images by 255."
            )
        channels, size = self.mean.shape[0], images.shape[1]
        if size % channels if images.ndim == 2 else size != channels:
            raise ShapeError(
                f"Normalise: expected images of {channels} channels; got {tuple(images.shape)}. "
                "Build the network with `channels` and `normalisation` of these images."
            )
        if images.ndim == 2:
            maps = images.unflatten(1, (channels, -1, 1))
            return ((maps - self.mean) / self.std).flatten(1)
        return (images - self.mean) / self.std


def normaliser(normalisation: Normalisation, channels: int) -> Normalise:
    """Build the normalising layer that a name, a pair of statistics or None asks for.

    Args:
        normalisation: A name in ``STATISTICS``; or (mean, std), each one number a channel; or
            None, the same as "none", for images that stay as they are.
        channels: Number of channels of the images; the statistics must have as many.

    Returns:
        The layer.

    Raises:
        ArgumentError: If the name is unknown, the number of channels is another one, or a
            standard deviation is not above zero.

    Example:
        >>> normaliser([[0.5], [0.25]], channels=1)(torch.ones(1, 1, 1, 1)).item()
        2.0
    """
    if normalisation is None or normalisation == "none":
        (mean,), (std,) = STATISTICS["none"]
        return Normalise([mean] * channels, [std] * channels)
    if isinstance(normalisation, str):
        check_choice("normaliser", "normalisation", normalisation, STATISTICS)
        statistics = STATISTICS[normalisation]
    else:
        statistics = normalisation
    lengths = [len(numbers) for numbers in statistics]
    if lengths != [channels, channels]:
        raise ArgumentError(
            f"normaliser: expected a mean and a std of {channels} channels each; "
            f"got {normalisation!r} with {lengths}. Pass `normalisation` and `channels` that fit."
        )
    mean, std = statistics
    return Normalise(mean, std)
