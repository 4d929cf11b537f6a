"""Augmentations of whole batches, as pure functions of (sample, view)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.randomness import keyed_uniform


@dataclass(frozen=True)
class CropFlip:
    """Shift each image at random within a border of zeros, and mirror every second one.

    The image of (sample, view) is the window of the zero-padded image at the offset
    ``floor(u * (2 * padding + 1))``, drawn for rows and columns apart, mirrored left to right
    where a third number is below 1/2. The numbers are those of
    :func:`limbeck.randomness.keyed_uniform`, so a view can be made again, alone or in any batch.

    Args:
        padding: Border of zeros on each side, in pixels; the largest shift.
        flip: Whether to mirror half of the images left to right.
        seed: Another seed gives other views.

    Raises:
        ArgumentError: If ``padding`` is negative.

    Example:
        >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> CropFlip(padding=1, flip=False)(image, torch.tensor([4]), torch.tensor([0]))
        tensor([[[[0., 3., 4.],
                  [0., 6., 7.],
                  [0., 0., 0.]]]])
    """

    padding: int = 4
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ArgumentError(f"CropFlip: expected `padding` >= 0; got {self.padding}.")

    def __call__(self, inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """Return the given views of a batch of images, in the dtype they came in.

        Args:
            inputs: Images [batch, channels, height, width], uint8 or float.
            index: Sample positions, int64 [batch].
            view: View numbers, int64 [batch].

        Raises:
            ShapeError: If ``inputs`` are not images, or the batch sizes differ.
        """
        if inputs.ndim != 4 or index.shape != inputs.shape[:1] or view.shape != index.shape:
            raise ShapeError(
                "CropFlip: expected images [batch, channels, height, width] with one index and one "
                f"view each; got inputs {tuple(inputs.shape)}, index {tuple(index.shape)}, "
                f"view {tuple(view.shape)}."
            )
        batch, channels, height, width = inputs.shape
        draws = keyed_uniform(self.seed, index, view, 3)
        # The number of offsets is odd, so float32 cannot round u * (2 p + 1) up to 2 p + 1.
        offset = (draws[:, :2] * (2 * self.padding + 1)).long()
        rows = torch.arange(height, device=inputs.device) + offset[:, :1]
        columns = torch.arange(width, device=inputs.device)
        if self.flip:
            columns = torch.where(draws[:, 2:] < 0.5, width - 1 - columns, columns)
        columns = columns + offset[:, 1:]

        padded = F.pad(inputs, (self.padding,) * 4)
        places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
        # A gather on flat images took 0.36 ms for 64 CIFAR images on one core; windows by unfold
        # took 0.57, indexing by four tensors 1.5.
        flat = places.reshape(batch, 1, height * width).expand(-1, channels, -1)
        return padded.flatten(2).gather(2, flat).view_as(inputs)


def Shift(padding: int = 1, seed: int = 0) -> CropFlip:  # noqa: N802
    """Return the augmentation that shifts and never mirrors, for digits and letters."""
    return CropFlip(padding=padding, flip=False, seed=seed)
