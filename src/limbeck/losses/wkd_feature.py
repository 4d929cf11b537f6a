"""Wasserstein distance between distributions of features (WKD-F)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import ShapeError, check_between, check_positive
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    check_channels,
    connected,
    layer_names,
    pairs_of,
    pointwise,
    prepared,
)
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


EPSILON = 1e-5  # added to every variance, as in the authors' code


def wkd_feature_loss(
    student: Float[Tensor, "batch channels *positions"],
    teacher: Float[Tensor, "batch channels *other_positions"],
    *,
    mean_weight: float = 4.0,
    grid: int = 1,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Bring the distribution of the student's features over an image to the teacher's.

    .. math:: \frac{1}{b\,g^2} \sum_{i,r,c} \bigl[ \gamma (\mu^S_{irc} - \mu^T_{irc})^2
              + (\sigma^S_{irc} - \sigma^T_{irc})^2 \bigr]

    with the mean and the standard deviation of channel c over the positions of cell r of g x g. For
    :math:`\gamma = 1` it is the squared 2-Wasserstein distance between two Gaussians with diagonal
    covariances.

    Args:
        student: The student's features after its connector; gradients flow into these. Maps, or
            token states with the channels first.
        teacher: The teacher's; detached here. Maps may be of another height and width.
        mean_weight: Weight gamma of the means, at least zero. Published: 4 for CIFAR-100 where the
            networks are alike and 3 where not, 8 and 3 beside WKD-L.
        grid: Cells g of a side that maps are cut into, at least 1; they overlap by a position where
            g does not divide the side. Published for CIFAR-100: 1, and 4 for unlike networks.
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The sum over channels, mean over cells and samples [squared unit of the features, no nats],
        at least zero; zero where means and deviations agree (and for a batch without rows). Of a
        single position the deviation is zero.

    Raises:
        ShapeError: If rows or channels differ, there are no positions, or fewer than cells.
        ArgumentError: If ``grid`` is below 1, or ``mean_weight`` is negative.

    Example:
        Means 2 and 0, deviations 1.4142 and 0 (up to the guard): 4 * 4 + 2.

        >>> import torch
        >>> student = torch.tensor([[[[1.0, 3.0]]]])
        >>> round(wkd_feature_loss(student, torch.zeros(1, 1, 1, 2)).item(), 1)
        18.0

    Note:
        Variances are unbiased (divided by the number of positions less 1), plus 1e-5.

    Source:
        Lv, Yang and Li (2024), arXiv:2412.08139; guard and unbiased variance as in the authors'
        code (JiamingLv/WKD).
    """
    _check("wkd_feature_loss", mean_weight, grid)
    if (
        student.ndim not in (3, 4)
        or student.ndim != teacher.ndim
        or student.shape[:2] != teacher.shape[:2]
    ):
        raise ShapeError(
            "wkd_feature_loss: expected maps or token states [batch, channels, ...] of the same "
            f"rows and channels; got student {tuple(student.shape)}, teacher "
            f"{tuple(teacher.shape)}. Choose layers that are not pooled, and bring the student's "
            "to the teacher's channels."
        )
    if grid > 1 and (student.ndim == 3 or grid > min(*student.shape[2:], *teacher.shape[2:])):
        raise ShapeError(
            f"wkd_feature_loss: expected maps of at least {grid} positions a side; got student "
            f"{tuple(student.shape)}, teacher {tuple(teacher.shape)}. Lower `grid`."
        )
    mine, theirs = at_least_float32(student, teacher.detach())
    total = mine.new_zeros(())
    for one, two in zip(_cells(mine, grid), _cells(theirs, grid), strict=True):
        (mean, deviation), (goal, goal_deviation) = _moments(one, mask), _moments(two, mask)
        total = total + mean_weight * (mean - goal).square().sum()
        total = total + (deviation - goal_deviation).square().sum()
    return total / (max(len(mine), 1) * grid**2)


def _cells(features: Tensor, grid: int) -> Iterator[Tensor]:
    """Yield [batch, channels, positions] of every cell, cut as adaptive pooling does it."""
    if grid == 1:
        yield features.flatten(2)
        return
    rows, columns = (
        [slice(i * side // grid, -(-(i + 1) * side // grid)) for i in range(grid)]
        for side in features.shape[2:]
    )
    for row in rows:
        for column in columns:
            yield features[:, :, row, column].flatten(2)


def _moments(cell: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over the positions that count, [batch, channels]."""
    kept = cell.new_ones(()).expand(len(cell), 1, cell.shape[2])
    if mask is not None:
        kept = mask[:, None].to(cell.dtype)
    count = kept.sum(dim=2)
    mean = (cell * kept).sum(dim=2) / count.clamp_min(1.0)
    centred = (cell - mean[:, :, None]) * kept
    variance = centred.square().sum(dim=2) / (count - 1.0).clamp_min(1.0)
    return mean, (variance + EPSILON).sqrt()


class WKDF(nn.Module):
    """:func:`wkd_feature_loss`, summed over layers, with a connector for each pair of layers.

    The connector is a linear map of the student's channels to the teacher's (a 1x1 convolution),
    for maps with batch norm over the rows of all ranks and a ReLU. The authors let the weight fall
    on a cosine to zero from epoch 150 of 240 on; here it stays.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher"; maps
            or token states.
        mean_weight: As in the function.
        grid: As in the function.
        relu: Whether the connector of maps ends in a ReLU; None decides by the teacher's maps of
            the first batch: yes where none of them is negative. The authors' always does.
        seed: Of the connectors' first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 0.08)
    mean_over_samples: ClassVar[bool] = False  # batch norm

    def __init__(
        self,
        layer: Layer = STAGES[-1],
        *,
        mean_weight: float = 4.0,
        grid: int = 1,
        relu: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check("WKDF", mean_weight, grid)
        self.layers = layer_names("WKDF", layer)
        self.mean_weight, self.grid = mean_weight, grid
        self.relu, self.seed = relu, seed
        self.regressors = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the connectors for the shapes of a first batch, unless there are any.

        Raises:
            ShapeError: If a layer has no positions.
        """
        if len(self.regressors):
            return
        for place, pair in enumerate(pairs_of("WKDF", self.layers, student, teacher, batch)):
            mine, theirs = pair.student, pair.teacher
            if mine.ndim == 2:
                raise ShapeError(
                    f"{pair.where}: expected maps or token states; got vectors. Choose layers that "
                    "are not pooled with `layer=`."
                )
            key = self.seed, "wkdf", place
            steps = [pointwise(mine.shape[1], theirs.shape[1], mine, *key, bias=mine.ndim == 3)]
            if mine.ndim == 4:
                steps.append(BatchNorm(theirs.shape[1], mine))
                if (theirs >= 0).all() if self.relu is None else self.relu:
                    steps.append(nn.ReLU())
            self.regressors.append(nn.Sequential(*steps))
            self.channels.append((mine.shape[1], theirs.shape[1]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = pairs_of("WKDF", self.layers, student, teacher, batch)
        prepared("WKDF", self.regressors, pairs)
        total = pairs[0].student.new_zeros(())
        for pair, step in zip(check_channels(pairs, self.channels), self.regressors, strict=True):
            total = total + wkd_feature_loss(
                connected(step, pair.student),
                pair.teacher,
                mean_weight=self.mean_weight,
                grid=self.grid,
                mask=pair.mask,
            )
        return share_of_batch(total, len(pairs[0].student))


def _check(where: str, mean_weight: float, grid: int) -> None:
    check_positive(where, grid=grid)
    check_between(where, 0.0, math.inf, mean_weight=mean_weight)
