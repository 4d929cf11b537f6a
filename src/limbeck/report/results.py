"""The table of results: teachers, control and students, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from limbeck.estimates import Estimate
from limbeck.record import RunRecord
from limbeck.report import sentences
from limbeck.report.comparison import LOWER_IS_BETTER, Comparison, mean_estimate, values_of
from limbeck.report.reading import Study, is_teacher


def table(compared: Comparison, study: Study, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the results for the template: teachers first, then students in their order."""
    metric = compared.metric
    rows = [
        {
            "name": name,
            "value": sentences.number(value, metric),
            "interval": "one network" if runs is None else sentences.interval(runs, metric),
            "parameters": parameters,
            "seconds": spent,
            "role": "teacher",
            "difference": None,
        }
        for name, value, runs, parameters, spent in _teachers(study, compared, titles)
    ]
    for row in compared.rows:
        single = row.estimate.status == "unresolved"
        value = next(iter(row.values.values())) if single else row.estimate.value
        rows.append(
            {
                "name": titles[row.name],
                "value": sentences.number(value, metric),
                "interval": sentences.interval(row.estimate, metric),
                "parameters": _parameters(study, row.name),
                "seconds": row.seconds,
                "role": "control" if row.name == compared.control else "method",
                "difference": _difference(row.difference, metric),
            }
        )
    return {
        "rows": rows,
        "metric": sentences.what(metric),
        "part": compared.part,
        "moment": {"last": "student after the last epoch", "best": "best epoch on validation"}.get(
            compared.moment, "mean of the last ten evaluations"
        ),
        "lower": metric in LOWER_IS_BETTER,
        "control": titles.get(compared.control) if compared.control else None,
        "points": sentences.is_percent(metric),
    }


def _difference(difference: Any, metric: str) -> dict[str, Any] | None:
    if difference is None:
        return None
    unresolved = difference.verdict == "unresolved"
    return {
        "value": "" if unresolved else sentences.gain(difference.estimate.value, metric),
        "interval": sentences.interval(difference.estimate, metric, signed=True),
        "verdict": difference.verdict,
        "won": f"{difference.wins} of {difference.pairs}",
    }


def seeds_table(compared: Comparison, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the compared metric of every run, unrounded."""
    seeds = sorted({seed for row in compared.rows for seed in row.values})
    return {
        "names": [titles[row.name] for row in compared.rows],
        "rows": [
            (seed, [repr(row.values[seed]) if seed in row.values else "" for row in compared.rows])
            for seed in seeds
        ],
    }


def _teachers(
    study: Study, compared: Comparison, titles: Mapping[str, str]
) -> Iterator[tuple[str, float, Estimate | None, int | None, float | None]]:
    """Yield teachers that were trained here, or else the one that the runs tell of.

    Each with its name, metric, interval where it has several seeds, parameters and seconds.
    """
    own = [name for name in study.groups if is_teacher(name) and name not in study.students]
    for name in own:
        group = study.groups[name]
        values = values_of(group, name, compared.metric, compared.moment, compared.part)
        if not values:
            continue
        mean = mean_estimate(list(values.values()), unit="fraction")
        spent = [run.time["seconds"] for run in group if "seconds" in run.time]
        yield (
            titles[name],
            mean.value,
            mean if len(values) > 1 else None,
            _parameters(study, name),
            sum(spent) / len(spent) if spent else None,
        )
    if own:
        return
    told: dict[str, tuple[float, int | None]] = {}
    for record in study.records:
        found = record.teacher.get(compared.part)
        if isinstance(found, Mapping) and compared.metric in found:
            value, size = found[compared.metric], _size_of_teacher(record)
            # The same teacher, live and stored, may differ by rounding.
            _, before = told.get(f"{value:.6g}", (value, None))
            told[f"{value:.6g}"] = value, before or size
    for at, (value, size) in enumerate(told.values()):
        yield "Teacher" if len(told) == 1 else f"Teacher {at}", value, None, size, None


def _size_of_teacher(record: RunRecord) -> int | None:
    stored = [store["teacher"].get("parameters") for store in record.teacher.get("stores", ())]
    return next(
        (one for one in (record.teacher.get("parameters"), *stored) if one is not None), None
    )


def _parameters(study: Study, name: str) -> int | None:
    return study.groups[name][0].settings.get("student_parameters")
