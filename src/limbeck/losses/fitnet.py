"""Hints from a middle layer (FitNet)."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    Layer,
    check_channels,
    check_same_channels,
    connected,
    layer_names,
    mean_of_samples,
    pairs_of,
    prepared,
    regressor,
    same_size,
)
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def hint_loss(
    student: Float[Tensor, "batch channels *positions"],
    teacher: Float[Tensor, "batch channels *other_positions"],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Bring the student's regressed features to the teacher's.

    .. math:: \frac{1}{b\,n} \sum_{i,k} (r(f^S)_{ik} - f^T_{ik})^2

    with n entries a sample, of all channels and positions.

    Args:
        student: The student's features after the regressor r; gradients flow into these.
        teacher: The teacher's features; detached here. Of two maps of unlike size the larger is
            average-pooled to the smaller (:func:`limbeck.losses.connectors.same_size`).
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The batch mean of the squared error [squared unit of the features, no nats], at least zero;
        zero when both agree (and for a batch without rows).

    Raises:
        ShapeError: If rows or channels differ, or the sizes of what are no maps.

    Example:
        The errors are 1 and 3: (1 + 9)/2.

        >>> import torch
        >>> hint_loss(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2))
        tensor(5.)

    Source:
        Romero et al. (2015), arXiv:1412.6550; there with a factor of 1/2.
    """
    check_same_channels("hint_loss", student, teacher)
    mine, theirs = same_size(*at_least_float32(student, teacher.detach()))
    return mean_of_samples((mine - theirs).square(), mask)


class FitNet(nn.Module):
    """:func:`hint_loss` as a training term that owns a regressor for each pair of layers.

    The regressor of maps is a convolution, batch norm over the rows of all ranks, and a ReLU; that
    of vectors and token states is linear. A kernel that would trim a map to less than its half is
    a 1x1 convolution and pooling instead.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher".
        relu: Whether the regressor of maps ends in a ReLU; None decides by the teacher's maps of
            the first batch: yes where none of them is negative.
        seed: Of the regressors' first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 100.0)
    mean_over_samples: ClassVar[bool] = False  # batch norm

    def __init__(self, layer: Layer = "layer2", *, relu: bool | None = None, seed: int = 0) -> None:
        super().__init__()
        self.layers = layer_names("FitNet", layer)
        self.relu, self.seed = relu, seed
        self.regressors = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the regressors for the shapes of a first batch, unless there are any."""
        if len(self.regressors):
            return
        for place, pair in enumerate(pairs_of("FitNet", self.layers, student, teacher, batch)):
            steps: list[nn.Module] = [regressor(pair, self.seed, "fitnet", place)]
            if pair.student.ndim == 4:
                steps.append(BatchNorm(pair.teacher.shape[1], pair.student))
                if (pair.teacher >= 0).all() if self.relu is None else self.relu:
                    steps.append(nn.ReLU())
            self.regressors.append(nn.Sequential(*steps))
            self.channels.append((pair.student.shape[1], pair.teacher.shape[1]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = pairs_of("FitNet", self.layers, student, teacher, batch)
        prepared("FitNet", self.regressors, pairs)
        total = pairs[0].student.new_zeros(())
        for pair, step in zip(check_channels(pairs, self.channels), self.regressors, strict=True):
            mine = connected(step, pair.student)
            total = total + hint_loss(mine, pair.teacher, mask=pair.mask)
        return share_of_batch(total, len(pairs[0].student))
