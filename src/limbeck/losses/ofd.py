"""Overhaul of feature distillation (OFD): features before the ReLU, with margins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError, check_same_shape
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    Pair,
    check_channels,
    check_same_channels,
    connected,
    layer_names,
    pairs_of,
    pointwise,
    prepared,
    same_size,
)
from limbeck.losses.numerics import at_least_float32
from limbeck.ranks import share_of_batch, sum_over_ranks
from limbeck.types import Batch, Outputs


RARE = 1e-3  # share of negative numbers up to which the authors' code takes another margin
FAR = 3.0  # standard deviations below zero, of that margin


def ofd_loss(
    student: Float[Tensor, "batch channels *positions"],
    teacher: Float[Tensor, "batch channels *other_positions"],
    margin: Float[Tensor, " channels"],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Bring the student to what the teacher's ReLU lets through, and below zero elsewhere.

    .. math:: \frac{1}{b} \sum_{i,c,p} d(s_{icp}, \max(t_{icp}, m_c)), \qquad
              d(s, t) = \begin{cases} 0 & s \le t \le 0 \\ (s - t)^2 & \text{else} \end{cases}

    over samples i, channels c and positions p.

    Args:
        student: The student's features after the connector, before a ReLU; gradients flow into
            these.
        teacher: The teacher's features before its ReLU; detached here. Of two maps of unlike size
            the larger is average-pooled to the smaller.
        margin: m of every channel, at most zero: how far below zero the student is asked to go
            where the teacher is farther below. Detached here.
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The sum over a sample's entries, averaged over samples [squared unit of the features, no
        nats], at least zero; zero where both agree, or both are below zero and the student is below
        teacher and margin (and for a batch without rows).

    Raises:
        ShapeError: If rows, channels or the number of margins differ, or the sizes of what are no
            maps.

    Example:
        The teacher's -3 asks for the margin -1 only: (0 + 1)². Its 2 is met up to 1; its -0.5 lies
        above the student's -4, which costs nothing.

        >>> student = torch.tensor([[0.0, 1.0, -4.0]])
        >>> ofd_loss(student, torch.tensor([[-3.0, 2.0, -0.5]]), torch.full((3,), -1.0))
        tensor(2.)

    Source:
        Heo, Kim, Yun, Park, Kwak and Choi (2019), arXiv:1904.01866, section 3.
    """
    check_same_channels("ofd_loss", student, teacher)
    if tuple(margin.shape) != tuple(student.shape[1:2]):
        raise ShapeError(
            f"ofd_loss: expected one margin for each of {student.shape[1]} channels; got "
            f"{tuple(margin.shape)}. Give one number a channel of the teacher."
        )
    mine, theirs, margin = at_least_float32(student, teacher.detach(), margin.detach())
    mine, theirs = same_size(mine, theirs)
    goal = torch.maximum(theirs, margin.view(-1, *[1] * (mine.ndim - 2)))
    counts = (mine > goal) | (goal > 0)
    if mask is not None:
        counts = counts & mask[:, None]
    return torch.where(counts, mine - goal, 0.0).square().sum() / max(len(mine), 1)


def batch_norm_margin(
    weight: Float[Tensor, " channels"], bias: Float[Tensor, " channels"]
) -> Float[Tensor, " channels"]:
    r"""Return the margins of features that come from a batch norm, from its scale and offset.

    .. math:: m = E[x \mid x < 0] = \beta - |\gamma|
              \frac{\phi(\beta / \gamma)}{\Phi(-\beta / |\gamma|)}, \qquad
              x \sim N(\beta, \gamma^2)

    with the normal density and distribution function. It holds where the batch norm's output itself
    goes into the ReLU: not where a shortcut is added between them, and not for features that are
    far from normal.

    Args:
        weight: Scale :math:`\gamma`; a channel whose scale is zero is constant, and has the margin
            min(offset, 0).
        bias: Offset :math:`\beta`.

    Returns:
        The margins [unit of the features], at most zero. -3 times the scale where no more than one
        number in a thousand is negative, as in the authors' code.

    Raises:
        ShapeError: If the two differ in shape.

    Example:
        Half of a standard normal: -sqrt(2/pi).

        >>> batch_norm_margin(torch.tensor([1.0]), torch.tensor([0.0]))
        tensor([-0.7979])
    """
    check_same_shape("batch_norm_margin", weight=weight, bias=bias)
    scale, offset = at_least_float32(weight.detach().abs(), bias.detach())
    away = offset / torch.where(scale > 0, scale, 1.0)
    log_share = torch.special.log_ndtr(-away)
    log_density = -(away.square() + math.log(2 * math.pi)) / 2
    margin = offset - scale * (log_density - log_share).exp()
    return torch.where(log_share > math.log(RARE), margin, -FAR * scale).clamp_max(0.0)


