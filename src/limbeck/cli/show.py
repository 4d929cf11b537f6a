"""What the subcommands print: tables on standard output, remarks on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from limbeck.cli.arguments import process_index
from limbeck.record import RunRecord
from limbeck.tasks import TASKS


_MOMENTS = (
    ("last", "student, last epoch"),
    ("best", "student, best on validation"),
    ("mean_of_last_ten", "student, {mean}"),
)


def console(*, stderr: bool = False) -> Console:
    """Return a console; under a launcher every process but the main one says nothing."""
    return Console(stderr=stderr, quiet=process_index() != 0, highlight=False, soft_wrap=False)


def say(text: str, *, stderr: bool = False) -> None:
    """Print plain text."""
    console(stderr=stderr).print(text, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:
    """Print a value as JSON."""
    if process_index() == 0:
        print(json.dumps(value, indent=1))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    say(title)
    made = Table(show_header=any(columns))
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if position else "left", overflow="fold")
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    console().print(made)


def pairs(title: str, values: Mapping[str, Any]) -> None:
    """Print a table of names and values; nothing where there are none."""
    if values:
        table(title, ("", ""), [(name, _plain(value)) for name, value in values.items()])


def warnings(texts: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for text in texts:
        console(stderr=True).print(f"warning: {text}", markup=False, style="yellow")


def run_summary(record: RunRecord, folder: Path | None) -> None:
    """Print a run's warnings, then its main metric by moment and set."""
    warnings(record.warnings)
    metric = main_metric(record)
    rows = []
    teacher = _teacher_row(record, metric)
    if teacher is not None:
        rows.append(teacher)
    for moment, label in _MOMENTS:
        found = record.results.get(moment, {})
        cells = [_number(found.get(part, {}).get(metric)) for part in ("validation", "test")]
        if any(cells):
            rows.append((label.format(mean=_mean_of_the_last(record, metric)), *cells))
    title = f"{record.kind}, seed {record.seed}: {record.status}"
    table(title, ("", f"validation {metric}", f"test {metric}"), rows)
    _say_teacher_on_training_rows(record, metric)
    where = f", {folder}" if folder is not None else ""
    for store in record.teacher.get("stores", ()):
        _say_what_it_saved(store, len(record.curves.get("loss total", ())))
    say(f"{record.time.get('seconds', 0.0):.1f} s{where}")


def _say_what_it_saved(store: Mapping[str, Any], epochs: int) -> None:
    after = store.get("pays_after_epochs")
    if after is None:
        say("stored teacher: to read it takes longer than to run the teacher.")
    else:
        say(
            f"stored teacher: {store['views']} views took {store['seconds']:.1f} s; cheaper than a "
            f"live one after {after:.1f} epochs, and this run had {epochs}."
        )


def main_metric(record: RunRecord) -> str:
    """Return the metric that the run's task chooses by."""
    task = TASKS.get(str(record.settings.get("task", "")))
    if task is not None:
        return task.selection[0]
    for parts in record.results.get("last", {}).values():
        return next(iter(parts), "metric")
    return "metric"


def _mean_of_the_last(record: RunRecord, metric: str) -> str:
    """Say over how many evaluations the mean goes: ten, or as many as there were."""
    epochs = max(map(len, record.curves.values()), default=0)
    curve = record.curves.get(f"validation {metric}")
    if curve is not None:
        count = min(10, sum(value is not None for value in curve))
    else:  # the test rows, looked at in the last ten of the epochs that were planned
        count = epochs - max(int(record.settings.get("epochs", epochs)) - 10, 0)
    what = "epoch" if record.settings.get("evaluate_every", 1) == 1 else "evaluation"
    return f"mean of the last {count} {what}{'' if count == 1 else 's'}"


def _looked_at_validation(record: RunRecord) -> bool:
    """Say whether the teacher was looked at on validation rows: a store is on training rows."""
    return "validation" in record.data and "stores" not in record.teacher


def _teacher_row(record: RunRecord, metric: str) -> tuple[Any, ...] | None:
    slice_ = record.teacher.get("slice", {}) if _looked_at_validation(record) else {}
    test = record.teacher.get("test", {})
    if metric not in slice_ and metric not in test:
        return None
    rows = f" ({slice_['rows']:.0f} validation rows)" if "rows" in slice_ else ""
    return (f"teacher{rows}", _number(slice_.get(metric)), _number(test.get(metric)))


def _say_teacher_on_training_rows(record: RunRecord, metric: str) -> None:
    """Print how good the teacher is on rows that stand under no column of the table."""
    seen = record.teacher.get("slice", {})
    if metric not in seen or "rows" not in seen or _looked_at_validation(record):
        return
    mixed = "stores" in record.teacher and "class" in record.teacher  # live teachers beside
    stored = "stored " if "stores" in record.teacher else ""
    rows = "rows" if mixed and "validation" in record.data else f"{stored}training rows"
    say(f"teacher, on {seen['rows']:.0f} {rows}: {metric.replace('_', ' ')} {seen[metric]:.4f}.")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
