"""Activation boundaries (AB): the student's neurons on the side of zero where the teacher's are."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import check_positive
from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    check_channels,
    check_same_channels,
    connected,
    layer_names,
    pairs_of,
    prepared,
    regressor,
    same_size,
)
from limbeck.losses.numerics import at_least_float32
from limbeck.losses.prestage import PreStage
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


SCALE = 3e-3  # of the sum over entries, in the authors' code


def activation_boundary_loss(
    student: Float[Tensor, "batch channels *positions"],
    teacher: Float[Tensor, "batch channels *other_positions"],
    *,
    margin: float = 1.0,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Bring the student's features to the teacher's side of zero, by a margin.

    .. math:: \frac{1}{b} \sum_{i,c,p} \max(0, \mu - r_{icp} \, s_{icp})^2, \qquad
              r = \begin{cases} 1 & t > 0 \\ -1 & t \le 0 \end{cases}

    over samples i, channels c and positions p. Only the teacher's signs count, so it matters
    little whether its features are taken before or after a ReLU.

    Args:
        student: The student's features s after the connector, before a ReLU; gradients flow into
            these.
        teacher: The teacher's features t; detached here. Of two maps of unlike size the larger is
            average-pooled to the smaller.
        margin: :math:`\mu`, above zero: how far from zero the student is asked to be.
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The sum over a sample's entries, averaged over samples [squared unit of the student's
        features, no nats], at least zero; zero where every entry is on the teacher's side by the
        margin (and for a batch without rows).

    Raises:
        ShapeError: If rows or channels differ, or the sizes of what are no maps.
        ArgumentError: If ``margin`` is not above zero.

    Example:
        3 is far enough on the right side; 0.5 is on the wrong one, by 1.5.

        >>> activation_boundary_loss(torch.tensor([[3.0, 0.5]]), torch.tensor([[0.2, -7.0]]))
        tensor(2.2500)

    Source:
        Heo, Lee, Yun and Choi (2019), arXiv:1811.03233, the alternative loss.
    """
    check_positive("activation_boundary_loss", margin=margin)
    check_same_channels("activation_boundary_loss", student, teacher)
    mine, theirs = same_size(*at_least_float32(student, teacher.detach()))
    short = torch.relu(margin - torch.where(theirs > 0, mine, -mine))
    if mask is not None:
        short = short.masked_fill(~mask[:, None], 0.0)
    return short.square().sum() / max(len(mine), 1)


class AB(PreStage):
    """:func:`activation_boundary_loss` with a connector for each pair of layers, in first epochs.

    The connector of maps is a convolution and batch norm over the rows of all ranks; that of
    vectors and token states is linear. The layer l of L counts 2^(l - L + 1), l from 0, and all are
    multiplied by 3/1000.

    Args:
        layer: Layer of both sides, several, or a dict of these for "student" and "teacher"; those
            before a ReLU are meant.
        margin: As in the function.
        share: Share of the run's epochs in which the term holds; at least one epoch. Afterwards the
            task is learnt alone.
        seed: Of the connectors' first weights.

    Raises:
        ArgumentError: If the layers are not in pairs, ``margin`` is not above zero or ``share`` is
            not between 0 and 1.

    Note:
        In the paper the first stage is on this term alone. To have that, distil with
        ``AB(share=1.0)`` and ``weight=1.0``, which takes no task term, and train the student that
        comes out without a teacher. In one run the task term stands beside it from the start.

    Source:
        As :func:`activation_boundary_loss`; the factors are the authors' code. The CRD set-up,
        arXiv:1910.10699, has 30 epochs of the first stage before 240 of the second, hence the
        share, and no connector where the shapes agree.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = False  # batch norm

    def __init__(
        self, layer: Layer = STAGES, *, margin: float = 1.0, share: float = 0.125, seed: int = 0
    ) -> None:
        super().__init__("AB", share)
        check_positive("AB", margin=margin)
        self.layers = layer_names("AB", layer)
        self.margin, self.seed = margin, seed
        self.connectors = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the connectors for the shapes of a first batch, unless there are any."""
        if len(self.connectors):
            return
        for place, pair in enumerate(pairs_of("AB", self.layers, student, teacher, batch)):
            steps: list[nn.Module] = [regressor(pair, self.seed, "ab", place)]
            if pair.student.ndim == 4:
                steps.append(BatchNorm(pair.teacher.shape[1], pair.student))
            self.connectors.append(nn.Sequential(*steps))
            self.channels.append((pair.student.shape[1], pair.teacher.shape[1]))

    def term(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the weighted sum over layers; targets are not used."""
        pairs = pairs_of("AB", self.layers, student, teacher, batch)
        prepared("AB", self.connectors, pairs)
        total = pairs[0].student.new_zeros(())
        for place, pair in enumerate(check_channels(pairs, self.channels)):
            mine = connected(self.connectors[place], pair.student)
            value = activation_boundary_loss(mine, pair.teacher, margin=self.margin, mask=pair.mask)
            total = total + SCALE * 2.0 ** (place + 1 - len(pairs)) * value
        return share_of_batch(total, len(pairs[0].student))
