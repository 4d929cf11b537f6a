"""What is looked at before a run: mistakes that would cost hours, found in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from limbeck.capture import FORWARD_ERRORS, Capture, failure_of
from limbeck.checks import DataError, LimbeckError, ModelError
from limbeck.data import Data, Items
from limbeck.sources import check_classes
from limbeck.tasks import Classification
from limbeck.training.evaluate import outputs_over
from limbeck.training.teachers import LiveTeacher, with_targets
from limbeck.types import Batch, Outputs, Task, Teacher


_SLICE = 1000  # rows on which a teacher is looked at
_SUM_TOLERANCE = 1e-4  # by which rows of float32 probabilities may miss one


class PreflightError(LimbeckError, ValueError):
    """A run that would not do what was meant; ``force`` goes on all the same."""


@dataclass(frozen=True)
class Finding:
    """One thing that was seen.

    Attributes:
        level: "error" stops the run unless forced, "warning" goes into the record, "fact" is shown.
        text: What was seen, and what to do.
    """

    level: Literal["error", "warning", "fact"]
    text: str


def first_batch(data: Data, device: torch.device, rows: int = 16) -> Batch:
    """Return the first rows of the data in their first view: what checks and searches run on."""
    index = torch.arange(min(rows, len(data)))
    return next(data.batches([(index, torch.zeros_like(index))], device))


def run_student(capture: Capture, batch: Batch) -> Any:
    """Run the student once in eval mode, without gradient, and explain a failure.

    Raises:
        ModelError: If its forward pass fails on this batch.
    """
    modes = {part: part.training for part in capture.module.modules()}
    capture.module.eval()
    try:
        with torch.no_grad():
            return capture(batch.inputs)
    except LimbeckError:
        raise
    except FORWARD_ERRORS as problem:
        raise ModelError(failure_of("student", capture.module, batch.inputs, problem)) from None
    finally:
        for part, mode in modes.items():
            part.training = mode


def run_teacher(teacher: Teacher, batch: Batch) -> Any:
    """Run a teacher once and explain a failure.

    Raises:
        ModelError: If it fails on this batch.
    """
    try:
        return teacher(batch)
    except LimbeckError:
        raise
    except FORWARD_ERRORS as problem:
        module = teacher.module if isinstance(teacher, LiveTeacher) else teacher
        raise ModelError(failure_of("teacher", module, batch.inputs, problem)) from None


def check_labels(data: Data, classes: int, task: Task) -> list[Finding]:
    """Compare class indices with the number of the student's outputs.

    Raises:
        DataError: If a label lies beyond them, or the data has one class only.
    """
    if not isinstance(task, Classification):
        return []
    if isinstance(data.source, Items):
        data.source.classes = classes  # its labels are looked at when they are read
        return []
    targets = data.targets
    if targets is None:
        return []
    check_classes(targets, classes, data.name, torch.arange(len(targets)))
    labels = targets[targets >= 0]
    if len(labels) and len(labels.unique()) == 1:
        raise DataError(
            f"{data.name}: expected at least two classes; all {len(labels)} labels are "
            f"{int(labels[0])}. Check how the data was cut."
        )
    if not len(labels):
        return [Finding("warning", f"{data.name}: no row is labelled; the task term is zero.")]
    unlabelled = len(targets) - len(labels)
    if unlabelled:
        return [
            Finding("fact", f"{data.name}: {unlabelled} of {len(targets)} rows are unlabelled.")
        ]
    return []


def check_teacher(
    teacher: Teacher, data: Data, classes: int, *, needs_logits: bool, device: torch.device
) -> tuple[list[Finding], dict[str, float]]:
    """Look at a classifier's accuracy, class count and class order on a slice of labelled rows."""
    targets = data.targets
    rows = torch.arange(len(data)) if targets is None else (targets >= 0).nonzero()[:, 0].cpu()
    if not len(rows):
        return [Finding("warning", "teacher: no labelled rows to look at its accuracy on.")], {}
    chosen = rows[torch.linspace(0, len(rows) - 1, min(_SLICE, len(rows))).long()]
    outputs, batch = outputs_over(teacher, data, places=chosen, device=device)
    logits, labels = outputs.logits, batch.targets
    if logits is None or labels is None or logits.ndim != 2:
        return [], {}
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    findings = []
    if logits.shape[1] != classes:
        level = "error" if needs_logits else "warning"
        findings.append(
            Finding(
                level,
                f"teacher: expected {classes} classes, as the student's; got {logits.shape[1]}. "
                "A loss on logits needs the same classes; use a loss on features, such as itrd.",
            )
        )
    if not len(labels) or int(labels.max()) >= logits.shape[1]:
        return findings, {}
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    findings += _accuracy_findings(logits, labels, accuracy)
    return findings, {"accuracy": accuracy, "rows": float(len(labels))}


