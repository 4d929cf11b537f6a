"""What a classifier's last evaluation says beyond one number: classes, confidence, teacher."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ShapeError, check_positive


BINS = 15  # of Guo et al.
MOST_CLASSES = 50  # of a confusion matrix that a record keeps


def details_of(
    logits: Float[Tensor, "rows ..."], targets: Int[Tensor, " rows"] | None
) -> dict[str, Any]:
    """Return counts by class and the calibration over the labelled rows, as a record keeps them.

    Args:
        logits: Scores of every row.
        targets: Classes, -1 where a row has no label; None where no row has one.

    Returns:
        ``rows``, ``classes`` and ``calibration``; empty where no row has a label or a score is not
        finite.
    """
    if targets is None or logits.ndim != 2 or not bool(torch.isfinite(logits).all()):
        return {}
    kept = targets >= 0
    if not bool(kept.any()):
        return {}
    logits, targets = logits[kept], targets[kept]
    return {
        "rows": len(targets),
        "classes": class_counts(logits.argmax(1), targets, logits.shape[1]),
        "calibration": calibration(logits, targets),
    }


def class_counts(
    predicted: Int[Tensor, " rows"], targets: Int[Tensor, "*any"], classes: int
) -> dict[str, Any]:
    """Count rows, predictions and hits of each class.

    Args:
        predicted: The class that scores highest, of every row.
        targets: The true class of every row, in [0, classes).
        classes: How many there are.

    Returns:
        ``rows``, ``predicted`` and ``right``, a list over classes each: recall is right / rows,
        precision right / predicted. ``confusion[y][p]``, rows of class y taken for p, where
        there are no more than 50 classes.

    Raises:
        ArgumentError: If ``classes`` is not positive.
        ShapeError: If there are not as many predictions as targets.

    Example:
        >>> found = class_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
        >>> found["rows"], found["predicted"], found["right"], found["confusion"]
        ([2, 1], [1, 2], [1, 1], [[1, 1], [0, 1]])
    """
    check_positive("class_counts", classes=classes)
    if predicted.shape != targets.shape:
        raise ShapeError(
            f"class_counts: expected a prediction a target; got {tuple(predicted.shape)} and "
            f"{tuple(targets.shape)}. Give both over the same rows."
        )
    found: dict[str, Any] = {
        "rows": torch.bincount(targets, minlength=classes).tolist(),
        "predicted": torch.bincount(predicted, minlength=classes).tolist(),
        "right": torch.bincount(targets[targets == predicted], minlength=classes).tolist(),
    }
    if classes <= MOST_CLASSES:
        pairs = torch.bincount(targets * classes + predicted, minlength=classes * classes)
        found["confusion"] = pairs.reshape(classes, classes).tolist()
    return found


def calibration(
    logits: Float[Tensor, "rows classes"], targets: Int[Tensor, " rows"], *, bins: int = BINS
) -> dict[str, Any]:
    r"""Compare how sure a classifier is with how often it is right.

    .. math:: \mathrm{ECE} = \sum_m \frac{|B_m|}{n} \, |\mathrm{acc}(B_m) - \mathrm{conf}(B_m)|

    where a row is in bin :math:`B_m` if its largest probability lies in ((m - 1) / M, m / M].

    Args:
        logits: Scores of every row, at least one.
        targets: The true class of every row.
        bins: M, equally wide.

    Returns:
        ``error``, the expected calibration error in [0, 1], 0 where confidence and accuracy are
        the same in every bin; ``bins``, in order, each with ``rows``, and ``confidence`` and
        ``accuracy``, the means of its rows, None where it has none.

    Raises:
        ArgumentError: If ``bins`` is not positive.

    Example:
        Two rows at probability 3/4, one of them right: |1/2 - 3/4|.

        >>> scores = torch.tensor([[3.0, 1.0], [3.0, 1.0]]).log()
        >>> round(calibration(scores, torch.tensor([0, 1]))["error"], 6)
        0.25

    Source:
        Guo, Pleiss, Sun and Weinberger (2017), arXiv:1706.04599, equation 3.
    """
    check_positive("calibration", bins=bins)
    probabilities = torch.softmax(logits.detach().double().cpu(), 1)
    confidence, predicted = probabilities.max(1)
    right = (predicted == targets.cpu()).double()
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    place = torch.bucketize(confidence, edges)  # the upper edge belongs to its bin
    rows = torch.bincount(place, minlength=bins).double()
    sure, hits = (
        torch.bincount(place, weights=each, minlength=bins) / rows for each in (confidence, right)
    )
    filled = rows > 0
    gaps = (rows / len(right) * (hits - sure).abs())[filled]
    return {
        "error": gaps.sum().item(),
        "bins": [
            {
                "rows": int(count),
                "confidence": own_sure if count else None,
                "accuracy": own_hits if count else None,
            }
            for count, own_sure, own_hits in zip(
                rows.tolist(), sure.tolist(), hits.tolist(), strict=True
            )
        ],
    }


def agreement(
    student: Float[Tensor, "rows classes"], teacher: Float[Tensor, "*any"]
) -> dict[str, Any]:
    r"""Say how much a student's answers are its teacher's, whoever is right.

    .. math:: \frac1n \sum_i \mathrm{KL}(p^T_i \,\|\, p^S_i)

    Args:
        student: Its logits of every row, at least one.
        teacher: Its logits of the same rows.

    Returns:
        ``rows``; ``same_class``, the share of rows on which both have the same likeliest class, in
        [0, 1]; ``kl``, the mean divergence from the teacher's distribution to the student's at
        temperature 1 [nats], 0 where they are the same.

    Raises:
        ShapeError: If rows or classes differ.

    Example:
        KL(1/2, 1/2 || 3/4, 1/4) = ln(4/3) / 2 = 0.143841.

        >>> found = agreement(torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2))
        >>> found["rows"], found["same_class"], round(found["kl"], 6)
        (1, 1.0, 0.143841)
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            f"agreement: expected the same rows and classes; got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}. Give both logits over the same classes."
        )
    ours, theirs = (F.log_softmax(one.double().cpu(), 1) for one in (student, teacher))
    return {
        "rows": len(ours),
        "same_class": (ours.argmax(1) == theirs.argmax(1)).double().mean().item(),
        "kl": F.kl_div(ours, theirs, reduction="batchmean", log_target=True).item(),
    }
