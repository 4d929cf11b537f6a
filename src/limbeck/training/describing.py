"""What a record says of a run before it starts, and what a resumed run must have in common."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any

from torch import nn

from limbeck.data import Data
from limbeck.record import RunRecord
from limbeck.store import TeacherStore
from limbeck.training.options import NEUTRAL, Options
from limbeck.training.step import Step
from limbeck.training.teachers import LiveTeacher
from limbeck.training.weighing import Weight, described
from limbeck.types import Task, Teacher


_DATA_OF_IDENTITY = ("rows", "augment", "labelled", "validation", "test")


def settings_of(
    step: Step,
    options: Options,
    term: nn.Module | None,
    task: Task,
    weight: Weight,
    teachers: list[Teacher],
) -> dict[str, Any]:
    """Return everything that decides what comes of a run, but for its data and seed."""
    stores = [guide for guide in teachers if isinstance(guide, TeacherStore)]
    return {
        **options.model_dump(mode="json"),
        "task": getattr(task, "name", type(task).__name__),
        "task_settings": _plain_attributes(task),
        "loss": None if term is None else type(term).__name__,
        "loss_settings": {} if term is None else _plain_attributes(term),
        "weight": described(weight),
        "weights": list(step.weights),
        "student": type(step.student).__name__,
        "student_parameters": sum(p.numel() for p in step.student.parameters()),
        "student_source": getattr(step.student, "limbeck_source", None),
        **({"teacher_stores": [_told_apart(store) for store in stores]} if stores else {}),
    }


def _told_apart(store: TeacherStore) -> dict[str, Any]:
    teacher = store.manifest.plan.fingerprints.teacher
    # All that its answers depend on: not which features lie beside them.
    keep = {name: value for name, value in asdict(store.keep).items() if name != "features"}
    return {"weights": teacher.digest, "precision": teacher.precision, "kind": store.kind, **keep}


def _plain_attributes(thing: object) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(thing).items()
        if not name.startswith("_") and name != "training" and isinstance(value, plain)
    }


def described_data(data: Data, **held_out: Data | None) -> dict[str, Any]:
    """Return how many rows there are, and what is known of them."""
    found: dict[str, Any] = {
        "rows": len(data),
        "augment": None if data.augment is None else _stable_name(data.augment),
    }
    if data.targets is not None and not data.targets.is_floating_point():
        found["labelled"] = int((data.targets >= 0).sum())
    if data.class_names is not None:
        found["class_names"] = data.class_names
    return found | {name: len(rows) for name, rows in held_out.items() if rows is not None}


def _stable_name(thing: Any) -> str:
    """Return a name that is the same in every process: repr, but never an address in memory."""
    if inspect.isroutine(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    kind = type(thing)
    plain = kind.__repr__ is object.__repr__
    return f"{kind.__module__}.{kind.__qualname__}" if plain else repr(thing)


def described_teachers(teachers: list[Teacher]) -> dict[str, Any]:
    """Return which networks teach, and what the stores among them hold."""
    live = [guide.module for guide in teachers if isinstance(guide, LiveTeacher)]
    stored = [_store_described(guide) for guide in teachers if isinstance(guide, TeacherStore)]
    found: dict[str, Any] = {}
    if live:
        found = {
            "class": ", ".join(type(module).__name__ for module in live),
            "parameters": sum(p.numel() for module in live for p in module.parameters()),
        }
    return found | ({"stores": stored} if stored else {})


def _store_described(store: TeacherStore) -> dict[str, Any]:
    plan = store.manifest.plan
    return {
        "teacher": asdict(plan.fingerprints.teacher),
        "data": plan.fingerprints.data.digest,
        "kind": store.kind,
        "dtype": store.keep.dtype,
        "layers": list(store.layers),
        "views": store.views,
        "bytes": store.manifest.bytes,
        "seconds": sum(store.manifest.seconds),
    }


def identity_of(record: RunRecord) -> dict[str, Any]:
    """What a run must have in common with the one whose checkpoint it goes on from."""
    neutral = NEUTRAL | {"device", "teacher_device"}
    settings = {name: value for name, value in record.settings.items() if name not in neutral}
    data = {name: record.data.get(name) for name in _DATA_OF_IDENTITY}
    return {"seed": record.seed, **settings, **data}