def check_scores(who: str, said: Outputs, level: Literal["error", "warning"]) -> list[Finding]:
    """See that a classifier's scores are no probabilities: a second softmax flattens them.

    Rows of logits that each sum to one do not come by chance; a single row might.
    """
    scores = said.logits
    if scores is None or scores.ndim != 2 or min(scores.shape) < 2:
        return []
    scores = scores.detach().float()
    within = bool(((scores >= 0) & (scores <= 1)).all())
    if not within or float((scores.sum(1) - 1).abs().max()) > _SUM_TOLERANCE:
        return []
    return [
        Finding(
            level,
            f"{who}: expected logits; got probabilities: all {len(scores)} rows looked at lie in "
            "[0, 1] and sum to 1. Remove the model's softmax, or let it return their logarithm.",
        )
    ]


def check_gradient(
    step: nn.Module, batch: Batch, teachers: Sequence[Teacher], *, unlabelled: bool = False
) -> list[Finding]:
    """See that each term reaches the student, in eval mode so that nothing changes.

    Args:
        step: The student with all terms.
        batch: Some training rows.
        teachers: One for each distillation term.
        unlabelled: Whether no training row has a label, as :func:`has_no_label` says.

    Raises:
        ModelError: If no parameter of the student is to be trained.
    """
    parameters = [p for p in step.student.parameters() if p.requires_grad]  # type: ignore[union-attr]
    if not parameters:
        raise ModelError(
            "student: expected parameters to train; all are frozen. Set requires_grad on some."
        )
    modes = {part: part.training for part in step.modules()}
    step.eval()
    findings = []
    try:
        student = step.capture(batch.inputs)  # type: ignore[operator]
        own = step.task.loss(student, batch) if unlabelled and not teachers else None  # type: ignore[union-attr,operator]
        if own is not None and not _reaches(own, parameters):
            findings.append(
                Finding(
                    "error",
                    "distill: expected labels or a teacher to learn from; got neither, so that no "
                    "term has a gradient. Give labels or a teacher.",
                )
            )
        if isinstance(step.task, Classification):
            findings += check_scores("student", student, "error")
        for position, (loss, teacher) in enumerate(zip(step.losses, teachers, strict=True)):  # type: ignore[arg-type]
            said = teacher(batch)
            if isinstance(step.task, Classification):
                level = "error" if getattr(loss, "needs_logits", False) else "warning"
                findings += check_scores(
                    f"teacher {position}" if position else "teacher", said, level
                )
            value = loss(student, said, with_targets(batch, said))
            if not isinstance(value, Tensor) or value.ndim:
                raise ModelError(
                    f"loss: expected {type(loss).__name__} to return a scalar tensor; got "
                    f"{tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}."
                )
            if not bool(torch.isfinite(value)):
                findings.append(Finding("error", f"loss: {type(loss).__name__} is {value.item()}."))
            elif not _reaches(value, parameters):
                findings.append(
                    Finding(
                        "error",
                        f"loss: {type(loss).__name__} (term {position}) gives the student no "
                        "gradient. Check its layers and weights.",
                    )
                )
    finally:
        for part, mode in modes.items():
            part.training = mode
    return findings


def check_inputs(batch: Batch, models: dict[str, nn.Module]) -> list[Finding]:
    """Compare the range of image inputs with who normalises them."""
    if not isinstance(batch.inputs, Tensor) or batch.inputs.ndim != 4:
        return []
    low, high = batch.inputs.min().item(), batch.inputs.max().item()
    own = {who: _normalisation(model) for who, model in models.items()}
    findings = [
        Finding(
            "warning",
            f"{who}: normalises its own input, which should be pixels in [0, 1]; these go from "
            f"{low:.2f} to {high:.2f}. Were they normalised before?",
        )
        for who, found in own.items()
        if found is not None and (low < -0.01 or high > 1.01)
    ]
    kinds = {found is None for found in own.values()}
    if len(kinds) == 2 and low >= 0 and high <= 1:
        bare = " and ".join(who for who, found in own.items() if found is None)
        findings.append(
            Finding(
                "warning",
                f"{bare}: sees raw pixels in [0, 1] while the other model normalises its input. "
                "If it was trained on normalised images, wrap it.",
            )
        )
    return findings


