"""Matching the teacher's outputs, for students whose outputs are numbers or vectors."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ShapeError, check_choice, check_same_shape
from limbeck.losses.features import logits_of
from limbeck.losses.numerics import at_least_float32, unit_rows
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


Distance = Literal["mse", "cosine"]


def match_loss(
    student: Float[Tensor, "batch ..."],
    teacher: Float[Tensor, "batch ..."],
    *,
    distance: Distance = "mse",
) -> Float[Tensor, ""]:
    r"""Bring the student's outputs to the teacher's.

    .. math:: \frac{1}{b\,d} \sum_{ik} (s_{ik} - t_{ik})^2 \qquad \text{or} \qquad
              \frac{1}{b} \sum_i \Bigl(1 - \frac{\langle s_i, t_i \rangle}{|s_i|\,|t_i|}\Bigr)

    The first is for regression and for embeddings whose length matters, the second for embeddings
    that are compared by their angle. Scores of classes are better matched by ``kd_loss``.

    Args:
        student: The student's outputs; gradients flow into these.
        teacher: The teacher's outputs; detached here.
        distance: "mse", or "cosine" for outputs [batch, width].

    Returns:
        The batch mean: squared error [squared unit of the outputs; half of it is the divergence
        in nats of two unit-variance Gaussians], or one minus the cosine [no unit, 0 to 2; a row of
        zeros counts 1]. Zero when student and teacher agree (and for a batch without rows).

    Raises:
        ShapeError: If the outputs differ in shape, or the cosine is asked of no matrix.
        ArgumentError: If ``distance`` is neither of the two.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> match_loss(student, teacher)
        tensor(2.5000)
        >>> match_loss(student, teacher, distance="cosine")
        tensor(1.)

    Source:
        Ba and Caruana (2014), arXiv:1312.6184, section 2.2 (squared error).
    """
    check_same_shape("match_loss", student=student, teacher=teacher)
    check_choice("match_loss", "distance", distance, ("mse", "cosine"))
    mine, theirs = at_least_float32(student, teacher.detach())
    if distance == "mse":
        return (mine - theirs).square().sum() / max(mine.numel(), 1)
    if mine.ndim != 2:
        raise ShapeError(
            f"match_loss: expected outputs [batch, width] for the cosine; got {tuple(mine.shape)}. "
            'Use distance="mse" for single numbers.'
        )
    return (1.0 - (unit_rows(mine) * unit_rows(theirs)).sum(dim=1)).sum() / max(mine.shape[0], 1)


class Match(nn.Module):
    """:func:`match_loss` as a training term on the models' outputs: no parameters."""

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = True

    def __init__(self, *, distance: Distance = "mse") -> None:
        super().__init__()
        check_choice("Match", "distance", distance, ("mse", "cosine"))
        self.distance: Distance = distance

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the batch mean; targets are not used."""
        mine, theirs = logits_of("Match", student, teacher)
        value = match_loss(mine, theirs, distance=self.distance)
        return share_of_batch(value, mine.shape[0])
