"""Short runs that a forecast is made from: the control's beginning, and pilots."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from limbeck.data import Data
from limbeck.tasks import Classification
from limbeck.training.confirming import shortened
from limbeck.training.distil import distill


@dataclass(frozen=True)
class Budget:
    """A training budget: rows, and how they are passed.

    Attributes:
        rows: All training rows.
        labelled: Those with a label.
        settings: Arguments of :func:`limbeck.distill` for all rows.
        control: The same for the labelled rows alone, with as many optimiser steps: what a run
            without a teacher is compared by.
        steps: Optimiser steps of each.
    """

    rows: Data
    labelled: Data
    settings: Mapping[str, Any]
    control: Mapping[str, Any]
    steps: int

    @classmethod
    def of(cls, rows: Data, targets: Tensor, settings: Mapping[str, Any]) -> Budget:
        """Return the budget of training rows.

        Args:
            rows: With or without unlabelled ones.
            targets: Of all rows, -1 where a row has no label.
            settings: Arguments of :func:`limbeck.distill`, ``epochs`` and ``batch_size`` among
                them.
        """
        size, epochs = settings["batch_size"], settings["epochs"]
        steps = epochs * math.ceil(len(rows) / size)
        known = (targets >= 0).nonzero().flatten()
        if len(known) == len(rows):
            return cls(rows, rows, settings, settings, steps)
        fewer = min(size, len(known))
        passes = max(1, round(steps / math.ceil(len(known) / fewer)))
        control = shortened(settings, passes) | {"batch_size": fewer}
        return cls(rows, rows.subset(known), settings, control, steps)


def control(
    student: nn.Module, budget: Budget, *, share: float = 1.0, label_smoothing: float = 0.0
) -> nn.Module:
    """Train a copy of a student without a teacher for a share of the budget, and return it."""
    task = Classification(label_smoothing=label_smoothing)
    settings = _share_of(budget.control, share)
    return distill(copy.deepcopy(student), None, budget.labelled, task=task, **settings).student


def distilled(
    student: nn.Module, teacher: Any, budget: Budget, *, share: float = 1.0, **how: Any
) -> nn.Module:
    """Train a copy of a student with a teacher for a share of the budget, and return it."""
    settings = _share_of(budget.settings, share) | how
    return distill(copy.deepcopy(student), teacher, budget.rows, **settings).student


def gains(before: Tensor, after: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return what logits gained in accuracy [points] and in cross-entropy [bits, less is a gain].

    Example:
        >>> import torch
        >>> right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> points, bits = gains(wrong, right, torch.tensor([0]))
        >>> points, round(bits, 4)
        (100.0, 1.4427)
    """
    found = [
        (
            100.0 * (one.argmax(1) == targets).double().mean().item(),
            nn.functional.cross_entropy(one.double(), targets).item() / math.log(2.0),
        )
        for one in (before, after)
    ]
    return found[1][0] - found[0][0], found[0][1] - found[1][1]


def _share_of(settings: Mapping[str, Any], share: float) -> dict[str, Any]:
    if share == 1.0:
        return dict(settings)
    return shortened(settings, max(1, round(share * settings["epochs"])))
