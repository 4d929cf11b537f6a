"""The one look at held-out rows after training: what the student says there, and its teachers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.checks import StoreError
from limbeck.data import Data
from limbeck.store import TeacherStore
from limbeck.tasks import Classification
from limbeck.training.details import agreement, details_of
from limbeck.training.evaluate import evaluate, outputs_over
from limbeck.training.loop import Loop
from limbeck.training.teachers import LiveTeacher
from limbeck.types import Batch, Outputs


@dataclass(frozen=True)
class LastLook:
    """What a classifier said of held-out rows after its last epoch.

    Attributes:
        part: Which rows: "test", or "validation" where there are no test rows.
        outputs: Its logits.
        batch: The rows' targets.
        metrics: The task's metrics.
    """

    part: str
    outputs: Outputs
    batch: Batch
    metrics: dict[str, float]

    def details(self) -> dict[str, Any]:
        """Return the counts by class and the calibration, as a record keeps them."""
        found = details_of(_logits(self.outputs), self.batch.targets)
        return {"part": self.part, "moment": "last", **found} if found else {}


def last_look(loop: Loop) -> LastLook | None:
    """Return what the student says of test rows, else of validation rows.

    Only of classifiers on labelled rows: None for other tasks, and where there are no such rows.
    """
    part = "test" if loop.test is not None else "validation"
    data = loop.test if loop.test is not None else loop.validation
    if data is None or not isinstance(loop.inner.task, Classification):
        return None
    outputs, batch = outputs_over(
        loop.student,
        data,
        batch_size=max(256, loop.batch_size),
        device=loop.accelerator.device,
        autocast=loop.options.precision == "bf16",
    )
    if batch.targets is None or outputs.logits is None:
        return None
    return LastLook(part, outputs, batch, loop.inner.task.metrics(outputs, batch))


def look_at_teachers(loop: Loop, test: Data, look: LastLook | None) -> None:
    """Note how good each teacher is on test rows, and how far the student agrees with it there.

    A live teacher is asked once; of a stored one the store that was written for these rows is
    read, where it lies beside that of the training rows. Nothing is noted of others.
    """
    record, agreed = loop.record, {}
    for position, guide in enumerate(loop.teachers):
        name = "test" if len(loop.teachers) == 1 else f"test {position}"
        if look is None:
            if isinstance(guide, LiveTeacher):
                record.teacher[name] = evaluate(
                    guide.module, test, loop.inner.task, device=guide.device
                )
            continue
        said = _said(guide, test, max(256, loop.batch_size))
        if said is None:
            continue
        record.teacher[name] = loop.inner.task.metrics(said, look.batch)
        theirs, ours = _logits(said), _logits(look.outputs)
        if theirs.shape == ours.shape and bool(torch.isfinite(torch.stack([theirs, ours])).all()):
            agreed[name.replace("test", "teacher")] = agreement(ours, theirs)
    if agreed and record.details:
        record.details["agreement"] = agreed


def _said(guide: Any, test: Data, batch_size: int) -> Outputs | None:
    """Return a teacher's logits of the test rows; None where that would need another run of it."""
    if isinstance(guide, LiveTeacher):
        return outputs_over(guide.module, test, device=guide.device)[0]
    if isinstance(guide, TeacherStore) and guide.group is not None:
        with contextlib.suppress(StoreError):  # no store of its group was written for these rows
            found = guide.on(test.viewed(None)).only(layers=())
            if found.kind == "logits":
                return outputs_over(found, test, batch_size=batch_size)[0]
    return None


def _logits(outputs: Outputs) -> Tensor:
    assert outputs.logits is not None  # a look without logits is none
    return outputs.logits
