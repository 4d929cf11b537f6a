"""The text of a recipe from its parts, at most 20 lines of at most 100 characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from limbeck.cli.recipes.methods import METHODS, weight_of
from limbeck.cli.recipes.pairs import ALONE, Pair, learning_rate
from limbeck.cli.recipes.published import ACCURACIES, SOURCES


WIDTH = 100
_SECOND_STAGE = (
    "30 epochs of it alone; then, with OUT as below: limbeck train RECIPE teacher=null "
    "student.weights=OUT out=OUT-2 training.epochs=240 training.schedule=step"
)


def flow(value: Any) -> str:
    """Return YAML on one line.

    Example:
        >>> flow({"at": {"weight": 1000.0, "layer": ["stage1", "stage2"]}, "queue": None})
        '{at: {weight: 1000, layer: [stage1, stage2]}, queue: null}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def wrapped(key: str, value: Any, indent: str = "") -> list[str]:
    """Return ``key: value`` with its last entry on a line of its own where one is too short."""
    line = f"{indent}{key}: {flow(value)}"
    if len(line) <= WIDTH or not isinstance(value, Mapping):
        return [line]
    *first, last = value
    head = ", ".join(f"{name}: {flow(value[name])}" for name in first)
    *lines, end = wrapped(last, value[last], f"{indent}  ")
    return [f"{indent}{key}: {{{head},", *lines, f"{end}}}"]


def remark(text: str) -> list[str]:
    """Return a remark on as many lines as it needs."""
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = "#"
        line = f"{line} {word}"
    return [*lines, line]


def joined(lines: Iterable[str]) -> str:
    """Return lines as a text."""
    return "\n".join(lines) + "\n"


def _training(rate: float, warmup: int, first_stage: bool = False) -> list[str]:
    lines = [
        "training:",
        *(["  epochs: 30", "  schedule: constant"] if first_stage else ["  epochs: 240"]),
        "  batch_size: 64",
        f"  learning_rate: {flow(rate)}",
        "  milestones: [150, 180, 210]             # the rate falls to a tenth after each",
        "  weight_decay: 0.0005",
    ]
    return [*lines, f"  loss_warmup_epochs: {warmup}"] if warmup else lines


_DATA = "data: {name: cifar100, folder: data/cifar100, validation: 0}  # all rows, as published"


def of_pair(name: str, pair: Pair) -> str | None:
    """Return the recipe of a method for a pair, or None where nothing is published.

    Args:
        name: A key of ``METHODS``.
        pair: Teacher and student.
    """
    method = METHODS[name]
    loss = method.loss(pair)
    if loss is None:
        return None
    weight = weight_of(method, pair)
    accuracy = ACCURACIES.get(name, {}).get(pair.letter)
    said = "no published accuracy known" if accuracy is None else f"published: {accuracy} %"
    source = "" if accuracy is None else f" ({SOURCES[name]})"
    alone = f"Teacher {pair.teacher_accuracy}, student alone {pair.student_accuracy}."
    other = f'# or {{model: "zoo:{pair.teacher}", weights: FILE}}'
    lines = [
        *remark(f"{method.title} on CIFAR-100, pair {pair.letter}, {said}{source}."),
        *remark(f"{alone} {method.note}"),
        f"# Teacher first: limbeck init t.yaml --recipe train/{pair.teacher}; limbeck train t.yaml",
        *(remark(_SECOND_STAGE) if method.first_stage else []),
        "seed: 0",
        f"out: runs/{name}/{pair.name}",
        _DATA,
        f"teacher: {{folder: runs/train/{pair.teacher}}}   {other}",
        f'student: {{model: "zoo:{pair.student}"}}',
        *loss_lines(loss),
        weight_line(weight, loss),
        *_training(method.learning_rate or pair.learning_rate, method.warmup, method.first_stage),
    ]
    return joined(lines)


def loss_lines(loss: Mapping[str, Any]) -> list[str]:
    """Return the field ``loss``: one by its ``name``, or several, each with a weight."""
    if "name" in loss:
        return wrapped("loss", loss)
    lines = ["loss:"]
    for term, options in loss.items():
        lines += wrapped(term, options, "  ")
    return lines


def weight_line(weight: float | None, loss: Mapping[str, Any]) -> str:
    """Return the field ``weight`` with a remark on what it means."""
    if weight is not None:
        task = flow(round(1.0 - weight, 6))
        return f"weight: {flow(weight)}    # {task} x task + {flow(weight)} x loss"
    if "name" in loss:
        return "weight: null   # the published additive combination"
    return "weight: null   # task + each loss times its own weight"


def of_training(network: str) -> str:
    """Return the recipe that trains a network of the pairs without a teacher."""
    return joined(
        [
            f"# {network} on CIFAR-100 without a teacher; published: {ALONE[network]} %",
            "# (Tian et al. 2020, last epoch). Run it with: limbeck train RECIPE",
            "seed: 0",
            f"out: runs/train/{network}",
            _DATA,
            "teacher: null",
            f'student: {{model: "zoo:{network}"}}',
            *_training(learning_rate(network), 0),
        ]
    )
