"""Class attention transfer (CAT-KD): where in the image each class is seen."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError, check_positive
from limbeck.losses.connectors import (
    SIDES,
    STAGES,
    Layer,
    Pair,
    layer_names,
    mean_of_samples,
    pairs_of,
)
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32, unit_rows, without_autocast
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


CLOSE = 0.05  # share of the largest logit by which narrow floats may miss a linear map


def class_activation_maps(
    features: Float[Tensor, "batch channels height width"],
    weight: Float[Tensor, "classes channels"],
) -> Float[Tensor, "batch classes height width"]:
    r"""Return the map :math:`\sum_c W_{kc} f_{cp}` of every class k: its evidence at position p.

    Averaged over the positions it is the class's logit, without the offset, of a network that ends
    in global average pooling and a linear layer W.

    Example:
        >>> class_activation_maps(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[3.0], [-1.0]]))
        tensor([[[[ 3.,  6.]],
        <BLANKLINE>
                 [[-1., -2.]]]])
    """
    features, weight = at_least_float32(features, weight)
    with without_autocast(features):
        return torch.einsum("bchw,kc->bkhw", features, weight)


def class_attention_loss(
    student: Float[Tensor, "batch classes height width"],
    teacher: Float[Tensor, "batch classes other_height other_width"],
    *,
    size: int = 2,
    normalise: bool = True,
) -> Float[Tensor, ""]:
    r"""Let the student see every class where the teacher sees it.

    .. math:: \frac{1}{b\,K\,r^2} \sum_{i,k,p} (q^S_{ikp} - q^T_{ikp})^2, \qquad
              q_{ik} = \frac{\phi(A_{ik})}{\|\phi(A_{ik})\|}

    with the class activation map :math:`A_{ik}` of class k of K, and :math:`\phi`, which averages a
    map to r x r positions p.

    Args:
        student: The student's class activation maps; gradients flow into these.
        teacher: The teacher's, of any height and width; detached here.
        size: Positions r of a side that both are averaged to, at least 1.
        normalise: Whether maps are divided by their length over the positions. The authors' code
            does so where student and teacher are of unlike architecture.

    Returns:
        The batch mean [no unit, no nats; squared logits without ``normalise``], at least zero, and
        with ``normalise`` at most 4/r^2; zero where both see every class at the same places (and
        for a batch without rows). A map that is zero everywhere has q = 0.

    Raises:
        ShapeError: If the two are no maps, or rows or classes differ.
        ArgumentError: If ``size`` is below 1.

    Example:
        Two positions are seen alike, and two the other way round, at length 2: (1 + 1)/4.

        >>> student = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]]])
        >>> class_attention_loss(student, torch.tensor([[[[5.0, -5.0], [5.0, -5.0]]]]))
        tensor(0.5000)

    Source:
        Guo, Yan, Li and Lin (2023), arXiv:2304.12777; the mean over positions is that of the
        authors' code (GzyAftermath/CAT-KD), where the text has their sum.
    """
    _check_maps("class_attention_loss", student, teacher)
    check_positive("class_attention_loss", size=size)
    mine, theirs = (
        F.adaptive_avg_pool2d(maps, size) for maps in at_least_float32(student, teacher.detach())
    )
    if normalise:
        mine, theirs = (
            unit_rows(maps.flatten(2).flatten(0, 1)).view_as(maps) for maps in (mine, theirs)
        )
    return mean_of_samples((mine - theirs).square())


class CATKD(nn.Module):
    """:func:`class_attention_loss` as a training term on the last map of each network.

    The class activation maps are the last map times the weights of the linear layer behind global
    average pooling. The student's are its own, so that the loss trains them too. Where they are
    from, for each side, is settled in :meth:`prepare`:

    - of the network given to :meth:`attach`, as the training loop does, the linear layer whose
      output at the averaged map is the logits;
    - for a teacher without a module ``teacher_weight``;
    - none where the layer gives class activation maps already: it has a channel a class, and their
      means are the logits, up to an offset;
    - for a side that nothing is known of, the least squares fit of the logits of the first batch.
      The teacher's rests; the student's is trained, but apart from its true classifier. Call
      :meth:`attach` in a loop of your own to avoid it.

    Args:
        layer: Layer of both sides, or a dict of one each for "student" and "teacher": the map that
            global average pooling averages.
        size: As in the function.
        normalise: As in the function.
        teacher_weight: Weights [classes, channels] of the classifier of a teacher that is no
            module, such as a store of outputs.
    """

    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"classification"})
    published_weights: ClassVar[tuple[float, float]] = (1.0, 400.0)
    mean_over_samples: ClassVar[bool] = True
    teacher_weight: Tensor | None
    student_weight: Tensor | None

    def __init__(
        self,
        layer: Layer = STAGES[-1],
        *,
        size: int = 2,
        normalise: bool = True,
        teacher_weight: Float[Tensor, "classes channels"] | None = None,
    ) -> None:
        super().__init__()
        check_positive("CATKD", size=size)
        self.layers = layer_names("CATKD", layer, one=True)
        self.size, self.normalise = size, normalise
        given = None if teacher_weight is None else teacher_weight.detach().clone()
        self.register_buffer("teacher_weight", given)
        self.register_parameter("student_weight", None)
        # In dicts: as attributes they would be registered, and the student's weights be ours.
        self.networks: dict[str, nn.Module] = {}
        self.classifiers: dict[str, nn.Linear] = {}
        self.sources: dict[str, str] = {}

    def attach(self, student: nn.Module, teacher: nn.Module | None = None) -> None:
        """Tell the loss the two networks before it is prepared; they stay the caller's.

        Args:
            student: The network that is trained.
            teacher: The teacher, where it is a module.
        """
        self.networks = {"student": student}
        if teacher is not None:
            self.networks["teacher"] = teacher

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Settle on a first batch where the class activation maps come from, unless it is.

        Raises:
            ArgumentError: If the logits of an attached network are no linear map of the averaged
                layer, or the batch has too few rows to fit one.
            ShapeError: If the layers give no maps, or ``teacher_weight`` does not fit.
        """
        if self.sources:
            return
        logits, pair = logits_of("CATKD", student, teacher), self._pair(student, teacher, batch)
        found = {}
        for side, maps, said in zip(SIDES, (pair.student, pair.teacher), logits, strict=True):
            found[side] = self._settle(side, maps.detach(), said.detach().to(maps))
        self.sources = found
        self.networks = {}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        if not self.sources:
            raise ArgumentError(
                "CATKD: expected to know the classifiers; got a loss that is not prepared. Call "
                "`attach(student, teacher)` and `prepare(student, teacher, batch)` before the "
                "optimiser is made."
            )
        pair = self._pair(student, teacher, batch)
        mine, theirs = self._seen("student", pair.student), self._seen("teacher", pair.teacher)
        value = class_attention_loss(mine, theirs, size=self.size, normalise=self.normalise)
        return share_of_batch(value, len(mine))

    def _pair(self, student: Outputs, teacher: Outputs, batch: Batch) -> Pair:
        (pair,) = pairs_of("CATKD", self.layers, student, teacher, batch)
        if pair.student.ndim != 4:
            raise ShapeError(
                f"{pair.where}: expected maps [batch, channels, height, width]; got none. Choose "
                "the layer before global average pooling with `layer=`."
            )
        return pair

    def _seen(self, side: str, features: Tensor) -> Tensor:
        # Averaged first: it is linear too, and leaves fewer positions.
        small = F.adaptive_avg_pool2d(features, self.size)
        source = self.sources[side]
        if source == "classifier":
            return class_activation_maps(small, self.classifiers[side].weight)
        weight = self.student_weight if side == "student" else self.teacher_weight
        return small if source == "maps" or weight is None else class_activation_maps(small, weight)

    def _settle(self, side: str, maps: Tensor, logits: Tensor) -> str:
        means, classes = maps.mean(dim=(2, 3)), logits.shape[1]
        network = self.networks.get(side)
        for part in () if network is None else network.modules():
            shape = (classes, means.shape[1])
            if isinstance(part, nn.Linear) and tuple(part.weight.shape) == shape:
                offset = 0.0 if part.bias is None else part.bias.detach().to(means)  # pyright: ignore[reportUnnecessaryComparison]
                if _close(means @ part.weight.detach().to(means).T + offset, logits):
                    self.classifiers[side] = part
                    return "classifier"
        if side == "teacher" and self.teacher_weight is not None:
            if tuple(self.teacher_weight.shape) != (classes, means.shape[1]):
                raise ShapeError(
                    f"CATKD: expected `teacher_weight` of shape {(classes, means.shape[1])}; got "
                    f"{tuple(self.teacher_weight.shape)}. Give the weights of the teacher's "
                    "classifier."
                )
            self.teacher_weight = self.teacher_weight.to(means)
            return "given"
        centred, goal = means - means.mean(dim=0), logits - logits.mean(dim=0)
        if means.shape[1] == classes and _close(centred, goal):
            return "maps"
        if network is not None or len(means) <= means.shape[1]:
            raise ArgumentError(self._unknown(side, maps, network))
        weight = (torch.linalg.pinv(centred.double()) @ goal.double()).T.contiguous().to(means)
        if side == "student":
            self.student_weight = nn.Parameter(weight)
        else:
            self.teacher_weight = weight
        return "fitted"

    def _unknown(self, side: str, maps: Tensor, network: nn.Module | None) -> str:
        where = f"CATKD: {side} {self.layers[side][0]!r} {tuple(maps.shape)}"
        if network is None:
            return (
                f"{where}: expected more rows than channels, to fit the classifier of a network "
                "that is not known. Call `attach(student, teacher)` first, or give "
                "`teacher_weight`."
            )
        return (
            f"{where}: expected a linear layer of {type(network).__name__} whose output at this "
            "map, averaged over its positions, is the logits; got none. Choose the layer before "
            "global average pooling with `layer=`; if the network ends otherwise, use at or fitnet."
        )


def _close(one: Tensor, two: Tensor) -> bool:
    return bool((one - two).abs().max() <= CLOSE * two.abs().max())


def _check_maps(where: str, student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[:2] != teacher.shape[:2]:
        raise ShapeError(
            f"{where}: expected maps [batch, classes, height, width] of the same rows and classes; "
            f"got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. Turn features "
            "into maps of classes with `class_activation_maps`."
        )
