"""A saved student's model card: what its run's record says, in the form that model hubs read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from limbeck.record import RunRecord


SHARES = ("accuracy", "accuracy_top5", "f1", "average_precision")
UNITS = {
    "cross_entropy": "nats",
    "perplexity": "",
    "bits_per_byte": "bits",
    "mse": "squared unit of the targets",
    "mae": "unit of the targets",
}
_COUNTED = ("accuracy", "accuracy_top5")  # of a classifier: right rows among independent ones
_PARTS = ("test", "validation")
_MOMENT = {"last": "after the last epoch", "best": "of the epoch that was best on validation rows"}


def model_card(
    record: RunRecord,
    description: Mapping[str, Any],
    *,
    usage: str,
    which: str = "last",
    data_name: str | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """Return a model card in Markdown, with the metadata that model hubs read at its head.

    Every line is made of the record; what the record does not hold is left out.

    Args:
        record: Of the run that made the student.
        description: Its ``model.json``.
        usage: Python code that loads it.
        which: "last", or "best" for the epoch that was chosen on validation rows.
        data_name: What the data set is called, where it is known: the results then stand in the
            metadata, too.
        remarks: Further limits, one sentence each.

    Returns:
        The text of a ``README.md``. Accuracies have 95 % intervals of the rows they are counted on
        (Wilson); the spread over seeds is not in them.
    """
    student = str(record.settings.get("student", description["class"]))
    taught = record.kind == "distill"
    title = f"{student}, {'distilled' if taught else 'trained without a teacher'}"
    sections = [
        f"# {title}",
        _table(("", ""), _facts(record, description, data_name)),
        f"## Results\n\n{_results(record, which)}",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(record, which, remarks)),
        f"## Use\n\n```python\n{usage.strip()}\n```",
        f"## Made with\n\n{_table(('', ''), _origin(record))}",
    ]
    head = yaml.safe_dump(_metadata(record, title, which, data_name), sort_keys=False)
    return f"---\n{head}---\n\n" + "\n\n".join(sections) + "\n"


def wilson(right: float, rows: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share that was counted on independent rows.

    Example:
        >>> [round(end, 3) for end in wilson(0.5, 100)]
        [0.404, 0.596]
    """
    z2 = 1.959963984540054**2
    middle = right + z2 / (2 * rows)
    half = (z2 * (right * (1 - right) / rows + z2 / (4 * rows**2))) ** 0.5
    whole = 1 + z2 / rows
    return (middle - half) / whole, (middle + half) / whole


def _metadata(record: RunRecord, title: str, which: str, data_name: str | None) -> dict[str, Any]:
    task = str(record.settings.get("task"))
    tags = ["pytorch", *(["knowledge-distillation"] if record.kind == "distill" else []), task]
    found: dict[str, Any] = {"library_name": "limbeck", "tags": tags}
    part, metrics = _reported(record, which)
    if data_name is not None and metrics:
        result = {
            "task": {"type": task},
            "dataset": {"type": data_name, "name": data_name, "split": part},
            "metrics": [
                {"type": name, "value": value, "name": f"{part} {name}"}
                for name, value in metrics.items()
            ],
        }
        found["model-index"] = [{"name": title, "results": [result]}]
    return found


def _facts(
    record: RunRecord, description: Mapping[str, Any], data_name: str | None
) -> Iterator[tuple[str, str]]:
    settings, data = record.settings, record.data
    yield "student", f"{description['class']}, {description['parameters']:,} parameters"
    for name, value in (description.get("sizes") or {}).items():
        yield name, f"{value:,}"
    yield "task", str(settings.get("task"))
    if record.kind == "distill":
        yield from _teacher(record)
        options = _options(settings.get("loss_settings", {}))
        yield "loss", f"{settings.get('loss')}{options}"
        task, term = settings.get("weights", (None, None))
        measured = settings.get("weight")
        if measured is None or isinstance(measured, (int, float)):
            yield "weights", f"{task} of the task's loss, {term} of the distillation term"
        else:
            yield "weight of distillation", f"measured while training: {measured}"
    if data_name is not None:
        yield "data", data_name
    labelled = f", {data['labelled']:,} of them labelled" if "labelled" in data else ""
    yield "training rows", f"{data['rows']:,}{labelled}"
    if data.get("augment"):
        yield "augmentation", str(data["augment"])
    if description.get("class_names"):
        names = [str(name) for name in description["class_names"]]
        rest = f" and {len(names) - 20} more" if len(names) > 20 else ""
        yield "classes", f"{len(names)}: {', '.join(names[:20])}{rest}"
    yield (
        "training",
        (
            f"{settings.get('epochs')} epochs, batches of {settings.get('batch_size')}, "
            f"{settings.get('optimizer')}, learning rate {settings.get('learning_rate')}, "
            f"schedule {settings.get('schedule')}, seed {record.seed}"
        ),
    )


