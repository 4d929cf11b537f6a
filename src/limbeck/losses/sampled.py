"""What the losses on sampled labels share: log-probabilities of the labels, ratios, their mean.

A label below zero is an absent one: it counts nowhere, whatever number stands beside it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import DataError, ShapeError, check_between
from limbeck.losses.numerics import at_least_float32


LARGEST_LOG_RATIO = 30.0  # a label with t < e^-30 is never drawn, and r <= 1 / t
TOLERANCE = 1e-2  # what narrow floats and services may round a log-probability of zero to


def log_probabilities_of(
    student_logits: Float[Tensor, "batch classes"], labels: Int[Tensor, "*draws"]
) -> Float[Tensor, "*draws"]:
    """Return the student's log-probability of every label [nats], in float32 at least."""
    (logits,) = at_least_float32(student_logits)
    columns = labels.reshape(labels.shape[0], math.prod(labels.shape[1:])).clamp_min(0)
    found = F.log_softmax(logits, dim=1).gather(1, columns.long())
    return found.reshape(labels.shape)


def log_ratio(
    student: Float[Tensor, "*draws"],
    teacher: Float[Tensor, "*draws"],
    labels: Int[Tensor, "*draws"],
) -> Float[Tensor, "*draws"]:
    """Return log r = log p(a) - log t(a) of every label, 0 for an absent one."""
    difference = student - teacher.detach().to(student.dtype)
    return difference.masked_fill(labels < 0, 0.0)


def log_bound(clip: float | None) -> float:
    """Return the log-ratio from which on a bounded ratio rises along its tangent."""
    return LARGEST_LOG_RATIO if clip is None else min(math.log(clip), LARGEST_LOG_RATIO)


def bounded_excess(ratio: Float[Tensor, "*draws"], clip: float | None) -> Float[Tensor, "*draws"]:
    """Return r - 1 of log-ratios, where the derivative of r by log r is min(r, clip).

    Beyond the bound r goes on along its tangent in log r. Held constant there instead, the gradient
    of a loss that falls with log p would drive p still further up.
    """
    bound = log_bound(clip)
    # The two parts share no entry, so that no gradient is the difference of two large ones.
    return torch.expm1(ratio.clamp_max(bound)) + math.exp(bound) * torch.relu(ratio - bound)


def mean_of_draws(
    terms: Float[Tensor, "*draws"],
    labels: Int[Tensor, "*draws"],
    weights: Float[Tensor, "*draws"] | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted mean over the labels that are present; zero where none is."""
    kept = weights_of_draws(terms, labels, weights)
    total = kept.sum().clamp_min(torch.finfo(kept.dtype).tiny)
    return (terms.masked_fill(labels < 0, 0.0) * kept).sum() / total


def weights_of_draws(
    like: Tensor, labels: Int[Tensor, "*draws"], weights: Float[Tensor, "*draws"] | None = None
) -> Float[Tensor, "*draws"]:
    """Return every label's weight, 0 for an absent one, in the type of ``like``."""
    if weights is None:
        return (labels >= 0).to(like.dtype)
    return weights.detach().to(like.dtype).masked_fill(labels < 0, 0.0)


def check_sampled(
    where: str,
    student_logits: Tensor,
    labels: Tensor,
    log_probabilities: Tensor | None = None,
    weights: Tensor | None = None,
) -> None:
    """Raise ShapeError or DataError unless there are labels, and a number, for every row.

    Values are looked at on the CPU only: a device would have to be waited for.
    """
    given = {"labels": labels, "log_probabilities": log_probabilities, "weights": weights}
    known = {name: value for name, value in given.items() if value is not None}
    fits = student_logits.ndim == 2 and labels.ndim >= 1
    fits = fits and labels.shape[0] == student_logits.shape[0]
    if not fits or any(value.shape != labels.shape for value in known.values()):
        got = ", ".join(f"{name} {tuple(value.shape)}" for name, value in known.items())
        raise ShapeError(
            f"{where}: expected logits [batch, classes] and labels [batch] or [batch, draws] with "
            f"as many numbers; got student_logits {tuple(student_logits.shape)}, {got}. "
            "Give one row of labels for every row of logits."
        )
    check_values(where, student_logits.shape[1], labels, log_probabilities)


def check_values(
    where: str, classes: int, labels: Tensor, log_probabilities: Tensor | None = None
) -> None:
    """Raise DataError for labels outside of the classes and numbers that are no log-probability."""
    if labels.device.type != "cpu" or labels.numel() == 0:
        return
    highest = int(labels.max())
    if highest >= classes:
        raise DataError(
            f"{where}: expected labels below {classes}, the number of classes; got {highest}. "
            "Look for labels of another vocabulary; -1 is an absent label."
        )
    if log_probabilities is None or log_probabilities.device.type != "cpu":
        return
    seen = log_probabilities.detach().masked_fill(labels < 0, 0.0)
    wrong = ~((seen <= TOLERANCE) & (seen > -math.inf))  # NaN is wrong too
    if bool(wrong.any()):
        raise DataError(
            f"{where}: expected log-probabilities [nats] that are finite and at most 0; got "
            f"{float(seen[wrong][0])}. A label that was drawn has a probability above 0; give its "
            "natural logarithm, or drop the record."
        )


def check_clip(where: str, clip: float | None) -> None:
    """Raise ArgumentError unless the bound of the ratio is None or at least 1."""
    if clip is not None:
        check_between(where, 1.0, math.inf, clip=clip)
