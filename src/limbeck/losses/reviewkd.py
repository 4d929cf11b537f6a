"""ReviewKD: what the student's deeper layers know is fused into its shallower ones."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ShapeError
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    Pair,
    check_channels,
    check_same_channels,
    layer_names,
    mean_of_samples,
    pairs_of,
    prepared,
    seeded,
)
from limbeck.losses.numerics import at_least_float32, without_autocast
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


GRIDS = (4, 2, 1)
WIDEST = 512  # channels of the fused maps, at most


def hierarchical_context_loss(
    student: Float[Tensor, "batch channels height width"],
    teacher: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, ""]:
    r"""Compare two maps at full size and, with falling weights, pooled to ever coarser grids (HCL).

    .. math:: \Bigl( \mathrm{mse}(f^S, f^T) + \sum_{k} 2^{-k}\,
              \mathrm{mse}(\mathrm{pool}_{g_k} f^S, \mathrm{pool}_{g_k} f^T) \Bigr)
              \Big/ \sum_{k \ge 0} 2^{-k}

    with averages over grids of 4x4, 2x2 and 1x1 cells, of which only those count, from k = 1 on,
    that are smaller than the map.

    Args:
        student: The student's maps, fused and brought to the teacher's shape; gradients flow into
            these.
        teacher: The teacher's maps; detached here.

    Returns:
        The weighted mean [squared unit of the features, no nats], at least zero; zero when the maps
        agree (and for a batch without rows). For a map of one pixel it is the mean squared error.

    Raises:
        ShapeError: If they are not maps of one shape.

    Example:
        Four pixels of squared error 4, 0, 0, 0 have the mean 1; their averages differ by 0.5. So
        (1 + 0.5 * 0.25) / 1.5.

        >>> student = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
        >>> hierarchical_context_loss(student, torch.zeros(1, 1, 2, 2))
        tensor(0.7500)

    Source:
        Chen, Liu, Zhao and Jia (2021), arXiv:2104.09044, section 3.4; weights and grids as in
        dvlab-research/ReviewKD.
    """
    check_same_channels("hierarchical_context_loss", student, teacher)
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ShapeError(
            "hierarchical_context_loss: expected maps [batch, channels, height, width] of one "
            f"shape; got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. Fuse and "
            "resize the student's first."
        )
    mine, theirs = at_least_float32(student, teacher.detach())
    total = mean_of_samples((mine - theirs).square())
    weight = weights = 1.0
    for cells in GRIDS:
        if cells < min(mine.shape[2:]):
            weight /= 2.0
            weights += weight
            coarse = F.adaptive_avg_pool2d(mine - theirs, cells)  # pooling is linear
            total = total + weight * mean_of_samples(coarse.square())
    return total / weights


class Fusion(nn.Module):
    """Fuse a map with the deeper one before it by attention, then lead it to the teacher's shape.

    Args:
        inputs: Channels of the student's map.
        width: Channels of the fused maps.
        outputs: Channels of the teacher's map.
        size: Height and width of the teacher's map.
        deepest: Whether no deeper map comes in.
        like: A tensor of the device and float type (float32 at least) that the parameters get.
        key: What the random numbers are for: the seed, then names or numbers.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        size: tuple[int, int],
        *,
        deepest: bool,
        like: Tensor,
        key: tuple[int | str, ...],
    ) -> None:
        super().__init__()
        self.size = size
        self.enter = _convolution(inputs, width, 1, like, (*key, "enter"))
        self.enter_norm = BatchNorm(width, like)
        made = {"like": like, "key": (*key, "attention")}
        self.attention = None if deepest else seeded(nn.Conv2d, 2 * width, 2, 1, **made)
        self.leave = _convolution(width, outputs, 3, like, (*key, "leave"))
        self.leave_norm = BatchNorm(outputs, like)

    def forward(
        self, maps: Float[Tensor, "batch inputs height width"], deeper: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the map to compare with the teacher's, and the fused one for the next layer."""
        fused = self.enter_norm(self.enter(maps))
        if self.attention is not None and deeper is not None:
            deeper = _resized(deeper, (fused.shape[2], fused.shape[3]))
            shares = torch.sigmoid(self.attention(torch.cat([fused, deeper], dim=1)))
            fused = fused * shares[:, :1] + deeper * shares[:, 1:]
        fused = _resized(fused, self.size)
        return self.leave_norm(self.leave(fused)), fused


class ReviewKD(nn.Module):
    """:func:`hierarchical_context_loss`, summed over layers, with the fusions that it learns.

    From the deepest layer to the shallowest the student's map goes through a 1x1 convolution and
    batch norm to a common width, is fused with the next deeper fused map (attention of one number a
    pixel for each of the two), and goes through a 3x3 convolution and batch norm to the teacher's
    channels. Sizes are changed by repeating or leaving out pixels. Batch norms take the rows of all
    ranks.

    Args:
        layer: At least two layers from shallow to deep, for both sides or as a dict for "student"
            and "teacher": maps, the last of which may be vectors.
        seed: Of the fusions' first weights.

    Raises:
        ArgumentError: If the layers are not in pairs.

    Note:
        The authors raise the weight from 0 within 20 epochs (``training.loss_warmup_epochs``).
        They take the teacher's maps before the ReLU, the student's after it; here the layers named
        are taken as they are.

    Source:
        As :func:`hierarchical_context_loss`; sections 3.2 and 3.3. Widths, kernels and their start
        values as in dvlab-research/ReviewKD and megvii-research/mdistiller; its weight for
        CIFAR-100 is 5 for five pairs of eight, and 0.6, 1 and 8 for others.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 5.0)
    mean_over_samples: ClassVar[bool] = False  # batch norm

    def __init__(self, layer: Layer = (*STAGES, "penultimate"), *, seed: int = 0) -> None:
        super().__init__()
        self.layers = layer_names("ReviewKD", layer)
        self.seed = seed
        self.fusions = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the fusions for the shapes of a first batch, unless there are any.

        Raises:
            ShapeError: If a layer gives token states.
        """
        if len(self.fusions):
            return
        pairs = _as_maps(pairs_of("ReviewKD", self.layers, student, teacher, batch))
        width = min(WIDEST, pairs[-1].student.shape[1])
        for place, pair in enumerate(pairs):
            inputs, outputs = pair.student.shape[1], pair.teacher.shape[1]
            size = (pair.teacher.shape[2], pair.teacher.shape[3])
            made = {"like": pair.student, "key": (self.seed, "reviewkd", place)}
            deepest = place == len(pairs) - 1
            self.fusions.append(Fusion(inputs, width, outputs, size, deepest=deepest, **made))
            self.channels.append((inputs, outputs))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = _as_maps(pairs_of("ReviewKD", self.layers, student, teacher, batch))
        prepared("ReviewKD", self.fusions, pairs)
        known = list(check_channels(pairs, self.channels))
        total, deeper = known[0].student.new_zeros(()), None
        for pair, fusion in zip(reversed(known), reversed(self.fusions), strict=True):
            kind = next(fusion.parameters()).dtype
            with without_autocast(pair.student):
                mine, deeper = fusion(pair.student.to(kind), deeper)
            total = total + hierarchical_context_loss(mine, pair.teacher)
        return share_of_batch(total, len(known[0].student))


def _as_maps(pairs: list[Pair]) -> list[Pair]:
    """Return vectors as maps of one pixel, and maps as they are."""
    found = []
    for pair in pairs:
        if pair.student.ndim == 3:
            raise ShapeError(
                f"{pair.where}: expected maps or vectors; got token states. Choose other layers "
                "with `layer=`."
            )
        one, two = pair.student, pair.teacher
        if one.ndim == 2:
            one, two = one[:, :, None, None], two[:, :, None, None]
        found.append(pair._replace(student=one, teacher=two))
    return found


def _convolution(
    inputs: int, outputs: int, kernel: int, like: Tensor, key: tuple[int | str, ...]
) -> nn.Conv2d:
    """Return a convolution that keeps the size, with Kaiming-uniform weights of a gain of 1."""
    sizes = (inputs, outputs, kernel, 1, kernel // 2)
    layer = seeded(nn.Conv2d, *sizes, like=like, key=key, bias=False)
    with torch.no_grad():
        layer.weight.mul_(3.0**0.5)  # from +-1/sqrt(inputs of a unit) to +-sqrt(3/inputs)
    return layer


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if (maps.shape[2], maps.shape[3]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="nearest")
