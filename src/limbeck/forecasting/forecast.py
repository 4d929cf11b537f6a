"""forecast(): will distilling from this teacher help this student, and by how much?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from limbeck.checks import ArgumentError, ModelError, nearest
from limbeck.data import Data
from limbeck.estimates import Estimate
from limbeck.forecasting.catalogue import GROUPS, PREDICTORS, Group
from limbeck.forecasting.checking import Rows, check_apart, classes_of
from limbeck.forecasting.gathering import EARLY, PILOT, Case, gather
from limbeck.forecasting.grid import UNITS, Outcome, own_grid
from limbeck.forecasting.model import LEVEL, Gain, GainModel, model_for
from limbeck.forecasting.result import Forecast, ForecastEntry
from limbeck.forecasting.short_runs import Budget, control
from limbeck.training.accelerating import accelerator_for
from limbeck.training.candidates import Candidate, Layers, candidates, layers_by_side
from limbeck.training.options import Options, options_of
from limbeck.training.representations import in_eval
from limbeck.training.saving import load


#: Groups whose figures are another's for another layer, and those that no teacher changes.
OF_LAYER: frozenset[Group] = frozenset({"bits", "untrained", "cells", "k-means"})
OF_ALL: frozenset[Group] = frozenset({"set-up", "smoothing"})
_REFUSED = {
    "max_steps": "What a run brings depends on its length: say it by `epochs` alone.",
    "task": "Forecasts are for classification alone: leave `task` out.",
    "track": "Its short runs are nobody's to follow: leave `track` out.",
    "weight": "The cells were distilled with the published combination: leave `weight` out.",
}


def forecast(
    teacher: Any,
    student: nn.Module,
    data: Any,
    *,
    validation: Any,
    loss: str = "kd",
    pilot: bool = False,
    epochs: int = 60,
    batch_size: int | None = None,
    layers: Layers | None = None,
    seed: int = 0,
    trust: bool = False,
    **options: Any,
) -> Forecast:
    """Forecast what distilling from a teacher will bring to a student, before it is paid for.

    A tenth of the student's training without a teacher is run; figures that compare it with the
    teacher on held-out rows go into a regression that was fitted to distillations whose gain is
    known. The gain is that over the same student trained without a teacher on the labelled rows,
    for as many steps.

    Args:
        teacher: A module, a folder that limbeck saved, or a Teacher; a list or a dict
            ``{label: teacher}`` of several to rank them for this student.
        student: The module as it is before the distillation; copies of it are trained, it stays as
            it is.
        data: Training rows, whatever :class:`limbeck.Data` takes; some may have no label (-1).
        validation: Labelled rows that neither network was trained on.
        loss: A method that the known distillations were made with.
        pilot: Distil for a twentieth of the epochs, too, and forecast from what that brought.
        epochs: Of the distillation in question.
        batch_size: Rows of a step; None takes the DataLoader's, or 64.
        layers: As of :func:`limbeck.measure`; several layers of a teacher are ranked.
        seed: All randomness derives from it.
        trust: Call builders outside of limbeck that folders name.
        options: Other fields of :class:`limbeck.training.options.Options`; with ``force`` rows that
            stand in both sets are warned of only.

    Returns:
        The expected gain in accuracy [points] and cross-entropy [bits] of every teacher with 90 %
        intervals; above zero is better than without a teacher.

    Raises:
        ArgumentError: If the loss, an option or a layer is none that a forecast can be made of.
        DataError: If rows have no labels or one class only, stand in both sets, or class scores
            are not finite.
        ModelError: If a network cannot be run on these rows, gives no class scores, or the
            teacher's classes are not the student's.
    """
    models = _models(loss, pilot=pilot)
    groups = _groups(models)
    pairs = _pairs(layers, groups)
    chosen = _chosen(options | {"epochs": epochs, "batch_size": batch_size})
    guides = candidates("teacher", teacher, trust=trust)
    _check_modules(student, guides)
    training, held_out = Rows.of(data, "data"), Rows.of(validation, "validation")
    where = accelerator_for(chosen.device).device
    classes = classes_of(student, "student", held_out.data, where)
    training.check_labels(classes)
    held_out.check_labels(classes)
    warnings = check_apart(training, held_out, force=chosen.force)
    size = batch_size or training.data.batch_size or 64
    settings = chosen.model_dump() | {"batch_size": size, "seed": seed}
    budget = Budget.of(training.data, training.targets, settings)
    started = time.perf_counter()
    early = control(student, budget, share=EARLY)
    early_seconds = time.perf_counter() - started
    asked = _Asked(
        student, early, budget, held_out.labelled, classes, seed, where, groups, models, loss, pilot
    )
    entries = [entry for guide in guides for entry in asked.entries(guide, pairs)]
    return Forecast(
        entries=tuple(entries),
        loss=loss,
        cells=len(own_grid().rows),
        data={
            "name": training.data.name,
            "rows": len(budget.rows),
            "labelled": len(budget.labelled),
            "validation": len(asked.validation),
            "classes": classes,
            "class_names": training.data.class_names,
        },
        settings={
            **chosen.model_dump(mode="json"),
            "batch_size": size,
            "seed": seed,
            "steps": budget.steps,
            "layers": {
                side: names and list(names) for side, names in layers_by_side(layers).items()
            },
            "pilot": pilot,
            "shares_of_the_run": {"short control": EARLY} | ({"pilot": PILOT} if pilot else {}),
            "device": where.type,
        },
        early_seconds=early_seconds,
        warnings=tuple(warnings),
    )


@dataclass(eq=False)
class _Asked:
    """What all teachers of one forecast share, and the figures that need taking but once."""

    student: nn.Module
    early: nn.Module
    budget: Budget
    validation: Data
    classes: int
    seed: int
    device: torch.device
    groups: tuple[Group, ...]
    models: dict[Outcome, GainModel]
    loss: str
    pilot: bool
    of_all: dict[str, float] = field(default_factory=dict)

    def entries(self, guide: Candidate, pairs: Sequence[Layers | None]) -> list[ForecastEntry]:
        """Return what is expected of a teacher, for each of its layers."""
        found: list[ForecastEntry] = []
        with self._opened(guide) as module:
            self._check_teacher(guide.name, module)
            known: dict[str, float] = dict(self.of_all)
            for layers in pairs:
                groups = self._left(first=not found)
                case = Case(
                    module, self.student, self.budget, self.validation, self.classes, layers,
                    self.seed,
                )  # fmt: skip
                # A forecast is of the run as it is, also where the preflight would stop it.
                how = {self.loss: {"loss": self.loss, "force": True}}
                pilots = how if self.pilot and not found else None
                got, of_pilots = gather(case, groups, pilots=pilots, early=self.early)
                known |= got.figures
                seconds = {name: one for name, one in got.seconds.items() if name in GROUPS}
                for one in of_pilots.values():
                    known |= one.figures
                    seconds["pilot"] = seconds.get("pilot", 0.0) + one.seconds["pilot"]
                found.append(self._entry(guide.label, layers, dict(known), seconds))
        self.of_all = {name: one for name, one in known.items() if PREDICTORS[name].group in OF_ALL}
        return found

    def _left(self, *, first: bool) -> list[Group]:
        """Return the groups to take: not again what holds for all teachers, or for all layers."""
        done = OF_ALL if self.of_all else frozenset()
        return [one for one in self.groups if (first or one in OF_LAYER) and one not in done]

    @contextlib.contextmanager
    def _opened(self, guide: Candidate) -> Generator[Any]:
        """Give a teacher; its mode, precision and place are as before at the end."""
        module = guide.given
        if isinstance(module, (str, Path)):
            module = load(module, trust=guide.trust)
        with in_eval(module, self.device):
            yield module

    def _check_teacher(self, name: str, module: Any) -> None:
        classes = classes_of(module, name, self.validation, self.device)
        if classes != self.classes:
            raise ModelError(
                f"forecast: expected {self.classes} classes from the {name}, as the student's; "
                f"got {classes}. Give networks of the same classes."
            )

    def _entry(
        self,
        label: str,
        layers: Layers | None,
        figures: dict[str, float],
        seconds: dict[str, float],
    ) -> ForecastEntry:
        gains: dict[Outcome, Gain] = {
            outcome: model.predict(figures) for outcome, model in self.models.items()
        }
        outside = tuple(dict.fromkeys(text for gain in gains.values() for text in gain.outside))
        expected = {
            outcome: Estimate(
                gain.value,
                gain.lower,
                gain.upper,
                n=len(own_grid().rows),
                unit=UNITS[outcome],
                status="unresolved" if outside else "resolved",
                settings={"level": LEVEL, "kind": "conformal over data sets left out"},
            )
            for outcome, gain in gains.items()
        }
        wanted = dict.fromkeys(name for model in self.models.values() for name in model.names)
        return ForecastEntry(
            teacher=label,
            layer=None if layers is None else (layers_by_side(layers)["teacher"] or (None,))[0],
            accuracy=expected["accuracy"],
            cross_entropy=expected["cross_entropy"],
            shares={outcome: gain.shares for outcome, gain in gains.items()},
            outside=outside,
            figures=figures,
            missing=tuple(name for name in wanted if name not in figures),
            seconds=seconds,
        )


def _models(loss: str, *, pilot: bool) -> dict[Outcome, GainModel]:
    methods = own_grid().methods
    if loss not in methods:
        hint = nearest(loss, methods) if isinstance(loss, str) else ""
        raise ArgumentError(
            f"forecast: expected `loss` to be one of {', '.join(methods)}, by name; got {loss!r}."
            f"{hint} A forecast is made from distillations whose gain is known, and there are none "
            "with another loss."
        )
    return {one: model_for(loss, one, with_pilot=pilot) for one in get_args(Outcome)}


def _groups(models: dict[Outcome, GainModel]) -> tuple[Group, ...]:
    """Return the groups of the figures that the models take, in the catalogue's order."""
    wanted = {PREDICTORS[name].group for model in models.values() for name in model.names}
    return tuple(group for group in GROUPS if group in wanted)


