"""What a student is for: the loss on targets and the metrics of four tasks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ArgumentError, DataError, ShapeError, check_between, check_choice
from limbeck.labels import cross_entropy, total_weight
from limbeck.language_model import LanguageModel
from limbeck.ranks import share_of_batch, world_size
from limbeck.types import Batch, Outputs, Task


Selection = tuple[str, Literal["max", "min"]]


class Classification:
    """One class a row; targets are class indices, -1 where a row has no label.

    Args:
        class_weights: Weight of each class in the loss, [classes].
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1].
    """

    name: ClassVar[str] = "classification"
    selection: ClassVar[Selection] = ("accuracy", "max")

    def __init__(
        self, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> None:
        check_between("classification", 0.0, 1.0, label_smoothing=label_smoothing)
        self.class_weights, self.label_smoothing = class_weights, label_smoothing

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the weighted mean cross-entropy over labelled rows [nats]; 0 where none is."""
        logits, targets = _logits(outputs, self.name), batch.targets
        if targets is None:
            return logits.sum() * 0.0
        _check_classes(targets, self.name)
        mean = cross_entropy(
            logits,
            targets,
            weights=batch.weights,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
        )
        if world_size() == 1:
            return mean
        total = total_weight(targets, batch.weights, self.class_weights, like=mean.detach())
        return share_of_batch(mean, total)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Return accuracy, top-5 accuracy (above 5 classes) and cross-entropy [nats]."""
        logits, targets = _logits(outputs, self.name).double(), _targets(batch, self.name)
        _check_classes(targets, self.name)
        kept = targets >= 0
        logits, targets = logits[kept], targets[kept]
        if not len(targets):
            return {}
        found = {
            "accuracy": (logits.argmax(1) == targets).double().mean().item(),
            "cross_entropy": F.cross_entropy(logits, targets).item(),
        }
        if logits.shape[1] > 5:
            found["accuracy_top5"] = (
                (logits.topk(5).indices == targets[:, None]).any(1).double().mean().item()
            )
        return found


class MultiLabel:
    """Any number of classes a row; targets are 0 or 1, [rows, classes], -1 or NaN where unknown."""

    name: ClassVar[str] = "multilabel"
    selection: ClassVar[Selection] = ("average_precision", "max")

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the mean binary cross-entropy over labelled entries [nats]."""
        logits, targets = _logits(outputs, self.name), batch.targets
        if targets is None:
            return logits.sum() * 0.0
        _check_targets(logits, targets, self.name)
        return weighted_mean(*_binary_terms(logits, targets, batch.weights))

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Return macro average precision, macro F1 at probability 1/2 and the cross-entropy."""
        from sklearn.metrics import average_precision_score, f1_score

        logits = _logits(outputs, self.name).detach().double()
        targets = _targets(batch, self.name)
        _check_targets(logits, targets, self.name)
        known = _known(targets)
        if not bool(((targets == 0) | (targets == 1))[known].all()):
            raise DataError(
                f"{self.name}: expected targets of 0 or 1, -1 or NaN where unknown, to evaluate "
                "on; got other numbers. Round them, or use your own task."
            )
        precision, f1 = [], []
        for column in range(logits.shape[1]):
            rows = known[:, column]
            truth, score = targets[rows, column].long().numpy(), logits[rows, column].numpy()
            if len(truth) and 0 < truth.sum() < len(truth):
                precision.append(average_precision_score(truth, score))
                f1.append(f1_score(truth, score > 0))
        if not precision:
            return {}
        each, weights = _binary_terms(logits, targets, None)
        return {
            "average_precision": sum(precision) / len(precision),
            "f1": sum(f1) / len(f1),
            "cross_entropy": ((each * weights).sum() / weights.sum()).item(),
        }


class Regression:
    """Real numbers a row; targets are [rows] or [rows, values], NaN where a row has none."""

    name: ClassVar[str] = "regression"
    selection: ClassVar[Selection] = ("mse", "min")

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the mean squared error over labelled entries [squared unit of the targets]."""
        predictions = _logits(outputs, self.name)
        if batch.targets is None:
            return predictions.sum() * 0.0
        predictions = _as_columns(_at_least_float32(predictions))
        targets = _as_columns(batch.targets).to(predictions.dtype)
        _check_targets(predictions, targets, self.name)
        known = torch.isfinite(targets)
        each = (predictions - torch.where(known, targets, 0)) ** 2
        return weighted_mean(each, _entry_weights(known, batch.weights, each))

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Return mean squared error, mean absolute error and R^2 (the mean over columns)."""
        predictions = _as_columns(_logits(outputs, self.name)).double()
        targets = _as_columns(_targets(batch, self.name)).double()
        _check_targets(predictions, targets, self.name)
        kept = torch.isfinite(targets).all(1)
        predictions, targets = predictions[kept], targets[kept]
        if not len(targets):
            return {}
        error = predictions - targets
        spread = ((targets - targets.mean(0)) ** 2).sum(0)
        found = {"mse": (error**2).mean().item(), "mae": error.abs().mean().item()}
        if bool((spread > 0).all()):
            found["r2"] = (1 - (error**2).sum(0) / spread).mean().item()
        return found


class Embedding:
    """Vectors without targets: the student is to match the teacher's.

    In evaluation the loop hands the teacher's vectors over as targets.
    """

    name: ClassVar[str] = "embedding"
    selection: ClassVar[Selection] = ("cosine", "max")

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return 0: all that an embedding student learns comes from the distillation term."""
        return _logits(outputs, self.name).sum() * 0.0

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Return the mean cosine to the teacher's vectors and how often retrieval agrees.

        ``retrieval`` is the share of rows whose nearest other row by cosine is the same under the
        student's and the teacher's vectors; it does not need equal widths.
        """
        if batch.targets is None:
            return {}
        student = F.normalize(_logits(outputs, self.name).double(), dim=1)
        teacher = F.normalize(batch.targets.double(), dim=1)
        found = {}
        if student.shape == teacher.shape:
            found["cosine"] = (student * teacher).sum(1).mean().item()
        if len(student) > 1:
            found["retrieval"] = (_nearest(student) == _nearest(teacher)).double().mean().item()
        return found


TASKS: dict[str, type] = {
    kind.name: kind for kind in (Classification, MultiLabel, Regression, Embedding, LanguageModel)
}


def task_of(task: str | Task) -> Task:
    """Return the task named, or the user's own object as it is.

    Raises:
        ArgumentError: If the name is unknown or the object lacks ``loss`` or ``metrics``.
    """
    if isinstance(task, str):
        check_choice("task", "task", task, TASKS)
        return TASKS[task]()
    if not isinstance(cast(Any, task), Task):
        raise ArgumentError(
            f"task: expected one of {', '.join(TASKS)}, or an object with loss(outputs, batch) and "
            f"metrics(outputs, batch); got {type(task).__name__}."
        )
    return task


def selection_of(task: Task) -> tuple[str | None, str]:
    """Return the metric that chooses the best epoch (None: the first one) and its direction."""
    return getattr(task, "selection", (None, "max"))


def weighted_mean(each: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean over all ranks' entries; 0, with a gradient of 0, without weight."""
    total = weights.sum()
    tiny = torch.finfo(each.dtype).tiny
    mean = (each * weights).sum() / total.clamp_min(tiny)
    return share_of_batch(mean, total.to(each.dtype))


