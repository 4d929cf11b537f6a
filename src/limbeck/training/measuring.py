"""The parts of a measurement: which rows are used, what networks say there, what pairs share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.capture import PENULTIMATE
from limbeck.checks import ArgumentError, DataError, check_choice
from limbeck.data import Data, bound
from limbeck.estimates import Estimate
from limbeck.information.estimate import METHODS, estimate_pid
from limbeck.information.pid_estimate import PIDEstimate
from limbeck.information.probes import Probe
from limbeck.randomness import derive_seed, keyed_uniform
from limbeck.ranks import world_size
from limbeck.tasks import Classification, Regression, task_of
from limbeck.training.candidates import Candidate
from limbeck.training.measurement import Entry
from limbeck.training.own_scores import (
    accuracy_of,
    cross_entropy_of,
    gap_of,
    posteriors_of,
    surprise_of,
)
from limbeck.training.progress import Bar
from limbeck.training.representations import LOGITS, Network, Said, known_rows, read
from limbeck.types import Batch, Task


Found = TypeVar("Found")


def checked_task(task: str | Task, method: str) -> str:
    """Return "classification" or "regression", or refuse what cannot be measured by name.

    Raises:
        ArgumentError: If it is another task, or the method does not fit it.
    """
    check_choice("measure", "method", method, METHODS)
    chosen = task_of(task)
    if isinstance(chosen, Classification):
        return "classification"
    if isinstance(chosen, Regression):
        if method != "gaussian":
            raise ArgumentError(
                f"measure: expected method='gaussian' for regression; got {method!r}. It assumes "
                "that targets and features are jointly Gaussian; or put targets into classes."
            )
        return "regression"
    name = getattr(chosen, "name", type(chosen).__name__)
    advice = {
        "multilabel": "Measure one label at a time: its column as class indices 0 and 1.",
        "embedding": "Give class indices that the vectors are to tell apart, as targets.",
    }.get(name, "Give class indices as targets, with task='classification'.")
    raise ArgumentError(
        f"measure: expected classification, or regression with method='gaussian'; got {name}. "
        f"{advice}"
    )


@dataclass
class Measuring:
    """Everything that the pairs of one measurement share, and what is noted on the way."""

    rows: Data
    example: Batch
    layers: dict[str, tuple[str, ...] | None]
    device: torch.device
    batch_size: int
    is_classification: bool
    options: dict[str, Any]
    accuracy: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    cross_entropy: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unlabelled: int = 0
    sampled: bool = False
    fitted: dict[tuple[str, str], Probe] = field(default_factory=dict)
    _noted: dict[str, set[str]] = field(default_factory=dict)
    _surprise: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def check_targets(self) -> None:
        """Refuse targets that are not the task's before any network runs."""
        targets = self.rows.targets if self.rows.targets is not None else self.example.targets
        if targets is None:
            raise DataError(
                f"measure: expected targets in {self.rows.name} to measure information about; got "
                "inputs alone. Give (input, target) rows."
            )
        if self.is_classification and (targets.is_floating_point() or targets.ndim != 1):
            raise DataError(
                "measure: expected one integer class index a row, -1 for unlabelled rows; got "
                f"{str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}. "
                "Convert them, or measure real-valued targets with task='regression', "
                "method='gaussian'."
            )

    def opened(self, one: Candidate) -> contextlib.AbstractContextManager[Network]:
        """Open a candidate with the layers of its side.

        Raises:
            StoreError: If it is a store of other rows.
        """
        if not isinstance(one.given, (str, Path)):
            one = replace(one, given=bound(one.given, self.rows))
        return one.opened(
            self.layers[one.side], self.example, self.device, with_logits=self.is_classification
        )

    def chosen_rows(self, seed: int, max_rows: int | None, memory: int, width: int) -> Tensor:
        """Return the positions to run, ascending: all, or those with the smallest numbers drawn.

        A row's number is a function of seed and position, so that neither the batch size nor the
        number of processes matters.
        """
        targets = self.rows.targets
        places = torch.arange(len(self.rows))
        if targets is not None:
            places = known_rows(targets).cpu().nonzero()[:, 0]
            self.unlabelled = len(self.rows) - len(places)
        affordable = max(memory // (4 * width), 1)
        limit = affordable if max_rows is None else min(max_rows, affordable)
        if len(places) <= limit:
            return places
        self.sampled = True
        if limit == affordable:
            self.warnings.append(
                f"{limit} of {len(places)} rows are used, chosen by the seed: {width} numbers a "
                f"row and {memory / 2**20:.0f} MiB for them allow no more. Raise `memory`, or "
                "measure fewer layers at a time."
            )
        drawn = keyed_uniform(
            derive_seed(seed, "measured rows"), places, torch.zeros_like(places), 1
        )
        return places[drawn[:, 0].argsort(stable=True)[:limit].sort().values]

    def read(
        self, networks: Sequence[Network], chosen: Tensor, bar: Bar
    ) -> tuple[Tensor, Tensor, list[Said]]:
        """Run networks over the chosen rows; see :func:`read`."""
        return read(
            networks,
            self.rows,
            chosen,
            self.example,
            batch_size=self.batch_size,
            device=self.device,
            on_batch=bar.advance,
        )

    def check_rows(self, targets: Tensor, chosen: Tensor) -> None:
        """Count the unlabelled among the rows that were run; refuse where none is left."""
        self.unlabelled += len(chosen) - len(targets)
        if not len(targets):
            raise DataError(
                f"measure: expected labelled rows in {self.rows.name}; none of {len(self.rows)} "
                "has a label. Measure on rows with targets."
            )

    def entries(
        self,
        teachers: Sequence[tuple[Candidate, Said]],
        student: tuple[Candidate, Said],
        targets: Tensor,
        bar: Bar,
    ) -> list[Entry]:
        """Estimate every pair of layers of every teacher with one student."""
        learner, heard = student
        self._note(learner, heard, targets)
        found = []
        for guide, said in teachers:
            self._note(guide, said, targets)
            for ours, theirs in product(said.layers, heard.layers):
                bar.say(f"{guide.label} ({ours}) to {learner.label} ({theirs})")
                pair = (said, ours), (heard, theirs)
                estimate = on_main_process(lambda pair=pair: self._estimated(targets, *pair))
                gap = self._gap(guide, learner)
                found.append(Entry(guide.label, learner.label, ours, theirs, estimate, gap))
        # Teachers' probes serve every student, those of this student no other one.
        self.fitted = {key: probe for key, probe in self.fitted.items() if key[0] == "teacher"}
        bar.advance(len(targets))
        return found

    def _estimated(
        self, targets: Tensor, teacher: tuple[Said, str], student: tuple[Said, str]
    ) -> PIDEstimate:
        classes = int(targets.max()) + 1 if self.is_classification else 0
        own = {
            f"{side}_posteriors": _own_posteriors(said, layer, classes)
            for side, (said, layer) in (("teacher", teacher), ("student", student))
        }
        return estimate_pid(
            targets if self.is_classification else targets.double(),
            teacher[0].layers[teacher[1]].to(self.device),  # where the estimator computes, too
            student[0].layers[student[1]],
            **own,
            **self.options,
            fitted=self.fitted,
        )

    def _note(self, candidate: Candidate, said: Said, targets: Tensor) -> None:
        """Keep how good a network's own scores are, and which of its layers say nothing."""
        if candidate.label in self._noted.setdefault(candidate.side, set()):
            return
        self._noted[candidate.side].add(candidate.label)
        for layer, rows in said.layers.items():
            if bool((rows == rows[0]).all()):
                self.warnings.append(
                    f"layer {layer!r} of {candidate.name} says the same for every row: it holds no "
                    "information."
                )
        if said.logits is None or said.logits.shape[1] <= int(targets.max()):
            return
        for into, make in ((self.accuracy, accuracy_of), (self.cross_entropy, cross_entropy_of)):
            into.setdefault(candidate.side, {})[candidate.label] = make(said.logits, targets)
        self._surprise[candidate.side, candidate.label] = surprise_of(said.logits, targets)

    def _gap(self, teacher: Candidate, student: Candidate) -> Estimate | None:
        """Compare two networks' own scores row by row, where both have some."""
        found = [self._surprise.get((one.side, one.label)) for one in (student, teacher)]
        own, theirs = found
        return None if own is None or theirs is None else gap_of(own, theirs)


def on_main_process(make: Callable[[], Found]) -> Found:
    """Compute something once and give it to every process; an error is raised on all."""
    if world_size() == 1:
        return make()
    found: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            found[0] = make()
        except Exception as problem:  # noqa: BLE001  (the others wait for an answer)
            found[1] = problem
    dist.broadcast_object_list(found, src=0)
    if found[1] is not None:
        raise found[1]
    return found[0]


def _own_posteriors(said: Said, layer: str, classes: int) -> Tensor | None:
    """Return the network's own class distribution where the layer is what it is made of."""
    if not classes or layer not in (LOGITS, PENULTIMATE):
        return None
    if said.logits is None or said.logits.shape[1] < max(classes, 2):
        return None
    return posteriors_of(said.logits, classes)
