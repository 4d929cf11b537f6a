"""A short race before a run: no distillation, the published weight, and the measured one."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.checks import ArgumentError, check_between
from limbeck.tasks import selection_of, task_of
from limbeck.training.terms import loss_of, weights_of
from limbeck.training.weighing import adaptive_of, check_weighable


PILOT = 0.1  # of the epochs
FOLDER = "pilot"


@dataclass(frozen=True)
class Race:
    """How three weights did in a pilot.

    Attributes:
        winner: Name of the best: "none", "published" or "measured".
        weight: What the run is to use.
        told: For the record: metric, epochs, and each pilot's value and weight.
    """

    winner: str
    weight: Any
    told: dict[str, Any]


def wants_race(weight: Any) -> bool:
    """Say whether a weight is a mapping that asks for a pilot (``confirm``)."""
    return isinstance(weight, Mapping) and bool(weight.get("confirm", False))


def race(
    run: Callable[..., Any],
    student: nn.Module,
    teacher: Any,
    data: Any,
    *,
    weight: Any,
    out: Path | None,
    **settings: Any,
) -> Race:
    """Train copies of a student shortly with three weights, and compare them on validation data.

    The weights are 0, the share of the method's published combination, and the measured one. All
    have the same seed, rows and steps; the last epoch's validation metric decides, and the first of
    equals, in this order, wins.

    Args:
        run: :func:`limbeck.distill`.
        student: Copied; it stays as it is.
        teacher: As the run has it.
        data: As the run has it.
        weight: Mode and options of the measured weight, with ``confirm`` and, where wanted,
            ``pilot``: the share of the epochs in (0, 1], a tenth by default.
        out: The run's folder; pilots are kept in its folder ``pilot`` so that a run that is resumed
            need not race again.
        settings: The other arguments of :func:`limbeck.distill`.

    Raises:
        ArgumentError: If there is no validation data, ``pilot`` is out of range, an option is
            unknown, or the loss is no mean over samples.
    """
    options = {name: value for name, value in weight.items() if name not in ("confirm", "pilot")}
    share = weight.get("pilot", PILOT)
    check_between("distill", 0.0, 1.0, pilot=share)
    if settings.get("validation") is None:
        raise ArgumentError(
            "distill: expected validation data for a weight with confirm=True, which races three "
            "weights on it; got none. Give `validation`, or drop `confirm`."
        )
    task = task_of(settings["task"])
    term = loss_of(settings["loss"], settings.get("layers"), task, settings["seed"])
    labels, distillation = weights_of(term, None)
    # Refuses what it does not know before the first pilot.
    adaptive = adaptive_of(options, (labels, distillation), 1)
    check_weighable(adaptive, [term], settings["loss_warmup_epochs"], forced=settings["force"])
    published = distillation / (labels + distillation) if labels + distillation > 0 else 0.0
    epochs = max(1, round(share * settings["epochs"]))
    weights = {"none": 0.0, "published": published, "measured": options}
    name, direction = selection_of(task)
    values: dict[str, float] = {}
    for which, one in weights.items():
        place = None if out is None else out / FOLDER / which
        short = settings | {"epochs": epochs, "resume": place is not None}
        record = run(copy.deepcopy(student), teacher, data, weight=one, out=place, **short).record
        found = record.results["last"]["validation"]
        values[which] = found[name] if name else next(iter(found.values()))
    best = max(values.values()) if direction == "max" else min(values.values())
    winner = next(which for which, value in values.items() if value == best)
    told = {
        "metric": name,
        "epochs": epochs,
        "winner": winner,
        "published": published,
        "validation": values,
    }
    return Race(winner, weights[winner], told)


def forget_race(out: Path) -> None:
    """Remove the pilots of an earlier run in a folder that is about to start anew."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
