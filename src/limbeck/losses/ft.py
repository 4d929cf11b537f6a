"""Factor transfer (FT): the teacher's features in fewer channels, as the student's goal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError, check_between
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    Layer,
    Pair,
    check_channels,
    connected,
    layer_names,
    mean_of_samples,
    pairs_of,
    prepared,
    same_size,
    seeded,
)
from limbeck.losses.filters import resting
from limbeck.losses.numerics import at_least_float32, unit_rows
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


SLOPE = 0.1  # of the leaky ReLU


def factor_transfer_loss(
    student: Float[Tensor, "batch student_channels height width"],
    teacher: Float[Tensor, "batch teacher_channels other_height other_width"],
    *,
    per_channel: bool = False,
) -> Float[Tensor, ""]:
    r"""Bring the student's factors to the teacher's.

    .. math:: \frac{1}{b\,n} \sum_{i,p} |q^S_{ip} - q^T_{ip}|, \qquad
              q_i = \frac{a_i}{\|a_i\|}, \qquad a_{ip} = \frac{1}{C} \sum_c f_{icp}^2

    with n positions p.

    Args:
        student: The student's factors f, what the translator makes of its maps; gradients flow into
            these.
        teacher: The teacher's factors, what the paraphraser makes of its maps; detached here. Of
            two maps of unlike size the larger is average-pooled to the smaller.
        per_channel: Compare the factors themselves, :math:`a_i = f_i` with all channels, as the
            paper does; then the channels must agree.

    Returns:
        The batch mean of one entry's difference [no unit, no nats], in [0, 2/sqrt(n)]; zero where
        both agree up to a factor for each sample (and for a batch without rows). A sample that is
        zero everywhere has q = 0.

    Raises:
        ShapeError: If the features are no maps, or rows or, per channel, channels differ.

    Example:
        Each side is active at one of two positions, not the same: (1 + 1)/2.

        >>> import torch
        >>> student, teacher = torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, -1.0]]]])
        >>> factor_transfer_loss(student, teacher)
        tensor(1.)

    Source:
        Kim, Park and Kwak (2018), arXiv:1802.04977, equation 3 with p = 1. The paper and its code
        take the factors as they are (weight 500); the mean of their squares is that of the CRD
        set-up's code, arXiv:1910.10699 (weight 200).
    """
    alike = student.shape[:2] == teacher.shape[:2] if per_channel else len(student) == len(teacher)
    if student.ndim != 4 or teacher.ndim != 4 or not alike:
        raise ShapeError(
            "factor_transfer_loss: expected maps [batch, channels, height, width] of the same rows"
            f"{' and channels' if per_channel else ''}; got student {tuple(student.shape)}, "
            f"teacher {tuple(teacher.shape)}. Choose layers that are not pooled."
        )
    sides = same_size(*at_least_float32(student, teacher.detach()))
    mine, theirs = (
        unit_rows((side if per_channel else side.square().mean(dim=1)).flatten(1)) for side in sides
    )
    return mean_of_samples((mine - theirs).abs())


class FT(nn.Module):
    """:func:`factor_transfer_loss` as a training term, in two stages that the training loop runs.

    In the first epochs a paraphraser for each layer, an autoencoder of the teacher's maps, learns
    to give them back from fewer channels, by the mean squared error; the student rests. Then it
    rests, and the student learns together with a translator, which brings its maps to the
    paraphraser's factors. Encoder, decoder and translator are three 3x3 convolutions (the decoder's
    transposed) with leaky ReLUs, in the translator behind batch norms over the rows of all ranks.

    Args:
        layer: Layer of both sides with maps, several, or a dict of these for "student" and
            "teacher"; values are summed over layers.
        rate: Channels of the factors for one of the teacher's, k in the paper, rounded down; above
            zero.
        share: Share of the run's epochs in which the paraphraser learns; at least one epoch.
        per_channel: As in the function; the weight of the paper's code is 500.
        seed: Of the first weights.

    Raises:
        ArgumentError: If the layers are not in pairs, or a number is out of range.

    Note:
        Learning rate and schedule of the paraphraser are the run's, where the CRD set-up has 0.01
        for some networks. The paper trains the paraphraser by the absolute error.

    Source:
        As :func:`factor_transfer_loss`. The CRD set-up has 30 epochs of the first stage before 240
        of the second, hence the share.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 200.0)
    mean_over_samples: ClassVar[bool] = False  # batch norm

    def __init__(
        self,
        layer: Layer = "layer3",
        *,
        rate: float = 0.5,
        share: float = 0.125,
        per_channel: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_between("FT", 0.0, 1.0, share=share)
        if not 0 < rate < math.inf:
            raise ArgumentError(f"FT: expected `rate` > 0; got {rate}.")
        self.layers = layer_names("FT", layer)
        self.rate, self.share, self.per_channel, self.seed = rate, share, per_channel, seed
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.translators = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make paraphrasers and translators for the shapes of a first batch, unless there are."""
        if len(self.translators):
            return
        for place, pair in enumerate(self._pairs(student, teacher, batch)):
            inputs, wide = pair.student.shape[1], pair.teacher.shape[1]
            few = max(int(self.rate * wide), 1)
            made = {"like": pair.student, "key": (self.seed, "ft", place)}
            self.encoders.append(_convolutions("encoder", (wide, wide, few, few), **made))
            self.decoders.append(_convolutions("decoder", (few, few, wide, wide), **made))
            self.translators.append(_convolutions("translator", (inputs, inputs, few, few), **made))
            self.channels.append((inputs, wide))

    def auxiliary_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the first stage trains: the paraphrasers."""
        yield from self.encoders.parameters()
        yield from self.decoders.parameters()

    def main_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the second stage trains beside the student: the translators."""
        yield from self.translators.parameters()

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Return whether an epoch, counted from 0, belongs to the first stage."""
        return epoch < max(math.floor(epochs * self.share), 1)

    def auxiliary_loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the paraphrasers' mean squared errors, summed over layers."""
        pairs = self._checked(student, teacher, batch)
        total = pairs[0].student.new_zeros(())
        for place, pair in enumerate(pairs):
            again = connected(self.decoders[place], connected(self.encoders[place], pair.teacher))
            total = total + mean_of_samples((again - pair.teacher).square())
        return share_of_batch(total, len(pairs[0].student))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = self._checked(student, teacher, batch)
        total = pairs[0].student.new_zeros(())
        for place, pair in enumerate(pairs):
            with resting(self.encoders[place]):
                goal = connected(self.encoders[place], pair.teacher)
            mine = connected(self.translators[place], pair.student)
            total = total + factor_transfer_loss(mine, goal, per_channel=self.per_channel)
        return share_of_batch(total, len(pairs[0].student))

    def _checked(self, student: Outputs, teacher: Outputs, batch: Batch) -> list[Pair]:
        pairs = self._pairs(student, teacher, batch)
        prepared("FT", self.translators, pairs)
        return list(check_channels(pairs, self.channels))

    def _pairs(self, student: Outputs, teacher: Outputs, batch: Batch) -> list[Pair]:
        pairs = pairs_of("FT", self.layers, student, teacher, batch)
        for pair in pairs:
            if pair.student.ndim != 4:
                raise ShapeError(
                    f"{pair.where}: expected maps [batch, channels, height, width]. Choose layers "
                    "that are not pooled with `layer=`."
                )
        return pairs


def _convolutions(
    part: str, widths: tuple[int, ...], *, like: Tensor, key: tuple[int | str, ...]
) -> nn.Sequential:
    kind = nn.ConvTranspose2d if part == "decoder" else nn.Conv2d
    steps: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(widths)):
        made = {"like": like, "key": (*key, part, place), "bias": part != "translator"}
        steps.append(seeded(kind, inputs, outputs, 3, 1, 1, **made))
        # Its offset makes up for the convolution's, which would never be trained.
        steps += [BatchNorm(outputs, like)] if part == "translator" else []
        steps.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*steps)
