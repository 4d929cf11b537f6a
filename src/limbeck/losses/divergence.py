"""Divergences of class distributions row by row, in log-space, and their mean over labelled rows.

All take float tensors of one type; whoever calls widens and detaches.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError, check_same_shape
from limbeck.types import Batch


def divergence_rows(
    student: Float[Tensor, "batch classes"],
    teacher: Float[Tensor, "batch classes"],
    kept: Bool[Tensor, "batch classes"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return KL(softmax(teacher) || softmax(student)) of every row [nats].

    Args:
        student: Scores, already divided by their temperature.
        teacher: The same.
        kept: Which classes the two distributions run over, by row; None means all. A row without
            any counts zero.
    """
    if kept is not None:
        # A row without any class keeps all of them here, and none below.
        masked = ~kept & kept.any(dim=1, keepdim=True)
        student, teacher = (z.masked_fill(masked, -math.inf) for z in (student, teacher))
    log_student, log_teacher = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    difference = log_teacher - log_student
    if kept is not None:
        difference = difference.masked_fill(~kept, 0.0)
    return (log_teacher.exp() * difference).sum(dim=1)


def log_odds(
    logits: Float[Tensor, "batch classes"], chosen: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return ln p - ln(1 - p) of every row's chosen class; needs two classes or more."""
    column = chosen[:, None]
    others = logits.scatter(1, column, -math.inf).logsumexp(dim=1)
    return logits.gather(1, column)[:, 0] - others


def binary_divergence_rows(
    student: Float[Tensor, " batch"], teacher: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return KL between two binary distributions that are given by their log-odds [nats]."""
    yes = F.logsigmoid(teacher) - F.logsigmoid(student)
    no = F.logsigmoid(-teacher) - F.logsigmoid(-student)
    return torch.sigmoid(teacher) * yes + torch.sigmoid(-teacher) * no


def mean_over_labelled(
    rows: Float[Tensor, " batch"], targets: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Return the mean of the rows that have a label; zero where none has."""
    return rows.masked_fill(targets < 0, 0.0).sum() / number_labelled(targets, rows).clamp_min(1.0)


def number_labelled(targets: Int[Tensor, " batch"], like: Tensor) -> Float[Tensor, ""]:
    """Return how many rows have a label, as a number of the type of ``like``."""
    return (targets >= 0).sum(dtype=like.dtype)


def check_labelled(where: str, student: Tensor, teacher: Tensor, targets: Tensor) -> None:
    """Raise ShapeError unless there are two classes or more, and one target a row."""
    check_same_shape(where, student_logits=student, teacher_logits=teacher)
    if student.ndim != 2 or student.shape[1] < 2 or targets.shape != student.shape[:1]:
        raise ShapeError(
            f"{where}: expected logits [batch, classes] of two classes or more and one target a "
            f"row; got student_logits {tuple(student.shape)}, targets {tuple(targets.shape)}."
        )


def targets_of(where: str, batch: Batch) -> Tensor:
    """Return the batch's class indices, or raise ArgumentError where it has none."""
    if batch.targets is None:
        raise ArgumentError(
            f"{where}: expected class indices in `batch.targets`; got None. "
            "Give labels (-1 for rows without), or choose a loss that needs none."
        )
    return batch.targets