def _teacher(record: RunRecord) -> Iterator[tuple[str, str]]:
    teacher = record.teacher
    if "class" in teacher:
        yield "teacher", f"{teacher['class']}, {teacher['parameters']:,} parameters"
    for store in teacher.get("stores", ()):
        network = store["teacher"]
        yield (
            "teacher",
            (
                f"{network['name']}, {network['parameters']:,} parameters, its {store['kind']} "
                f"stored in {store['views']} views"
            ),
        )
    seen = teacher.get("slice", {})
    if "accuracy" in seen:
        rows = int(seen["rows"])
        yield "teacher's accuracy", f"{_shown('accuracy', seen['accuracy'])} on {rows:,} rows"


def _reported(record: RunRecord, which: str) -> tuple[str, dict[str, float]]:
    """Return the metrics of the test rows, or of the validation rows where there are no others."""
    found = record.results.get(which, {})
    part = next((part for part in _PARTS if found.get(part)), "")
    return part, {name: value for name, value in found.get(part, {}).items() if name != "epoch"}


def _results(record: RunRecord, which: str) -> str:
    part, metrics = _reported(record, which)
    if not metrics:
        return "The record holds no results: no rows were given to evaluate on."
    rows = int(record.data[part])
    lines = [
        (name, _shown(name, value), _interval(record, name, value, rows))
        for name, value in metrics.items()
    ]
    text = _table(("metric", "value", "95 % interval"), lines)
    teacher = record.teacher.get(part, {})
    beside = ", ".join(f"{name} {_shown(name, value)}" for name, value in teacher.items())
    return f"Student {_MOMENT[which]}, on {rows:,} {part} rows.\n\n{text}" + (
        f"\n\nThe teacher on the same rows: {beside}." if beside else ""
    )


def _interval(record: RunRecord, name: str, value: float, rows: int) -> str:
    if name not in _COUNTED or record.settings.get("task") != "classification":
        return ""
    lower, upper = wilson(value, rows)
    return f"[{100 * lower:.1f}, {100 * upper:.1f}] %"


def _limits(record: RunRecord, which: str, remarks: Sequence[str]) -> Iterator[str]:
    part, metrics = _reported(record, which)
    if any(name in _COUNTED for name in metrics):
        yield (
            "The intervals are of the rows alone (Wilson; all rows taken as labelled and "
            f"independent). One run with seed {record.seed}: the spread over seeds is not in them."
        )
    else:
        yield f"One run with seed {record.seed}: the spread over seeds is not known."
    if part == "validation":
        yield "No test rows were given: the results are of rows that choices were made on."
    if record.status != "finished":
        yield f"The run is {record.status}: it did not come to its end."
    yield from record.warnings
    yield from remarks


def _origin(record: RunRecord) -> Iterator[tuple[str, str]]:
    yield from record.versions.items()
    yield "processor", str(record.hardware.get("processor", "unknown"))
    if "accelerator" in record.hardware:
        yield "accelerator", str(record.hardware["accelerator"])
    if "seconds" in record.time:
        yield "training time", f"{record.time['seconds']:.0f} s"
    yield "started", record.started
    if record.command:
        yield "command", f"`{record.command}`"


def _options(settings: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    return f" ({shown})" if shown else ""


def _shown(name: str, value: float) -> str:
    if name in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:.4g} {UNITS.get(name, '')}".rstrip()


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
