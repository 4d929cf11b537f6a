"""Flow of the solution procedure (FSP): how one layer's channels go with the next one's."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses.connectors import (
    STAGES,
    Layer,
    check_channels,
    connected,
    layer_names,
    mean_of_samples,
    pairs_of,
    pointwise,
    prepared,
    same_size,
)
from limbeck.losses.numerics import at_least_float32, without_autocast
from limbeck.losses.prestage import PreStage
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


def fsp_matrix(
    first: Float[Tensor, "batch first_channels *positions"],
    second: Float[Tensor, "batch second_channels *other_positions"],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch first_channels second_channels"]:
    r"""Return the products of two layers' channels, averaged over positions.

    .. math:: G_{iab} = \frac{1}{n} \sum_p f_{iap} \, g_{ibp}

    Args:
        first: Features f of one layer.
        second: Features g of a later layer of the same network. Of two maps of unlike size the
            larger is average-pooled to the smaller.
        mask: Which tokens count, for features [batch, channels, tokens]; a sample without any
            gives zeros.

    Returns:
        One matrix a sample [product of the features' units], in float32 at least.

    Raises:
        ShapeError: If rows or kinds differ, or the sizes of what are no maps.

    Example:
        >>> import torch
        >>> fsp_matrix(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 4.0], [0.0, 1.0]]]))
        tensor([[[7.0000, 1.5000]]])
    """
    if first.ndim != second.ndim or first.ndim < 2 or len(first) != len(second):
        raise ShapeError(
            "fsp_matrix: expected features of the same rows and of one kind; got "
            f"{tuple(first.shape)} and {tuple(second.shape)}. Choose layers of one kind."
        )
    one, two = same_size(*at_least_float32(first, second))
    if mask is not None:
        one = one.masked_fill(~mask[:, None], 0.0)
        two = two.masked_fill(~mask[:, None], 0.0)  # padding may be NaN
    one, two = (side.reshape(*side.shape[:2], side[:1, :1].numel()) for side in (one, two))
    with without_autocast(one):
        products = one @ two.transpose(1, 2)
    if mask is None:
        return products / max(one.shape[2], 1)
    return products / mask.sum(dim=1).clamp_min(1)[:, None, None]


def fsp_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    r"""Let the student's channels go from layer to layer as the teacher's do.

    .. math:: \frac{1}{b\,C\,D} \sum_{i,a,b} (G^S_{iab} - G^T_{iab})^2

    with the matrices C x D of :func:`fsp_matrix`. They do not depend on the positions, so that the
    two networks' maps may differ in size.

    Args:
        student: Features [batch, channels, *positions] of two layers of the student, the earlier
            first; gradients flow into these.
        teacher: Of two layers of the teacher, of as many channels; detached here.
        mask: Which tokens count, for features [batch, channels, tokens].

    Returns:
        The batch mean of the squared error [fourth power of the features' unit, no nats], at least
        zero; zero where the matrices agree (and for a batch without rows).

    Raises:
        ShapeError: If the matrices differ in shape, or :func:`fsp_matrix` refuses a pair.

    Example:
        2 · 3 against 1 · 4.

        >>> import torch
        >>> two, three, one, four = (torch.tensor([[x]]) for x in (2.0, 3.0, 1.0, 4.0))
        >>> fsp_loss((two, three), (one, four))
        tensor(4.)

    Source:
        Yim, Joo, Bae and Kim (2017), CVPR, equations 1 and 2; the mean over entries is that of the
        code of the CRD set-up, arXiv:1910.10699, where the paper has the squared norm.
    """
    mine = fsp_matrix(*student, mask=mask)
    theirs = fsp_matrix(teacher[0].detach(), teacher[1].detach(), mask=mask)
    if mine.shape != theirs.shape:
        raise ShapeError(
            f"fsp_loss: expected matrices of one shape; got student {tuple(mine.shape)}, teacher "
            f"{tuple(theirs.shape)}. Bring the student's features to the teacher's channels."
        )
    mine, theirs = at_least_float32(mine, theirs)
    return mean_of_samples((mine - theirs).square())


class FSP(PreStage):
    """:func:`fsp_loss` of every two layers that follow each other, summed, in the first epochs.

    Where the channels of a layer differ, a linear map of the channels (a 1x1 convolution) without
    offset brings the student's to the teacher's; the paper has networks of equal channels only.

    Args:
        layer: At least two layers, from the input on: for both sides, or a dict of these for
            "student" and "teacher".
        share: Share of the run's epochs in which the term holds; at least one epoch. Afterwards the
            task is learnt alone.
        seed: Of the linear maps' first weights.

    Raises:
        ArgumentError: If the layers are not in pairs or fewer than two, or ``share`` is not between
            0 and 1.

    Note:
        In the paper the first stage is on this term alone. To have that, distil with
        ``FSP(share=1.0)`` and ``weight=1.0``, which takes no task term, and train the student that
        comes out without a teacher. In one run the task term stands beside it from the start.

    Source:
        As :func:`fsp_loss`. The CRD set-up has 30 epochs of the first stage before 240 of the
        second, hence the share; its weight 50 multiplies nothing there, but does here. It takes the
        stem's output and those of all stages.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 50.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, layer: Layer = STAGES, *, share: float = 0.125, seed: int = 0) -> None:
        super().__init__("FSP", share)
        self.layers = layer_names("FSP", layer)
        if len(self.layers["student"]) < 2:
            raise ArgumentError(
                f"FSP: expected at least two layers of each side; got "
                f"{', '.join(self.layers['student'])}. It compares how one goes with the next."
            )
        self.seed = seed
        self.connectors = nn.ModuleList()
        self.channels: list[tuple[int, int]] = []

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the linear maps that a first batch shows to be needed, unless there are any."""
        if len(self.connectors):
            return
        for place, pair in enumerate(pairs_of("FSP", self.layers, student, teacher, batch)):
            sizes = pair.student.shape[1], pair.teacher.shape[1]
            key = self.seed, "fsp", place
            self.connectors.append(
                nn.Identity()
                if sizes[0] == sizes[1]
                else pointwise(*sizes, pair.student, *key, bias=False)
            )
            self.channels.append(sizes)

    def term(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the sum over neighbouring layers; targets are not used."""
        pairs = pairs_of("FSP", self.layers, student, teacher, batch)
        prepared("FSP", self.connectors, pairs)
        known = list(check_channels(pairs, self.channels))
        mine = [connected(c, pair.student) for c, pair in zip(self.connectors, known, strict=True)]
        theirs = [pair.teacher for pair in known]
        total = mine[0].new_zeros(())
        for one, two in zip(pairwise(mine), pairwise(theirs), strict=True):
            total = total + fsp_loss(one, two, mask=known[0].mask)
        return share_of_batch(total, len(mine[0]))
