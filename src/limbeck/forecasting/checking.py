"""What a forecast looks at before it trains anything: rows, labels and class scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.capture import FORWARD_ERRORS, failure_of
from limbeck.checks import DataError, LimbeckError, ModelError
from limbeck.data import Data
from limbeck.sources import check_classes
from limbeck.training.evaluate import outputs_over
from limbeck.training.preflight import first_batch
from limbeck.training.representations import in_eval


_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows with what was read of all of them.

    Attributes:
        data: The rows.
        targets: Class indices, -1 where a row has no label.
        prints: A hash of each row's input, without augmentation.
    """

    data: Data
    targets: Tensor
    prints: tuple[bytes, ...]

    @classmethod
    def of(cls, given: Any, name: str) -> Rows:
        """Read all rows once.

        Raises:
            DataError: If there are none, or targets are not one class index a row.
        """
        if given is None:
            raise DataError(
                f"forecast: expected {name} rows; got None. Give labelled rows that neither "
                "network was trained on."
            )
        data = Data.of(given, name)
        targets: list[Tensor] = []
        prints: list[bytes] = []
        for batch in data.viewed(None).batches(data.in_order(_ROWS_AT_A_TIME)):
            found = batch.targets
            targets.append(torch.full((len(batch),), -1) if found is None else found.cpu())
            prints += _prints(batch.inputs)
        labels = torch.cat(targets)
        if labels.is_floating_point() or labels.ndim != 1:
            kind = str(labels.dtype).removeprefix("torch.")
            raise DataError(
                f"forecast: expected one class index a row in {data.name}, -1 where a row has no "
                f"label; got {kind} of shape {tuple(labels.shape)}. Forecasts are for "
                "classification alone: nothing was tried for other tasks."
            )
        return cls(data, labels, tuple(prints))

    @property
    def labelled(self) -> Data:
        """The rows that have a label."""
        known = self.targets >= 0
        return self.data if bool(known.all()) else self.data.subset(known)

    def check_labels(self, classes: int) -> None:
        """Refuse labels that are absent, all the same or beyond the student's classes.

        Raises:
            DataError: If so.
        """
        name = self.data.name
        check_classes(self.targets, classes, name, torch.arange(len(self.targets)))
        kinds = self.targets[self.targets >= 0].unique()
        if not len(kinds):
            raise DataError(
                f"forecast: expected labelled rows in {name}; none of {len(self.targets)} has a "
                "label. A gain is over the student trained on labels alone, by rows with labels."
            )
        if len(kinds) == 1:
            raise DataError(
                f"forecast: expected at least two classes in {name}; all labels are "
                f"{int(kinds[0])}. Check how the data was cut."
            )


def shared_rows(training: Rows, validation: Rows) -> int:
    """Return how many validation rows also stand in the training data."""
    seen = set(training.prints)
    return sum(one in seen for one in validation.prints)


def check_apart(training: Rows, validation: Rows, *, force: bool) -> list[str]:
    """Refuse validation rows that are trained on; return it as a warning where that is forced.

    Raises:
        DataError: If there are such rows.
    """
    count = shared_rows(training, validation)
    if not count:
        return []
    said = f"{count} of {len(validation.prints)} validation rows also stand in the training data"
    if force:
        return [f"{said}: what is memorised there looks like knowledge."]
    raise DataError(
        f"forecast: expected rows that the student is not trained on; {said}. Hold rows out, or "
        "pass force=True where inputs are alike by chance."
    )


def classes_of(model: Any, name: str, rows: Data, device: torch.device) -> int:
    """Run a network over rows and return the number of its classes.

    Args:
        model: A module or a Teacher; its mode and place are restored.
        name: What messages call it.
        rows: All of them are run.
        device: Where it runs.

    Raises:
        ModelError: If it fails, or gives no class scores.
        DataError: If scores are not finite.
    """
    try:
        with in_eval(model, device):
            logits = outputs_over(model, rows, device=device)[0].logits
    except LimbeckError:
        raise
    except FORWARD_ERRORS as problem:
        inputs = first_batch(rows, device).inputs
        module = model if isinstance(model, nn.Module) else type(model)
        raise ModelError(failure_of(name, module, inputs, problem)) from None
    if logits is None or logits.ndim != 2 or logits.shape[1] < 2:
        got = "features alone" if logits is None else f"outputs of shape {tuple(logits.shape)}"
        raise ModelError(
            f"forecast: expected class scores of every row from the {name}, [rows, classes]; got "
            f"{got}. A forecast compares what both say of the classes; put a classifier on it."
        )
    bad = ~torch.isfinite(logits).all(1)
    if bool(bad.any()):
        raise DataError(
            f"forecast: expected finite class scores from the {name}; got NaN or infinity in "
            f"{int(bad.sum())} of {len(logits)} validation rows, first in row "
            f"{int(bad.nonzero()[0])}. Look for what made them: weights, or the precision."
        )
    return logits.shape[1]


def _prints(inputs: Tensor | dict[str, Tensor]) -> Iterable[bytes]:
    """Return a hash of each row; floats count as float32, so that a copy in float64 is the same."""
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    parts = []
    for name in sorted(named):
        each = named[name].detach().cpu()
        each = each.float() if each.is_floating_point() else each.long()
        parts.append(each.flatten(1) if each.ndim > 1 else each[:, None])
    for row in zip(*parts, strict=True):
        said = hashlib.blake2b(digest_size=16)
        for part in row:
            said.update(part.contiguous().numpy().tobytes())
        yield said.digest()
