"""Take the figures of a forecast from a teacher, a student and their data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Data
from limbeck.forecasting.catalogue import GROUPS, PREDICTORS, Group
from limbeck.forecasting.short_runs import Budget, control, distilled, gains
from limbeck.information.renyi import gram_matrix, renyi_mutual_information
from limbeck.training.accelerating import accelerator_for
from limbeck.training.evaluate import outputs_over
from limbeck.training.measure import measure
from limbeck.training.preflight import first_batch
from limbeck.training.representations import Network, in_eval, read
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.reporting.advice import recommend_weight


EARLY, PILOT = 0.1, 0.05  # of the epochs
SMOOTHING = 0.1
RENYI_ROWS, GRADIENT_ROWS = 500, 512


@dataclass
class Gathered:
    """Figures of one teacher and student, and what they cost.

    Attributes:
        figures: By name as in the catalogue; what is not finite or not to be had is left out.
        seconds: By group, and for the "short control".
    """

    figures: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """What a forecast is asked about.

    Attributes:
        teacher: A module.
        student: A module as it is before the distillation; it is copied.
        budget: Rows and settings of the training.
        validation: Labelled rows that neither was trained on.
        classes: Their number.
        layers: As of :func:`limbeck.measure`.
        seed: Of the estimates.
    """

    teacher: Any
    student: nn.Module
    budget: Budget
    validation: Data
    classes: int
    layers: Any = None
    seed: int = 0

    @property
    def device(self) -> str | None:
        """Where the networks run."""
        return self.budget.settings.get("device")


def gather(
    case: Case,
    groups: Collection[Group] = GROUPS,
    *,
    pilots: Mapping[str, Mapping[str, Any]] | None = None,
    early: nn.Module | None = None,
) -> tuple[Gathered, dict[str, Gathered]]:
    """Return the figures of a case.

    Args:
        case: What is asked.
        groups: Which groups of the catalogue to take.
        pilots: For the group "pilot", by name: how to distil (``loss``, ``weight``, ...).
        early: The short control, where it is there already.

    Returns:
        All figures but the pilots', and those of every pilot.
    """
    found, ways = Gathered(), _ways()
    if early is None and not ways.keys().isdisjoint(groups):
        with _timed(found, "short control"):
            early = control(case.student, case.budget, share=EARLY)
    if "set-up" in groups:
        found.figures |= _finite(_set_up(case))
    if "untrained" in groups:
        with _timed(found, "untrained"):
            bits = _distillable(case, case.student, "hull")
            found.figures |= _finite({"distillable_untrained": bits})
    for group, way in ways.items():
        if group in groups and early is not None:
            with _timed(found, group):
                found.figures |= _finite(way(case, early))
    of_pilots: dict[str, Gathered] = {name: Gathered() for name in pilots or {}}
    if "pilot" not in groups:
        of_pilots.clear()
    if "smoothing" in groups or of_pilots:
        with _timed(found, "pilot"):
            before, targets = _said(case, control(case.student, case.budget, share=PILOT))
        if "smoothing" in groups:
            with _timed(found, "smoothing"):
                smoothed = control(
                    case.student, case.budget, share=PILOT, label_smoothing=SMOOTHING
                )
                got = gains(before, _said(case, smoothed)[0], targets)
                found.figures |= _named("smoothing", got)
        for name, one in of_pilots.items():
            how = (pilots or {})[name]
            with _timed(one, "pilot"):
                short = distilled(case.student, case.teacher, case.budget, share=PILOT, **how)
                got = gains(before, _said(case, short)[0], targets)
                one.figures |= _named("pilot", got)
    return found, of_pilots


def _set_up(case: Case) -> dict[str, float]:
    rows, labelled = len(case.budget.rows), len(case.budget.labelled)
    return {
        "classes": math.log2(case.classes),
        "labels_per_class": math.log2(labelled / case.classes),
        "unlabelled_share": 1.0 - labelled / rows,
        "steps": math.log2(case.budget.steps),
    }


def _scores(case: Case, early: nn.Module) -> dict[str, float]:
    (theirs, targets), (own, _) = (_said(case, one) for one in (case.teacher, early))
    accuracy_gap, cross_entropy_gap = gains(own, theirs, targets)
    right, own_right = theirs.argmax(1) == targets, own.argmax(1) == targets
    logs = theirs.double().log_softmax(1)
    return {
        "teacher_accuracy": 100.0 * right.double().mean().item(),
        "early_accuracy": 100.0 * own_right.double().mean().item(),
        "accuracy_gap": accuracy_gap,
        "teacher_cross_entropy": nn.functional.nll_loss(logs, targets).item() / math.log(2.0),
        "cross_entropy_gap": cross_entropy_gap,
        "agreement": (theirs.argmax(1) == own.argmax(1)).double().mean().item(),
        "corrects": 100.0 * (right & ~own_right).double().mean().item(),
        "teacher_entropy": -(logs.exp() * logs).sum(1).mean().item() / math.log(2.0),
    }


def _bits(case: Case, early: nn.Module) -> dict[str, float]:
    one = _measured(case, early, "hull").estimate
    null = one.null.get("unique_teacher", 0.0)
    return {
        "distillable": one.distillable.value,
        "distillable_above_null": max(one.distillable.value - null, 0.0),
        "distilled": one.distilled.value,
        "unique_student": one.unique_student.value,
        "synergistic": one.synergistic.value,
        "teacher_knows": one.mutual_teacher.value,
        "student_knows": one.mutual_student.value,
        "probed_cross_entropy_gap": one.rivals["cross_entropy_difference"],
        "cka": one.rivals["cka"],
    }


def _distillable(case: Case, student: nn.Module, method: str) -> float:
    return _measured(case, student, method).distillable.value


def _measured(case: Case, students: Any, method: str) -> Any:
    return measure(
        case.teacher,
        students,
        case.validation,
        layers=case.layers,
        method=method,
        seed=case.seed,
        device=case.device,
    )


def _renyi(case: Case, early: nn.Module) -> dict[str, float]:
    where = accelerator_for(case.device).device
    rows = case.validation.viewed(None)
    example = first_batch(rows, where)
    chosen = torch.arange(min(RENYI_ROWS, len(rows)))
    said = []
    for name, one in (("teacher", case.teacher), ("student", early)):
        with in_eval(one, where):
            network = Network(one, None, example, name, with_logits=False)
            try:
                *_, (answers,) = read(
                    [network], rows, chosen, example, batch_size=256, device=where
                )
            finally:
                network.close()
        said.append(gram_matrix(next(iter(answers.layers.values()))))
    return {"renyi": renyi_mutual_information(*said)}


def _gradients(case: Case, early: nn.Module) -> dict[str, float]:
    """Return what the weight for the run's length takes away of noise and bias."""
    moments = gradient_moments(
        early, case.teacher, case.budget.labelled, n=GRADIENT_ROWS, curvature=False, seed=case.seed
    )
    settings = case.budget.settings
    advice = recommend_weight(
        moments,
        learning_rate=settings.get("learning_rate", 0.05),
        batch_size=settings["batch_size"],
        momentum=settings.get("momentum", 0.9),
        horizon=case.budget.steps,
    )
    weight, noise = advice.horizon.value, max(moments.tr_gg, 1e-300)
    bias = case.budget.steps * settings["batch_size"] * max(moments.hbar2, 0.0)
    left = 1.0 + (weight**2 * (moments.tr_hh + bias) - 2.0 * weight * moments.tr_gh) / noise
    return {"variance_reduction": 1.0 - left, "gradient_correlation": moments.rho}


