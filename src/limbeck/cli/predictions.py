"""A classifier's predictions as a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from limbeck.checks import ArgumentError
from limbeck.files import atomic
from limbeck.types import Batch


_MOST_CLASSES = 20  # with more, the class probabilities are left out


def write_predictions(
    path: Path, logits: Tensor | None, batch: Batch, class_names: Sequence[str] | None = None
) -> None:
    """Write one line a row: index, target, prediction, its probability, and all probabilities.

    Columns ``p_<class>`` are there up to 20 classes. A row without label has an empty target. The
    file is whole or absent.

    Raises:
        ArgumentError: If these are no class scores.
        StorageError: If the file cannot be written.
    """
    targets = batch.targets
    if (
        logits is None
        or logits.ndim != 2
        or (targets is not None and (targets.ndim != 1 or targets.is_floating_point()))
    ):
        raise ArgumentError(
            "--predictions: expected a classifier: scores [rows, classes] and one class index a "
            "row. Leave --predictions out."
        )
    probabilities = logits.double().log_softmax(1).exp()
    classes = logits.shape[1]
    names = list(class_names) if class_names and len(class_names) == classes else range(classes)
    columns = [f"p_{name}" for name in names] if classes <= _MOST_CLASSES else []
    labels = [-1] * len(batch) if targets is None else targets.tolist()
    with atomic(path) as aside, aside.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "target", "prediction", "probability", *columns])
        for index, label, row in zip(
            batch.index.tolist(), labels, probabilities.tolist(), strict=True
        ):
            best = max(range(classes), key=row.__getitem__)
            shown = [f"{value:.8g}" for value in (row[best], *(row if columns else []))]
            writer.writerow([index, "" if label < 0 else label, best, *shown])