class OFD(nn.Module):
    """:func:`ofd_loss` as a training term, with a connector and margins for each pair of layers.

    Name layers whose output goes into a ReLU. After a ReLU nothing is negative: then the margins
    are zero, and what is asked for is the ReLU's output.

    The connector is a linear map of the channels, for maps (a 1x1 convolution) without offset and
    with batch norm over the rows of all ranks. The layer l of L counts 2^(l - L + 1), l from 0.

    Margins that are not given are the mean of the negative numbers that each channel of the teacher
    has shown: those of the first batch, and from then on of all training batches, over all ranks.
    So they need no batch norm at hand, hold behind a shortcut too, where :func:`batch_norm_margin`
    doesn't, and are settled after some hundred batches.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher".
        margins: For each layer of the teacher one number a channel, at most zero, such as
            :func:`batch_norm_margin` gives; None estimates them.
        seed: Of the connectors' first weights.

    Raises:
        ArgumentError: If there are not as many margins as layers, or one is above zero.

    Note:
        The weight is that of CIFAR; for ImageNet the authors took 1e-4.

    Source:
        As :func:`ofd_loss`; the weights of layers are the authors' code, which takes the margins
        from batch norms, where the paper has the mean over all training images.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1e-3)
    mean_over_samples: ClassVar[bool] = False  # batch norm, margins

    def __init__(
        self,
        layer: Layer = STAGES,
        *,
        margins: Sequence[Tensor | Sequence[float]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layers = layer_names("OFD", layer)
        self.given = None if margins is None else [torch.as_tensor(one) for one in margins]
        if self.given is not None:
            _check_margins(self.given, len(self.layers["teacher"]))
        self.seed = seed
        self.connectors = nn.ModuleList()
        self.negatives = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make connectors and margins for the shapes of a first batch, unless there are any."""
        if len(self.connectors):
            return
        for place, pair in enumerate(pairs_of("OFD", self.layers, student, teacher, batch)):
            mean = NegativeMean(pair.teacher)
            if self.given is None:
                mean.add(pair.teacher, across_ranks=False)  # all ranks have this batch
            else:
                mean.fix(pair.where, self.given[place])
            self.negatives.append(mean)
            self.connectors.append(self._connector(pair, place))
            self.channels.append((pair.student.shape[1], pair.teacher.shape[1]))

    def _connector(self, pair: Pair, place: int) -> nn.Module:
        inputs, outputs = pair.student.shape[1], pair.teacher.shape[1]
        maps, key = pair.student.ndim == 4, (self.seed, "ofd", place)
        linear = pointwise(inputs, outputs, pair.student, *key, bias=not maps)
        return nn.Sequential(linear, BatchNorm(outputs, pair.student)) if maps else linear

    def margins(self) -> list[Tensor]:
        """Return the margin of every channel, for each layer of the teacher."""
        return [cast(NegativeMean, known).mean.clone() for known in self.negatives]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the weighted sum over layers; targets are not used."""
        pairs = pairs_of("OFD", self.layers, student, teacher, batch)
        prepared("OFD", self.connectors, pairs)
        total = pairs[0].student.new_zeros(())
        for place, pair in enumerate(check_channels(pairs, self.channels)):
            known = cast(NegativeMean, self.negatives[place])
            if self.training and self.given is None:
                known.add(pair.teacher)
            mine = connected(self.connectors[place], pair.student)
            value = ofd_loss(mine, pair.teacher, known.mean, mask=pair.mask)
            total = total + 2.0 ** (place + 1 - len(pairs)) * value
        return share_of_batch(total, len(pairs[0].student))


class NegativeMean(nn.Module):
    """The mean of the negative numbers of every channel, of all batches so far; zero without any.

    Args:
        like: Features [batch, channels, *positions], of whose channels and device it is.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        (like,) = at_least_float32(like.detach())
        self.register_buffer("mean", like.new_zeros(like.shape[1]))
        self.register_buffer("count", like.new_zeros(like.shape[1]))

    @torch.no_grad()
    def add(self, features: Tensor, *, across_ranks: bool = True) -> None:
        """Take a batch in; padded tokens are zero and so do not count."""
        below = features < 0
        axes = [axis for axis in range(features.ndim) if axis != 1]
        found = torch.stack([below.to(features.dtype).sum(axes), features.clamp_max(0.0).sum(axes)])
        number, total = (sum_over_ranks(found) if across_ranks else found).to(self.mean.dtype)
        self.count += number
        self.mean += (total - number * self.mean) / self.count.clamp_min(1.0)

    def fix(self, where: str, margin: Tensor) -> None:
        """Take the margins that were given; raise ShapeError unless there is one a channel."""
        if margin.shape != self.mean.shape:
            raise ShapeError(
                f"{where}: expected one margin for each of {len(self.mean)} channels of the "
                f"teacher; got {tuple(margin.shape)}. Give one number a channel."
            )
        self.mean.copy_(margin.detach())


def _check_margins(margins: Sequence[Tensor], layers: int) -> None:
    if len(margins) != layers:
        raise ArgumentError(
            f"OFD: expected margins for each of {layers} layers; got {len(margins)}. Give a list "
            "of numbers for each layer of the teacher."
        )
    if not all(bool((one <= 0).all()) and bool(one.isfinite().all()) for one in margins):
        raise ArgumentError(
            "OFD: expected finite margins at most zero; got some that are not. A margin is the "
            "mean of the negative features, see batch_norm_margin."
        )
