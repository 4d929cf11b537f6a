"""What a reader must know before believing a report: it stands first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from limbeck.record import RunRecord
from limbeck.report.comparison import Comparison
from limbeck.report.reading import Study
from limbeck.report.sections import distinct
from limbeck.report.sentences import what


_Known = tuple[int | float | None, ...]
_OF_PART = {"test": ("test", "class_names"), "validation": ("validation", "class_names")}


def remarks(study: Study, compared: Comparison | None, titles: Mapping[str, str]) -> list[str]:
    """Return warnings of the comparison, of what was given, and of the runs, each once."""
    found = [*(compared.warnings if compared is not None else []), *study.remarks]
    for name, group in study.groups.items():
        texts: dict[str, list[int]] = {}
        for record in group:
            if record.status != "finished" and (compared is None or name not in study.students):
                texts.setdefault(f"run is {record.status}", []).append(record.seed)
            for text in record.warnings:
                texts.setdefault(text, []).append(record.seed)
        found += [
            f"{titles[name]}, seed {', '.join(map(str, seeds))}: {text}"
            if len(seeds) < len(group) or len(group) == 1
            else f"{titles[name]}: {text}"
            for text, seeds in texts.items()
        ]
    found += _of_different_data(study, compared)
    found += _of_different_training(study, compared, titles)
    if len(distinct([record.versions for record in study.records])) > 1:
        found.append("The runs were made with different versions; see Versions.")
    if len(distinct([record.hardware for record in study.records])) > 1:
        found.append("The runs were made on different hardware; times cannot be compared.")
    return list(dict.fromkeys(found))


def _of_different_training(
    study: Study, compared: Comparison | None, titles: Mapping[str, str]
) -> Iterator[str]:
    """Yield where a method and its control learnt from other amounts of rows or steps.

    A demo says so itself, in its notes.
    """
    if compared is None or compared.control is None or study.summary is not None:
        return
    control = {run.seed: run for run in study.groups[compared.control]}
    for row in compared.rows:
        pairs = [(run, control[run.seed]) for run in study.groups[row.name] if run.seed in control]
        for told in (_rows_of, _steps_of):
            different = [(told(one), told(other)) for one, other in pairs]
            words = [(one[1], other[1]) for one, other in different if _differ(one[0], other[0])]
            if words:
                yield (
                    f"{titles[row.name]}: trained {words[0][0]}, {titles[compared.control]} "
                    f"{words[0][1]}: the difference is of that, too."
                )


def _differ(one: _Known, other: _Known) -> bool:
    """Say whether some number that both know is not the same, within one percent."""
    known = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return any(abs(a - b) > 0.01 * max(a, b) for a, b in known)


def _rows_of(run: RunRecord) -> tuple[_Known, str]:
    rows, labelled = run.data.get("rows"), run.data.get("labelled")
    more = "" if labelled is None else f" ({labelled:,} labelled)"
    return (rows, labelled), f"on {rows or 0:,} rows{more}"


def _steps_of(run: RunRecord) -> tuple[_Known, str]:
    """Return what the optimiser's steps are in proportion to, where the settings say all of it."""
    rows = run.data.get("rows")
    epochs, size = run.settings.get("epochs"), run.settings.get("batch_size")
    if not (rows and epochs and size) or run.settings.get("max_steps"):
        return (None,), ""
    steps = epochs * rows / size
    return (steps,), f"about {steps:,.0f} steps"


def _of_different_data(study: Study, compared: Comparison | None) -> Iterator[str]:
    """Yield what makes numbers side by side no comparison: other tasks, other held-out rows."""
    students = [record for group in study.students.values() for record in group]
    tasks = sorted({str(run.settings["task"]) for run in students if "task" in run.settings})
    if len(tasks) > 1:
        yield f"The runs have different tasks ({', '.join(tasks)}): they cannot be compared."
    part = "test" if compared is None else compared.part
    for key in _OF_PART[part]:
        values = distinct([{key: run.data[key]} for run in students if key in run.data])
        if len(values) > 1:
            told = [value[key] for value in values]
            shown = (
                f" ({' and '.join(f'{one:,}' for one in told)} {part} rows)"
                if all(isinstance(one, int) for one in told)
                else f" (other {what(key)})"
            )
            yield (
                f"The runs were evaluated on different data{shown}: their differences say nothing "
                "about the methods."
            )
    if compared is not None:
        own = [set(run.results.get(compared.moment, {}).get(compared.part, {})) for run in students]
        known = [names for names in own if names]
        if any(not names & known[0] for names in known):
            yield "The runs have no metric in common: they cannot be compared."
