"""What a network's own class scores say: accuracy, cross-entropy and posteriors."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.estimates import Estimate


_QUANTILE = 1.96


def accuracy_of(logits: Float[Tensor, "rows classes"], targets: Int[Tensor, " rows"]) -> Estimate:
    """Return the share of rows where the largest score is the target's, with Wilson's interval.

    Example:
        >>> scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 4.0]])
        >>> print(accuracy_of(scores, torch.tensor([0, 1, 0, 0])))
        0.750 [0.301, 0.954] fraction

    Source:
        Wilson (1927), Journal of the American Statistical Association 22, 209.
    """
    n = len(targets)
    share = (logits.argmax(1) == targets).double().mean().item()
    squared = _QUANTILE**2 / n
    centre = (share + squared / 2) / (1 + squared)
    half = _QUANTILE * math.sqrt(share * (1 - share) / n + squared / (4 * n)) / (1 + squared)
    return Estimate(
        share,
        min(max(centre - half, 0.0), share),
        max(min(centre + half, 1.0), share),
        n=n,
        unit="fraction",
        status="resolved",
        settings={"level": 0.95, "interval": "Wilson"},
    )


def cross_entropy_of(
    logits: Float[Tensor, "rows classes"], targets: Int[Tensor, " rows"]
) -> Estimate:
    """Return the mean surprise at the targets [bits], with a normal interval.

    Example:
        >>> print(cross_entropy_of(torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)))
        2.000 [2.000, 2.000] bits
    """
    return _mean(surprise_of(logits, targets))


def surprise_of(
    logits: Float[Tensor, "rows classes"], targets: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Return the surprise at each row's target, -log2 of its probability [bits]."""
    return F.cross_entropy(logits.double(), targets, reduction="none") / math.log(2.0)


def gap_of(student: Float[Tensor, " rows"], teacher: Float[Tensor, " rows"]) -> Estimate:
    """Return by how much the student is more surprised, with a normal interval of the pairs [bits].

    Example:
        >>> print(gap_of(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])))
        1.000 [1.000, 1.000] bits
    """
    return _mean(student - teacher)


def _mean(bits: Float[Tensor, " rows"]) -> Estimate:
    mean = bits.mean().item()
    half = _QUANTILE * bits.std(correction=0).item() / math.sqrt(len(bits))
    return Estimate(
        mean,
        mean - half,
        mean + half,
        n=len(bits),
        unit="bits",
        status="resolved",
        settings={"level": 0.95, "interval": "normal"},
    )


def posteriors_of(
    logits: Float[Tensor, "rows outputs"], classes: int
) -> Float[Tensor, "rows classes"]:
    """Return the class distribution over the first ``classes`` outputs.

    A data set in which the last classes do not occur leaves the outputs for them without meaning.

    Example:
        >>> posteriors_of(torch.tensor([[0.0, 0.0, 9.0]]), 2)
        tensor([[0.5000, 0.5000]])
    """
    return torch.softmax(
        logits[:, :classes].to(torch.promote_types(logits.dtype, torch.float32)), 1
    )
