"""Mixup and CutMix as pure functions of (sample, view), whose teacher can be stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError, check_choice, check_positive
from limbeck.randomness import derive_seed, keyed_uniform


KINDS = ("mixup", "cutmix")


@dataclass(frozen=True, eq=False)
class Mixed:
    r"""Mix each image with another one of the data set, both augmented.

    .. math:: \lambda x_i + (1 - \lambda) x_j, \qquad \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    CutMix pastes a box of :math:`x_j` with the share :math:`1 - \lambda` of the image instead. The
    partner j, the share and the box are functions of (sample, view) alone, and so is the image: a
    teacher can answer for it once and for all, and what a store holds is exact for every loss that
    compares with the teacher. Labels are **not** mixed: ``distill`` takes such data only where the
    labels do not count (``weight=1.0``, or rows without labels).

    Args:
        images: All images of the data set, uint8 or float [rows, channels, height, width].
        kind: "mixup" or "cutmix".
        alpha: Of the Beta distribution, above 0; 1 is uniform.
        share: Of the images that are mixed at all, in (0, 1].
        inner: Augmentation of both images before, such as ``CropFlip()``; None for none.
        seed: Another seed gives other views.

    Raises:
        ArgumentError: If an option is out of its range.
        ShapeError: If ``images`` are none.

    Source:
        Zhang and others (2018), arXiv:1710.09412; Yun and others (2019), arXiv:1905.04899; Beyer
        and others (2022), arXiv:2106.05237, for teacher and student that see the same mixture.
    """

    images: Tensor = field(repr=False)
    kind: str = "mixup"
    alpha: float = 1.0
    share: float = 1.0
    inner: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    seed: int = 0
    mixes_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("Mixed", "kind", self.kind, KINDS)
        check_positive("Mixed", alpha=self.alpha)
        if not 0 < self.share <= 1:
            raise ArgumentError(f"Mixed: expected `share` in (0, 1]; got {self.share}.")
        if self.images.ndim != 4:
            raise ShapeError(
                "Mixed: expected all images [rows, channels, height, width]; got "
                f"{tuple(self.images.shape)}."
            )

    def __call__(self, inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:
        """Return the given views of a batch of images, float32 in the range of the images.

        Args:
            inputs: Images [batch, channels, height, width], uint8 or float.
            index: Sample positions, int64 [batch].
            view: View numbers, int64 [batch].

        Raises:
            ShapeError: If the images are of another shape than those of the data set.
        """
        if inputs.shape[1:] != self.images.shape[1:]:
            raise ShapeError(
                f"Mixed: expected images {tuple(self.images.shape[1:])}, as those to mix with; got "
                f"{tuple(inputs.shape[1:])}."
            )
        draws = keyed_uniform(derive_seed(self.seed, "mixed"), index, view, 5)
        partner = (draws[:, 0].double() * len(self.images)).long()
        others = self.images[partner.to(self.images.device)].to(inputs.device)
        if self.inner is not None:
            inputs = self.inner(inputs, index, view)
            others = self.inner(others, partner, view)
        first, second = (_as_float(part) for part in (inputs, others))
        kept = self._kept(draws)
        if self.kind == "mixup":
            kept = kept[:, None, None, None]
            return kept * first + (1 - kept) * second
        inside = _boxes(1 - kept, draws[:, 3:], inputs.shape[2], inputs.shape[3])
        return torch.where(inside[:, None], second, first)

    def _kept(self, draws: Tensor) -> Tensor:
        """Return each image's own share, 1 where it is not mixed."""
        levels = draws[:, 1].double().cpu().numpy()
        kept = torch.from_numpy(np.asarray(betaincinv(self.alpha, self.alpha, levels)))
        kept = kept.to(draws.device, torch.float32)
        return torch.where(draws[:, 2] < self.share, kept, torch.ones_like(kept))


def _boxes(shares: Tensor, centres: Tensor, height: int, width: int) -> Tensor:
    """Return masks of boxes with a share of the area before they are cut at the border."""
    half = shares.clamp_min(0).sqrt()[:, None] / 2
    inside = []
    for axis, size in ((0, height), (1, width)):
        places = torch.arange(size, device=shares.device) + 0.5
        middle = centres[:, axis : axis + 1] * size
        inside.append((places - middle).abs() < half * size)
    return inside[0][:, :, None] & inside[1][:, None, :]


def _as_float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
