"""A short race before a run: no distillation, the published weight, and the measured one."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from limbeck.checks import ArgumentError, check_between
from limbeck.tasks import selection_of, task_of
from limbeck.training.evaluate import outputs_over
from limbeck.training.resampled import resampled_metrics
from limbeck.training.terms import loss_of, weights_of
from limbeck.training.weighing import adaptive_of, check_weighable
from limbeck.types import Outputs


PILOT = 0.1  # of the epochs
SURE = 0.95  # of the resampled validation sets
FOLDER, MEASURED = "pilot", "measured"


@dataclass(frozen=True)
class Race:
    """How three weights did in a pilot.

    Attributes:
        winner: Name of the best: "none", "published" or "measured".
        weight: What the run is to use.
        told: For the record: metric, epochs, each pilot's value, and the share of resampled
            validation sets in which the others were better than the measured one.
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
    have the same seed, rows and steps, and the learning rate's whole schedule in the epochs that
    they have: what a weight is worth shows at its end. The last epoch's validation metric decides.
    The measured weight wins unless another is better in 95 % of all choices of validation rows, as
    a few rows more or less right say nothing; where rows have no targets, it wins among equals.

    Args:
        run: :func:`limbeck.distill`.
        student: Copied; it stays as it is.
        teacher: As the run has it.
        data: As the run has it.
        weight: Mode and options of the measured weight, with ``confirm`` and, where wanted,
            ``pilot``: the share of the epochs in (0, 1], a tenth by default; one epoch at least,
            and of ``max_steps`` the same share.
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
    adaptive = adaptive_of(options, (labels, distillation), 1, 64)
    check_weighable(adaptive, [term], settings["loss_warmup_epochs"], forced=settings["force"])
    published = distillation / (labels + distillation) if labels + distillation > 0 else 0.0
    epochs = max(1, round(share * settings["epochs"]))
    weights = {"none": 0.0, "published": published, MEASURED: options}
    name, direction = selection_of(task)
    values: dict[str, float] = {}
    said: dict[str, Outputs] = {}
    rows = None
    for which, one in weights.items():
        place = None if out is None else out / FOLDER / which
        short = shortened(settings, epochs) | {"resume": place is not None}
        result = run(copy.deepcopy(student), teacher, data, weight=one, out=place, **short)
        found = result.record.results["last"]["validation"]
        values[which] = found[name] if name else next(iter(found.values()))
        device = next(result.student.parameters()).device
        said[which], rows = outputs_over(result.student, settings["validation"], device=device)
    sign = 1 if direction == "max" else -1
    rivals, better = [which for which in values if which != MEASURED], None
    if rows is not None and rows.targets is not None:
        drawn = resampled_metrics(said, rows, task, name)
        better = {
            which: float(np.mean([sign * (a - b) > 0 for a, b in zip(*pair, strict=True)]))
            for which in rivals
            for pair in [(drawn[which], drawn[MEASURED])]
        }
    sure = [
        which
        for which in rivals
        if (
            sign * (values[which] - values[MEASURED]) > 0
            if better is None
            else better[which] >= SURE
        )
    ]
    winner = max(sure, key=lambda which: sign * values[which], default=MEASURED)
    told = {
        "metric": name,
        "epochs": epochs,
        "winner": winner,
        "published": published,
        "validation": values,
        "better_than_measured": better,
    }
    return Race(winner, weights[winner], told)


def shortened(settings: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the settings of a run for fewer epochs, with all of its schedule.

    Args:
        settings: Arguments of :func:`limbeck.distill`, ``epochs`` among them. A limit on the steps
            becomes shorter by the same factor.
        epochs: Of the shorter run.
    """
    share = epochs / settings["epochs"]
    short = dict(settings) | {"epochs": epochs}
    if "milestones" in settings:  # fractions suit any length
        stones = (one / settings["epochs"] if one >= 1 else one for one in settings["milestones"])
        short["milestones"] = tuple(one for one in stones if one < 1)
    for name in ("warmup_epochs", "loss_warmup_epochs"):
        if name in settings:
            short[name] = share * settings[name]
    if settings.get("max_steps") is not None:
        short["max_steps"] = max(1, round(share * settings["max_steps"]))
    return short


def forget_race(out: Path) -> None:
    """Remove the pilots of an earlier run in a folder that is about to start anew."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