def _binary_terms(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of every entry [nats] and its weight: 0 where it is unknown."""
    logits, known = _at_least_float32(logits), _known(targets)
    truth = torch.where(known, targets, 0).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return each, _entry_weights(known, weights, each)


def _entry_weights(known: Tensor, weights: Tensor | None, like: Tensor) -> Tensor:
    return known.to(like) if weights is None else known.to(like) * weights.to(like)[:, None]


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _logits(outputs: Outputs, task: str) -> Tensor:
    if outputs.logits is None:
        raise ArgumentError(f"{task}: expected a model with outputs; got features alone.")
    return outputs.logits


def _targets(batch: Batch, task: str) -> Tensor:
    if batch.targets is None:
        raise ArgumentError(f"{task}: expected targets to evaluate on; the data has none.")
    return batch.targets


def _check_classes(targets: Tensor, task: str) -> None:
    if targets.is_floating_point():
        raise DataError(
            f"{task}: expected integer class indices, -1 for unlabelled rows; got "
            f"{str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}. "
            "Convert them, or name another task: multilabel or regression."
        )


def _check_targets(predictions: Tensor, targets: Tensor, task: str) -> None:
    if predictions.shape != targets.shape:
        raise ShapeError(
            f"{task}: expected targets of shape {tuple(predictions.shape)}, as the student's "
            "output; "
            f"got {tuple(targets.shape)}."
        )


def _known(targets: Tensor) -> Tensor:
    return torch.isfinite(targets) & (targets >= 0)


def _as_columns(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 1 else values


def _nearest(vectors: Tensor) -> Tensor:
    """Return each row's nearest other row by inner product, in blocks of bounded memory."""
    found = []
    for start in range(0, len(vectors), 1024):
        similarity = vectors[start : start + 1024] @ vectors.T
        rows = torch.arange(len(similarity))
        similarity[rows, rows + start] = -torch.inf
        found.append(similarity.argmax(1))
    return torch.cat(found)
