"""Labels drawn from a live teacher's class distribution: what a service would have answered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError, check_positive
from limbeck.losses.numerics import at_least_float32
from limbeck.randomness import keyed_uniform
from limbeck.types import Batch


@dataclass(frozen=True, slots=True)
class TeacherDraws:
    """Draws labels from a teacher's logits, each with its log-probability.

    A label is a pure function of (seed, sample, number of the draw) and of the teacher's row: the
    same in every epoch, batch and process, without any state. So a sample costs ``draws`` queries
    to the teacher, however long the student trains. Where samples are augmented the teacher sees
    every view, and is asked about each of them, the budget holds with ``views=1``.

    Args:
        where: Who asks, for errors.
        draws: How many labels a sample has, drawn with replacement.
        seed: Any integer.
        redraw: Draw anew for every view of a sample. Views are epochs, unless a run has ``views``,
            so that is a teacher who is asked again in every epoch.
        proposal: Labels are drawn from q proportional to t to this power.

    Raises:
        ArgumentError: If ``draws`` is no whole number above zero, or ``proposal`` not above zero.
    """

    where: str
    draws: int = 1
    seed: int = 0
    redraw: bool = False
    proposal: float = 1.0

    def __post_init__(self) -> None:
        check_count(self.where, "draws", self.draws)
        check_positive(self.where, proposal=self.proposal)

    def __call__(
        self, teacher_logits: Float[Tensor, "batch classes"], batch: Batch
    ) -> tuple[Int64[Tensor, "batch draws"], Float[Tensor, "batch draws"]]:
        """Return labels and their log-probabilities under the teacher [nats], without gradient."""
        if teacher_logits.ndim != 2 or teacher_logits.shape[0] != len(batch):
            raise ShapeError(
                f"{self.where}: expected the teacher's logits [batch, classes] for {len(batch)} "
                f"rows; got {tuple(teacher_logits.shape)}. Labels are drawn one row a sample."
            )
        log_t, log_q = self.logarithms(teacher_logits)
        view = batch.view if self.redraw else torch.zeros_like(batch.view)
        labels = labels_at(log_q.exp(), self._uniform(batch.index, view))
        return labels, log_t.gather(1, labels)

    def logarithms(
        self, teacher_logits: Float[Tensor, "batch classes"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
        """Return log t of all classes, and log q, by which labels are drawn [nats]."""
        (logits,) = at_least_float32(teacher_logits.detach())
        log_t = F.log_softmax(logits, dim=1)
        return log_t, log_t if self.proposal == 1.0 else F.log_softmax(self.proposal * log_t, dim=1)

    def _uniform(self, index: Tensor, view: Tensor) -> Tensor:
        # 24 bits would never draw the rare labels of a large vocabulary; two draws make 48.
        pairs = keyed_uniform(self.seed, index, view, 2 * self.draws).to(_wide(index))
        return pairs[:, ::2] + pairs[:, 1::2] / (1 << 24)


def labels_at(
    probabilities: Float[Tensor, "batch classes"], uniform: Float[Tensor, "batch draws"]
) -> Int64[Tensor, "batch draws"]:
    """Return the labels at which the distribution functions pass numbers in [0, 1).

    Example:
        The function is 0.25, then 1.

        >>> labels_at(torch.tensor([[0.25, 0.75]]), torch.tensor([[0.0, 0.2, 0.25, 0.9]]))
        tensor([[0, 0, 1, 1]])
    """
    passed = probabilities.to(_wide(probabilities)).cumsum(dim=1)
    levels = uniform.to(passed.dtype) * passed[:, -1:]
    found = torch.searchsorted(passed, levels.contiguous(), right=True)
    return found.clamp_max(probabilities.shape[1] - 1)


def check_count(where: str, name: str, number: int) -> None:
    """Raise ArgumentError unless a number is whole and above zero."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ArgumentError(f"{where}: expected `{name}` to be a whole number >= 1; got {number}.")


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no other
