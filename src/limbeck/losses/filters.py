"""Small trained maps between layers, for losses that compare filtered features."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.losses.batch_norm import BatchNorm
from limbeck.losses.connectors import same_size, seeded
from limbeck.losses.features import feature_of, pooled
from limbeck.losses.numerics import at_least_float32, without_autocast
from limbeck.randomness import generator
from limbeck.types import Batch, Outputs


class Filter(nn.Module):
    """Two pointwise linear maps with batch normalisation and ReLU between them.

    Maps [batch, channels, height, width] are filtered at every position (1x1 convolutions without
    bias), vectors [batch, width] as they are.

    Args:
        widths: Features that come in, in the middle, and out.
        seed: Of the weights, together with ``name``.
        name: Says which filter this is.
        like: A tensor of the float type and on the device wanted.
    """

    def __init__(self, widths: tuple[int, int, int], *, seed: int, name: str, like: Tensor) -> None:
        super().__init__()
        (like,) = at_least_float32(like.detach()[:0])
        first, middle, last = widths
        source = generator(seed, "filter", name)
        self.first = nn.Parameter(_weight(middle, first, source).to(like))
        self.norm = BatchNorm(middle, like)
        self.last = nn.Parameter(_weight(last, middle, source).to(like))

    def forward(self, rows: Float[Tensor, "batch width ..."]) -> Float[Tensor, "batch out ..."]:
        """Return the filtered rows."""
        with without_autocast(rows):
            hidden = self.norm(_pointwise(rows.to(self.first.dtype), self.first))
            return _pointwise(torch.relu(hidden), self.last)


def filterable(
    student: Tensor, teacher: Tensor, batch: Batch
) -> tuple[Float[Tensor, "batch s ..."], Float[Tensor, "batch t ..."]]:
    """Return two layers' outputs with the same positions.

    Of two maps the larger is average-pooled to the size of the smaller. Tokens are averaged where
    they are not padding, and so is a map beside a vector (:func:`limbeck.losses.pooled`).
    """
    student, teacher = at_least_float32(student, teacher)
    if student.ndim == 4 and teacher.ndim == 4:
        return same_size(student, teacher)
    return pooled(student, batch), pooled(teacher, batch)


def filterable_pairs(
    where: str,
    layers: Mapping[str, tuple[str, ...]],
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield :func:`filterable` of every pair of layers, the teacher's detached.

    Raises:
        LayerError: If a layer is not among the features; it names the loss, ``where``.
    """
    for mine, theirs in zip(layers["student"], layers["teacher"], strict=True):
        yield filterable(
            feature_of(where, "student", student, mine),
            feature_of(where, "teacher", teacher, theirs).detach(),
            batch,
        )


def _pointwise(rows: Tensor, weight: Tensor) -> Tensor:
    if rows.ndim == 2:
        return F.linear(rows, weight)
    return F.conv2d(rows, weight[:, :, None, None])


def _weight(out: int, width: int, source: torch.Generator) -> Tensor:
    weight = torch.empty(out, width, dtype=torch.float64)
    return nn.init.kaiming_uniform_(weight, mode="fan_out", nonlinearity="relu", generator=source)


def head(width: int, classes: int, *, seed: int, name: str, like: Tensor) -> nn.Linear:
    """Return a linear classifier with seeded first weights."""
    return seeded(nn.Linear, width, classes, like=like, key=(seed, "head", name))


@contextlib.contextmanager
def resting(part: nn.Module) -> Generator[None]:
    """Put a part into eval mode and take no gradient, for a while."""
    training = part.training
    part.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        part.train(training)
