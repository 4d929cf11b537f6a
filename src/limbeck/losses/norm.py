"""N-to-one representation matching (NORM)."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import ShapeError, check_positive
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    STAGES,
    Layer,
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


def n_to_one_loss(
    student: Float[Tensor, "batch n_times_channels *positions"],
    teacher: Float[Tensor, "batch channels *other_positions"],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Bring each of N segments of the student's expanded features to the whole of the teacher's.

    .. math:: \frac{1}{b\,n} \sum_{s=1}^{N} \sum_{i,k} (f^S_{s,ik} - f^T_{ik})^2

    with n entries a sample of the teacher's, of all channels and positions, and :math:`f^S_s`, the
    s-th run of as many channels as the teacher has.

    Args:
        student: The student's features after the expansion to N times the teacher's channels;
            gradients flow into these.
        teacher: The teacher's features; detached here. Of two maps of unlike size the larger is
            average-pooled to the smaller (:func:`limbeck.losses.connectors.same_size`).
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The sum of N mean squared errors [squared unit of the features, no nats], at least zero;
        zero when every segment agrees (and for a batch without rows).

    Raises:
        ShapeError: If the student's channels are no multiple of the teacher's, rows differ, or the
            sizes of what are no maps.

    Example:
        Two segments (1, 3) and (0, 2) of two channels: (1 + 9)/2 + (0 + 4)/2.

        >>> import torch
        >>> n_to_one_loss(torch.tensor([[1.0, 3.0, 0.0, 2.0]]), torch.zeros(1, 2))
        tensor(7.)

    Source:
        Liu, Li, Li and Yao (2023), arXiv:2305.13803. Their code (OSVAI/NORM) pools the larger map
        by the maximum; it has the same factor N on the mean over all segments.
    """
    if (
        student.ndim != teacher.ndim
        or student.ndim < 2
        or teacher.shape[1] == 0
        or student.shape[1] % teacher.shape[1]
    ):
        raise ShapeError(
            "n_to_one_loss: expected a multiple of the teacher's channels; got student "
            f"{tuple(student.shape)}, teacher {tuple(teacher.shape)}. Expand the student's "
            "features to N times the teacher's channels."
        )
    copies = student.shape[1] // teacher.shape[1]
    mine, theirs = same_size(*at_least_float32(student, teacher.detach()))
    tiled = theirs.repeat(1, copies, *[1] * (theirs.ndim - 2))
    check_same_channels("n_to_one_loss", mine, tiled)
    return copies * mean_of_samples((mine - tiled).square(), mask)


class NORM(nn.Module):
    """:func:`n_to_one_loss` as a training term that owns the expansion for each pair of layers.

    The expansion is linear: a map of the channels to N times the teacher's (a 1x1 convolution),
    for maps and vectors with batch norm over the rows of all ranks.

    A loss cannot change what the student computes. So the second half of the paper's feature
    transform is not here: there the expanded features are contracted again, added to the student's
    last map and classified, and after training both halves are merged into the classifier. Nor are
    the weight's steps (0.1, 0.5, 1, 0.5, 0.1 from epoch 0, 10, 20, 180, 210 of 240) and the logits
    standardised and multiplied by 2.5 before the cross-entropy.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher"; the
            last convolution's in the paper.
        copies: Number N of segments, at least 1; 8 in the scripts for CIFAR-100.
        seed: Of the expansions' first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    # The task's is searched in 1/16, 1/8, 1/4 and 1/2, pair by pair.
    published_weights: ClassVar[tuple[float, float]] = (0.25, 1.0)
    mean_over_samples: ClassVar[bool] = False  # batch norm

    def __init__(self, layer: Layer = STAGES[-1], *, copies: int = 8, seed: int = 0) -> None:
        super().__init__()
        check_positive("NORM", copies=copies)
        self.layers = layer_names("NORM", layer)
        self.copies, self.seed = copies, seed
        self.expansions = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the expansions for the shapes of a first batch, unless there are any."""
        if len(self.expansions):
            return
        for place, pair in enumerate(pairs_of("NORM", self.layers, student, teacher, batch)):
            mine, wide = pair.student, self.copies * pair.teacher.shape[1]
            tokens = mine.ndim == 3  # the padded ones would enter batch norm
            key = self.seed, "norm", place
            steps: list[nn.Module] = [pointwise(mine.shape[1], wide, mine, *key, bias=tokens)]
            if not tokens:
                steps.append(BatchNorm(wide, mine))
            self.expansions.append(nn.Sequential(*steps))
            self.channels.append((mine.shape[1], pair.teacher.shape[1]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over layers; targets are not used."""
        pairs = pairs_of("NORM", self.layers, student, teacher, batch)
        prepared("NORM", self.expansions, pairs)
        total = pairs[0].student.new_zeros(())
        for pair, step in zip(check_channels(pairs, self.channels), self.expansions, strict=True):
            wide = connected(step, pair.student)
            total = total + n_to_one_loss(wide, pair.teacher, mask=pair.mask)
        return share_of_batch(total, len(pairs[0].student))
