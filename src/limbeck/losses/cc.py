"""Correlation congruence (CC) of neighbouring samples."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import check_positive, check_same_rows, check_same_shape
from limbeck.losses.connectors import Layer, layer_names, pooled_pairs
from limbeck.losses.embeddings import Embeddings
from limbeck.losses.numerics import at_least_float32
from limbeck.losses.whole_batch import all_rows
from limbeck.types import Batch, Outputs


def correlation_congruence_loss(
    student: Float[Tensor, "batch width"],
    teacher: Float[Tensor, "batch width"],
    *,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Let the student not err in the same features for one sample and the next.

    .. math:: \frac{1}{b - 1} \sum_{i < b} \sum_k \Delta_{ik} \Delta_{i+1,k}, \qquad
              \Delta = |s - t|

    Neighbours are the rows that follow each other in the batch, so its order matters.

    Args:
        student: The student's embedded features; gradients flow into these.
        teacher: The teacher's embedded features. Gradients flow into these as well, as both
            embeddings are trained: detach the features before they are embedded.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``, in the
            order of ranks; all of them must call. Averaged over them, value and gradient are those
            of the whole batch.

    Returns:
        The loss of the batch [squared unit of the embeddings, no nats], at least zero; zero where
        of any two neighbours one agrees in every feature (and for fewer than two rows).

    Raises:
        ShapeError: If the two are no matrices of one shape.

    Example:
        The differences are (1, 2) and (3, 4): 1 · 3 + 2 · 4.

        >>> import torch
        >>> correlation_congruence_loss(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2))
        tensor(11.)

    Source:
        The term that is run under this name in the CRD set-up, arXiv:1910.10699. It isn't that of
        the paper, Peng et al. (2019), arXiv:1904.01802, which compares kernels between all samples.
    """
    where = "correlation_congruence_loss"
    check_same_rows(where, student=student, teacher=teacher)
    check_same_shape(where, student=student, teacher=teacher)
    mine, theirs = at_least_float32(student, teacher)
    gap = all_rows((mine - theirs).abs(), across_ranks)
    return (gap[:-1] * gap[1:]).sum() / max(len(gap) - 1, 1)


class CC(nn.Module):
    """:func:`correlation_congruence_loss` as a training term with an embedding for each side.

    Args:
        layer: Layer of both sides, or a dict of one each for "student" and "teacher". Maps are
            averaged over space and token states over tokens (:func:`limbeck.losses.pooled`).
        width: Of the embeddings, above zero.
        across_ranks: Whether the last sample of one process and the first of the next are
            neighbours.
        seed: Of the embeddings' first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 0.02)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        layer: Layer = "penultimate",
        *,
        width: int = 128,
        across_ranks: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive("CC", width=width)
        self.layers = layer_names("CC", layer, one=True)
        self.across_ranks = across_ranks
        self.embeddings = Embeddings("CC", width, seed)

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the embeddings for the widths of a first batch, unless there are any."""
        ((mine, theirs),) = pooled_pairs("CC", self.layers, student, teacher, batch)
        self.embeddings.prepare(mine, theirs)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; targets are not used."""
        ((mine, theirs),) = pooled_pairs("CC", self.layers, student, teacher, batch)
        mine, theirs = self.embeddings(mine, theirs)
        return correlation_congruence_loss(mine, theirs, across_ranks=self.across_ranks)