def _pairs(layers: Layers | None, groups: Sequence[Group]) -> list[Layers | None]:
    """Return the layers one teacher's layer at a time.

    Raises:
        ArgumentError: If no figure depends on a layer, or there are several of the student.
    """
    if layers is None:
        return [None]
    by_side = layers_by_side(layers)
    if not OF_LAYER & set(groups):
        raise ArgumentError(
            "forecast: expected no `layers`: none of the figures that this forecast is made from "
            f"({', '.join(groups)}) depends on a layer. Leave them out; limbeck.measure ranks "
            "layers by their bits."
        )
    ours, theirs = by_side["teacher"] or (None,), by_side["student"]
    if theirs is not None and len(theirs) > 1:
        raise ArgumentError(
            f"forecast: expected one layer of the student; got {', '.join(theirs)}. Choose one."
        )
    return [{"teacher": one, "student": theirs} for one in ours]


def _chosen(options: dict[str, Any]) -> Options:
    for name, advice in _REFUSED.items():
        if options.pop(name, None) is not None:
            raise ArgumentError(f"forecast: expected no `{name}`. {advice}")
    return options_of("forecast", **{"progress": False, **options})


def _check_modules(student: nn.Module, guides: Sequence[Candidate]) -> None:
    if not isinstance(student, nn.Module):
        raise ModelError(
            f"forecast: expected the student to be a torch module; got {type(student).__name__}. "
            "Load a saved one with limbeck.load(folder)."
        )
    for guide in guides:
        if not isinstance(guide.given, nn.Module) and hasattr(guide.given, "on"):
            raise ModelError(
                f"forecast: expected the {guide.name} to be a module or a folder of one; got a "
                "store, which answers for its own rows alone. Give the network itself."
            )
