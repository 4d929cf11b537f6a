"""Batch normalisation for parts of a loss: over the rows of all processes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import sum_over_ranks


MOMENTUM = 0.1
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Normalise every channel, with a learnt scale and offset.

    In training mode by the statistics of all processes' rows, so that a loss does not depend on how
    they are split, and the running statistics move; in eval mode by the running ones.

    Args:
        channels: Number of channels.
        like: A tensor of the device and float type (float32 at least) that the parameters get.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, like: Tensor) -> None:
        super().__init__()
        (like,) = at_least_float32(like.detach())
        self.weight = nn.Parameter(like.new_ones(channels))
        self.bias = nn.Parameter(like.new_zeros(channels))
        self.register_buffer("mean", like.new_zeros(channels))
        self.register_buffer("variance", like.new_ones(channels))

    def forward(
        self, features: Float[Tensor, "batch channels *positions"]
    ) -> Float[Tensor, "batch channels *positions"]:
        """Return the normalised features."""
        axes = [axis for axis in range(features.ndim) if axis != 1]
        shape = (-1, *[1] * (features.ndim - 2))
        if not self.training:
            scale = self.weight * (self.variance + EPSILON).rsqrt()
            return (features - self.mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        count = features.new_full((), float(features.numel() // features.shape[1]))
        count = sum_over_ranks(count).clamp_min(1.0)
        mean = sum_over_ranks(features.sum(axes)) / count
        centred = features - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.mean.lerp_(mean.to(self.mean.dtype), MOMENTUM)
            unbiased = variance * count / (count - 1.0).clamp_min(1.0)
            self.variance.lerp_(unbiased.to(self.variance.dtype), MOMENTUM)
        scale = self.weight * (variance + EPSILON).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)
