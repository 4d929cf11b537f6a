"""Two trained linear maps of student's and teacher's vectors into one space."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses.connectors import SIDES, connected, seeded


class Embeddings(nn.Module):
    """A linear map for each side, made for the widths of a first batch.

    Args:
        where: Name of the loss, for messages and for the seed.
        width: Of the common space.
        seed: Of the first weights.
    """

    def __init__(self, where: str, width: int, seed: int) -> None:
        super().__init__()
        self.where, self.width, self.seed = where, width, seed
        self.student: nn.Linear | None = None
        self.teacher: nn.Linear | None = None

    def prepare(
        self,
        student: Float[Tensor, "batch student_width"],
        teacher: Float[Tensor, "batch teacher_width"],
    ) -> None:
        """Make both maps, unless there are any."""
        if self.student is None or self.teacher is None:
            self.student, self.teacher = (
                seeded(
                    nn.Linear,
                    rows.shape[1],
                    self.width,
                    like=rows,
                    key=(self.seed, self.where.lower(), "embedding", side),
                )
                for side, rows in zip(SIDES, (student, teacher), strict=True)
            )

    def forward(
        self,
        student: Float[Tensor, "batch student_width"],
        teacher: Float[Tensor, "batch teacher_width"],
    ) -> tuple[Float[Tensor, "batch width"], Float[Tensor, "batch width"]]:
        """Return both sides in the common space; only the teacher's map gets a gradient there."""
        if self.student is None or self.teacher is None:
            raise ArgumentError(
                f"{self.where}: expected embeddings; got a loss that is not prepared. Call "
                "`prepare(student, teacher, batch)` before the optimiser is made."
            )
        known = self.student.in_features, self.teacher.in_features
        if (student.shape[1], teacher.shape[1]) != known:
            raise ShapeError(
                f"{self.where}: expected {known[0]} student and {known[1]} teacher features; got "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}. Make a new loss for other "
                "layers."
            )
        return connected(self.student, student), connected(self.teacher, teacher.detach())