def _ways() -> dict[Group, Callable[[Case, nn.Module], Mapping[str, float]]]:
    """Return how the figures of each group that compares with the short control are taken."""
    return {
        "scores": _scores,
        "bits": _bits,
        "cells": lambda case, early: {"distillable_cells": _distillable(case, early, "cells")},
        "k-means": lambda case, early: {"distillable_kmeans": _distillable(case, early, "kmeans")},
        "renyi": _renyi,
        "gradients": _gradients,
    }


def _said(case: Case, model: Any) -> tuple[Tensor, Tensor]:
    """Return a network's logits on the validation rows, and their labels."""
    where = accelerator_for(case.device).device
    if isinstance(model, nn.Module):
        model.to(where)
    outputs, rows = outputs_over(model, case.validation, device=where)
    assert outputs.logits is not None
    assert rows.targets is not None
    return outputs.logits, rows.targets


def _named(name: str, found: tuple[float, float]) -> dict[str, float]:
    return _finite({f"{name}_accuracy": found[0], f"{name}_cross_entropy": found[1]})


def _finite(found: Mapping[str, float]) -> dict[str, float]:
    assert set(found) <= set(PREDICTORS)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


@contextmanager
def _timed(found: Gathered, group: str) -> Generator[None]:
    started = time.perf_counter()
    yield
    found.seconds[group] = found.seconds.get(group, 0.0) + time.perf_counter() - started
