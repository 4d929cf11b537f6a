"""Variational information distillation (VID)."""

from __future__ import annotations

import math
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    Pair,
    check_channels,
    check_same_channels,
    connected,
    layer_names,
    mean_of_samples,
    pairs_of,
    pointwise,
    prepared,
    same_size,
)
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def vid_loss(
    student: Float[Tensor, "batch channels *positions"],
    teacher: Float[Tensor, "batch channels *other_positions"],
    variance: Float[Tensor, " channels"],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Raise a bound of the information that the student's features have on the teacher's.

    .. math:: \frac{1}{b\,n} \sum_{i,c,p} \frac{1}{2} \Bigl(
              \frac{(t_{icp} - \mu_{icp})^2}{\sigma_c^2} + \ln \sigma_c^2 \Bigr)

    with n entries a sample, of all channels c and positions p. It is the negative logarithm of a
    Gaussian density, and by it the teacher's entropy minus the bound (Barber and Agakov).

    Args:
        student: The mean :math:`\mu` that is predicted from the student's features; gradients flow
            into it.
        teacher: The teacher's features t; detached here. Of two maps of unlike size the larger is
            average-pooled to the smaller.
        variance: :math:`\sigma^2` of every channel, above zero; gradients flow into it. At its
            optimum it is the channel's mean squared error.
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The batch mean for one entry [nats, without the constant ln(2 pi)/2]. It has no fixed zero;
        with the variances at their optimum it is the mean of (1 + ln of the variance)/2.

    Raises:
        ShapeError: If rows, channels or the number of variances differ, or the sizes of what are
            no maps.

    Example:
        Squared errors 1 and 4, each as large as its variance: (1 + 0)/2 and (1 + ln 4)/2, of which
        the mean is 0.8466.

        >>> import torch
        >>> vid_loss(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 4.0]))
        tensor(0.8466)

    Source:
        Ahn, Hu, Damianou, Lawrence and Dai (2019), arXiv:1904.05835; the mean over entries is that
        of the authors' code, where the text has the sum.
    """
    check_same_channels("vid_loss", student, teacher)
    if tuple(variance.shape) != tuple(student.shape[1:2]):
        raise ShapeError(
            f"vid_loss: expected one variance for each of {student.shape[1]} channels; got "
            f"{tuple(variance.shape)}. Give one number a channel of the teacher."
        )
    mine, theirs, variance = at_least_float32(student, teacher.detach(), variance)
    mine, theirs = same_size(mine, theirs)
    variance = variance.view(-1, *[1] * (mine.ndim - 2))
    return mean_of_samples(((theirs - mine).square() / variance + variance.log()) / 2.0, mask)


class VID(nn.Module):
    """:func:`vid_loss`, summed over layers, as a training term with its means and variances.

    The mean is predicted by three linear maps of the channels (1x1 convolutions) without offset,
    with ReLU between, of widths teacher, twice teacher, teacher. The variances are softplus of a
    trained number a channel, plus 1e-5.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher".
        initial_variance: With which the variances begin, above 1e-3.
        paper_code: Take what the code of Dissanayake et al. compares with: inner widths both twice
            the teacher's, batch norm before each ReLU, softplus(5) + 1e-3 = 5.0077 to begin with
            (``initial_variance`` is not used). Their weights are 1 and 100.
        seed: Of the first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def __init__(
        self,
        layer: Layer = STAGES,
        *,
        initial_variance: float = 5.0,
        paper_code: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1e-3 < initial_variance < math.inf:
            raise ArgumentError(
                f"VID: expected `initial_variance` > 0.001; got {initial_variance}."
            )
        self.layers = layer_names("VID", layer)
        self.paper_code, self.seed = paper_code, seed
        self.floor = 1e-3 if paper_code else 1e-5
        start = initial_variance - self.floor
        # The inverse of softplus; expm1 of a large number would overflow.
        self.start = 5.0 if paper_code else start + math.log(-math.expm1(-start))
        self.mean_over_samples = not paper_code  # batch norm
        self.means = nn.ModuleList()
        self.raw_variances = nn.ParameterList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make means and variances for the shapes of a first batch, unless there are any."""
        if len(self.means):
            return
        for place, pair in enumerate(pairs_of("VID", self.layers, student, teacher, batch)):
            self.means.append(self._mean(pair, place))
            out = pair.teacher.shape[1]
            self.raw_variances.append(nn.Parameter(pair.student.new_full((out,), self.start)))
            self.channels.append((pair.student.shape[1], out))

    def _mean(self, pair: Pair, place: int) -> nn.Sequential:
        like, out = pair.student, pair.teacher.shape[1]
        widths = [like.shape[1], 2 * out if self.paper_code else out, 2 * out, out]
        steps: list[nn.Module] = []
        for i in range(3):
            key = self.seed, "vid", place, i
            steps.append(pointwise(widths[i], widths[i + 1], like, *key, bias=False))
            if i < 2:
                steps += [BatchNorm(widths[i + 1], like)] if self.paper_code else []
                steps.append(nn.ReLU())
        return nn.Sequential(*steps)

    def variances(self) -> list[Tensor]:
        """Return the variance of every channel, for each layer of the teacher."""
        return [F.softplus(raw) + self.floor for raw in self.raw_variances]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = pairs_of("VID", self.layers, student, teacher, batch)
        prepared("VID", self.means, pairs)
        total = pairs[0].student.new_zeros(())
        known = check_channels(pairs, self.channels)
        for pair, mean, variance in zip(known, self.means, self.variances(), strict=True):
            mine = connected(mean, pair.student)
            total = total + vid_loss(mine, pair.teacher, variance, mask=pair.mask)
        return share_of_batch(total, len(pairs[0].student))
