"""One self-contained HTML file about runs: no script, no address, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from limbeck.files import write_text
from limbeck.record import RunRecord, versions
from limbeck.report import bits, forecasted, sentences, weighed
from limbeck.report.comparison import LOWER_IS_BETTER, Comparison, compare, values_of
from limbeck.report.curves import SERIES, Band, Curve, bands_of, curve_svg, panels_svg
from limbeck.report.reading import TEACHER, Study, read_study
from limbeck.report.sections import (
    assumption_rows,
    common_and_differing,
    distinct,
    time_rows,
)


_METRICS = ("accuracy", "average_precision", "r2", "mse", "cosine", "retrieval", "cross_entropy")
_MOMENTS = ("last", "best", "mean_of_last_ten")


def write_report(
    runs: Sequence[Path | str], out: Path | str, *, control: str | None = None
) -> Path:
    """Write one HTML file about runs.

    Args:
        runs: Folders of runs, or folders that hold groups ``NAME/seedK/record.json``, which are
            aggregated over their seeds.
        out: The file to write; in a folder, ``report.html``.
        control: Name of the group to compare with; None finds it: see :func:`read_study`.

    Returns:
        The file.

    Raises:
        DataError: If a folder holds no records.
        ArgumentError: If ``control`` is not among the groups, or a seed occurs twice in one.
        StorageError: If the file cannot be written.
    """
    out = Path(out)
    out = out / "report.html" if out.is_dir() else out
    write_text(out, render(read_study(runs, control=control)))
    return out


def render(study: Study) -> str:
    """Return the report as HTML; all text of records is escaped."""
    compared = comparison_of(study)
    titles = _titles(study)
    # The teacher, which is in no figure, comes last: the first student has the plain line.
    order = sorted(study.groups, key=lambda name: name == TEACHER)
    colours = {name: number % SERIES for number, name in enumerate(order)}
    records = [record for group in study.groups.values() for record in group]
    common, differing = common_and_differing(study.groups)
    title = _title(study)
    template = _environment().get_template("template.html")
    return template.render(
        title=title,
        verdict=_verdict(compared, study, titles),
        warnings=_warnings(study, compared, titles),
        notes=[] if study.summary is None else study.summary.warnings,
        table=None if compared is None else _table(compared, study, titles, colours),
        seeds_table=None if compared is None else _seeds_table(compared, titles),
        forecasted=forecasted.section(study.forecasts, _students(study), compared, titles),
        measured=None if study.measurement is None else bits.section(study.measurement),
        weighed=weighed.section(study.groups, titles, colours),
        chapters=[] if study.summary is None else study.summary.settings.get("chapters", []),
        assumptions=assumption_rows(study.groups, titles),
        figures=_figures(study, compared, titles, colours),
        times=time_rows(study.groups, titles),
        common=common,
        differing=differing,
        names=[titles[name] for name in study.groups],
        data=distinct([_plain(record.data) for record in records]),
        versions=distinct([record.versions for record in records]),
        hardware=distinct([record.hardware for record in records]),
        seeds=sorted(
            {
                record.seed
                for name, group in study.groups.items()
                for record in group
                if name != TEACHER or len(study.groups) == 1
            }
        ),
        commands=list(dict.fromkeys(record.command for record in records if record.command)),
        started=min(record.started for record in records),
        runs=len(records),
        limbeck=versions()["limbeck"],
        dashes=[_dash(number) for number in range(SERIES)],
    )


def comparison_of(study: Study) -> Comparison | None:
    """Return the comparison that a report shows: the first metric there is, on test if it can.

    None where no run has finished with a result.
    """
    groups = _students(study)
    for part in ("test", "validation"):
        for metric, moment in product(_METRICS, _MOMENTS):
            if any(values_of(group, name, metric, moment, part) for name, group in groups.items()):
                return compare(
                    groups, control=study.control, metric=metric, moment=moment, part=part
                )
    return None


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("limbeck.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": sentences.seconds, "what": sentences.what}
    return environment


def _students(study: Study) -> dict[str, list[RunRecord]]:
    """Return all groups but the teacher's, unless there is nothing else."""
    students = {name: group for name, group in study.groups.items() if name != TEACHER}
    return students or study.groups


def _titles(study: Study) -> dict[str, str]:
    given = {} if study.summary is None else study.summary.settings.get("titles", {})
    return {name: str(given.get(name, name)) for name in study.groups}


def _title(study: Study) -> str:
    if study.summary is not None and study.summary.settings.get("title"):
        return str(study.summary.settings["title"])
    return "Distillation report"


def _verdict(compared: Comparison | None, study: Study, titles: dict[str, str]) -> str:
    if compared is None:
        return "No run has finished with a result yet."
    if sum(map(len, study.groups.values())) == 1:
        row = compared.rows[0]
        value = sentences.number(next(iter(row.values.values())), compared.metric)
        where = f"{compared.part} {sentences.what(compared.metric)}"
        return (
            f"One run, {titles[row.name]}, reached {value} {where}; a single run without a control "
            "says nothing about what distillation added."
        )
    return sentences.verdict_sentence(compared, titles=titles)