def has_no_label(data: Data, example: Batch) -> bool:
    """Say whether no row has a label, as far as that can be known without reading every item."""
    targets = data.targets
    if targets is None:
        return example.targets is None
    if targets.is_floating_point():
        return bool((targets.isnan() | (targets == -1)).all())
    return bool((targets < 0).all())


def check_keys(data: Data, example: Batch, task: Task) -> list[Finding]:
    """Find labels under a key of their own, where a dict has none of those that are read."""
    if example.targets is not None or not isinstance(example.inputs, dict):
        return []
    keys = [
        f"'{key}'"
        for key, value in example.inputs.items()
        if value.ndim == 1 and not value.is_floating_point() and value.dtype != torch.bool
    ]
    if not keys or not isinstance(task, Classification):
        return []
    return [
        Finding(
            "warning",
            f"{data.name}: no row has a label, and key {', '.join(keys)} is taken as an input; "
            "labels are read from 'labels' or 'label'.",
        )
    ]


def check_mixing(data: Data, example: Batch, weight: Any) -> list[Finding]:
    """See that labels do not count where an augmentation mixes images and not their labels."""
    mixes = getattr(data.augment, "mixes_labels", False)
    targets = example.targets if data.targets is None else data.targets
    unlabelled = targets is None or (not targets.is_floating_point() and bool((targets < 0).all()))
    if not mixes or unlabelled or (not isinstance(weight, Tensor) and not weight):
        return []
    return [
        Finding(
            "error",
            f"{data.name}: expected no labels with {type(data.augment).__name__}, which mixes "
            "images; labels are not mixed. Learn from the teacher alone with weight=1.0, or leave "
            "the labels out.",
        )
    ]


def check_disk(out: Path | None, modules: Sequence[nn.Module]) -> list[Finding]:
    """See that the folder can be written and holds a checkpoint, twice."""
    if out is None:
        return []
    bytes_needed = 8 * sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
    place = next(
        (folder for folder in (out, *out.absolute().parents) if folder.exists()), Path("/")
    )
    free = shutil.disk_usage(place).free
    if free < bytes_needed + 2**24:
        return [
            Finding(
                "error",
                f"{out}: expected {bytes_needed / 2**20 + 16:.0f} MiB of free disk for "
                f"checkpoints; got {free / 2**20:.0f} MiB. Free some, or choose another `out`.",
            )
        ]
    return []


def settle(findings: Sequence[Finding], *, force: bool) -> list[str]:
    """Return the texts that belong into the record.

    Raises:
        PreflightError: If there are errors and the run is not forced.
    """
    errors = [finding.text for finding in findings if finding.level == "error"]
    if errors and not force:
        raise PreflightError("\n".join([*errors, "(force=True or --force goes on all the same.)"]))
    return [f"forced: {text}" for text in errors] + [
        finding.text for finding in findings if finding.level == "warning"
    ]


def _accuracy_findings(logits: Tensor, labels: Tensor, accuracy: float) -> list[Finding]:
    rows, classes = logits.shape
    majority = labels.bincount(minlength=classes).max().item() / rows
    chance = max(1 / classes, majority)
    noise = 2 * (chance * (1 - chance) / rows) ** 0.5
    counts = torch.zeros(classes, classes)
    counts.index_put_((labels, logits.argmax(1)), torch.ones(rows), accumulate=True)
    matched = counts.numpy()[linear_sum_assignment(-counts.numpy())].sum() / rows
    if matched > max(accuracy + 0.2, chance + noise + 0.2):
        return [
            Finding(
                "error",
                f"teacher: {accuracy:.1%} right as its classes stand, {matched:.1%} if they are "
                "put in another order. Its classes seem to be permuted against the labels.",
            )
        ]
    if accuracy <= chance + noise:
        return [
            Finding(
                "error",
                f"teacher: {accuracy:.1%} right on {rows} rows, where guessing gives "
                f"{chance:.1%}. Check its weights, its normalisation and the labels.",
            )
        ]
    return [Finding("fact", f"teacher: {accuracy:.1%} right on {rows} rows.")]


def _reaches(value: Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    if not value.requires_grad:
        return False
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return any(bool(gradient.any()) for gradient in gradients)


def _normalisation(model: nn.Module) -> tuple[Any, Any] | None:
    for part in model.modules():
        buffers = dict(part.named_buffers(recurse=False))
        if set(buffers) == {"mean", "std"}:
            return tuple(buffers["mean"].flatten().tolist()), tuple(
                buffers["std"].flatten().tolist()
            )
    return None