def _warnings(study: Study, compared: Comparison | None, titles: dict[str, str]) -> list[str]:
    found = [*(compared.warnings if compared is not None else []), *study.damaged]
    records = [record for group in study.groups.values() for record in group]
    for name, group in study.groups.items():
        texts: dict[str, list[int]] = {}
        for record in group:
            if record.status != "finished" and compared is None:
                texts.setdefault(f"run is {record.status}", []).append(record.seed)
            for text in record.warnings:
                texts.setdefault(text, []).append(record.seed)
        found += [
            f"{titles[name]}, seed {', '.join(map(str, seeds))}: {text}"
            if len(seeds) < len(group) or len(group) == 1
            else f"{titles[name]}: {text}"
            for text, seeds in texts.items()
        ]
    if len(distinct([record.versions for record in records])) > 1:
        found.append("The runs were made with different versions; see Versions.")
    if len(distinct([record.hardware for record in records])) > 1:
        found.append("The runs were made on different hardware; times cannot be compared.")
    return found


def _table(
    compared: Comparison, study: Study, titles: dict[str, str], colours: dict[str, int]
) -> dict[str, Any]:
    metric, rows = compared.metric, []
    teacher = _teacher_value(study, compared)
    if teacher is not None:
        parameters = _parameters(study, TEACHER)
        rows.append(
            {
                "name": titles.get(TEACHER, "Teacher"),
                "colour": colours.get(TEACHER),
                "value": sentences.number(teacher, metric),
                "interval": "one network",
                "parameters": parameters,
                "seconds": _teacher_seconds(study),
                "role": "teacher",
                "difference": None,
            }
        )
    for row in compared.rows:
        single = row.estimate.status == "unresolved"
        value = next(iter(row.values.values())) if single else row.estimate.value
        rows.append(
            {
                "name": titles[row.name],
                "colour": colours[row.name],
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


def _seeds_table(compared: Comparison, titles: dict[str, str]) -> dict[str, Any]:
    seeds = sorted({seed for row in compared.rows for seed in row.values})
    return {
        "names": [titles[row.name] for row in compared.rows],
        "rows": [
            (seed, [repr(row.values[seed]) if seed in row.values else "" for row in compared.rows])
            for seed in seeds
        ],
    }


def _teacher_value(study: Study, compared: Comparison) -> float | None:
    if TEACHER in study.groups and len(study.groups) > 1:
        found = study.groups[TEACHER][0].results.get(compared.moment, {}).get(compared.part, {})
        return found.get(compared.metric)
    for group in study.groups.values():
        for record in group:
            found = record.teacher.get(compared.part)
            if isinstance(found, dict) and compared.metric in found:
                return found[compared.metric]
    return None


def _parameters(study: Study, name: str) -> int | None:
    if name in study.groups:
        return study.groups[name][0].settings.get("student_parameters")
    records = [record for group in study.groups.values() for record in group]
    return next((r.teacher["parameters"] for r in records if "parameters" in r.teacher), None)


def _teacher_seconds(study: Study) -> float | None:
    group: Sequence[RunRecord] = study.groups.get(TEACHER, [])
    return group[0].time.get("seconds") if group else None


def _figures(
    study: Study, compared: Comparison | None, titles: dict[str, str], colours: dict[str, int]
) -> list[dict[str, Any]]:
    students = _students(study)
    metric = compared.metric if compared is not None else "accuracy"
    percent = sentences.is_percent(metric)
    wanted = [
        (f"validation {metric}", f"Validation {sentences.what(metric)}", "%" if percent else ""),
        ("loss task", "Task loss on the training rows", "nats"),
        ("loss distillation", "Distillation loss, each method on its own scale", "nats"),
    ]
    figures = []
    for key, title, unit in wanted:
        curve = Curve(key, title, unit, bands_of(students, key))
        if not curve.bands:
            continue
        apart = key == "loss distillation"
        scale = 100.0 if unit == "%" else 1.0
        named = Curve(key, title, unit, [_renamed(band, titles) for band in curve.bands])
        shades = {titles[name]: number for name, number in colours.items()}
        drawn = panels_svg(named, shades) if apart else curve_svg(named, shades, scale=scale)
        figures.append(
            {
                "title": title,
                "unit": unit,
                "svg": Markup(drawn),  # our own drawing: matplotlib escapes the names in it
                "legend": [(titles[band.name], colours[band.name]) for band in curve.bands],
                "apart": apart,
                "several": any(len(students[band.name]) > 1 for band in curve.bands),
                "rows": _curve_rows(curve.bands, scale),
            }
        )
    return figures


def _renamed(band: Band, titles: dict[str, str]) -> Band:
    return Band(titles[band.name], band.epochs, band.mean, band.lower, band.upper)


def _curve_rows(bands: list[Band], scale: float) -> list[tuple[int, list[str]]]:
    by_epoch = [dict(zip(band.epochs, band.mean, strict=True)) for band in bands]
    epochs = sorted(set().union(*by_epoch))
    return [
        (epoch, [f"{scale * found[epoch]:.4g}" if epoch in found else "" for found in by_epoch])
        for epoch in epochs
    ]


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(data)
    if isinstance(shown.get("class_names"), list):
        shown["class_names"] = ", ".join(map(str, shown["class_names"]))
    return {sentences.what(name): value for name, value in shown.items()}


def _dash(number: int) -> str:
    return ("none", "5 2", "6 2 1 2", "2 2", "8 2", "2 1", "5 1 1 1 1 1", "10 4")[number]
