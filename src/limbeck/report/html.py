"""One self-contained HTML file about runs: no script, no address, nothing to load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.files import write_text
from limbeck.record import versions
from limbeck.report import (
    bits,
    calibrated,
    classes,
    costs,
    figures,
    forecasted,
    outlooks,
    results,
    sentences,
    weighed,
)
from limbeck.report.comparison import Comparison, compare, values_of
from limbeck.report.pictures import SERIES, Picture
from limbeck.report.reading import Study, is_teacher, read_study
from limbeck.report.remarks import remarks
from limbeck.report.sections import (
    assumption_rows,
    common_and_differing,
    distinct,
    time_rows,
)


_METRICS = ("accuracy", "average_precision", "r2", "mse", "cosine", "retrieval", "cross_entropy")
_MOMENTS = ("last", "best", "mean_of_last_ten")
_DASHES = ("none", "5 2", "6 2 1 2", "2 2", "8 2", "2 1", "5 1 1 1 1 1", "10 4")


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
    return write_study(read_study(runs, control=control), out)


def write_study(study: Study, out: Path | str) -> Path:
    """Write one HTML file about runs that were read; see :func:`write_report`."""
    out = Path(out)
    out = out / "report.html" if out.is_dir() else out
    write_text(out, render(study))
    return out


def render(study: Study) -> str:
    """Return the report as HTML; all text of records is escaped."""
    return _environment().get_template("template.html").render(contents(study))


def contents(study: Study) -> dict[str, Any]:
    """Return what the template shows, part by part; numbers are words already."""
    compared = comparison_of(study)
    titles = titles_of(study)
    # Teachers, which are in no figure, come last: the first student has the plain line.
    order = sorted(study.groups, key=is_teacher)
    colours = {name: number % SERIES for number, name in enumerate(order)}
    students, records, damaged = study.students, study.records, []
    common, differing = common_and_differing(study.groups)
    memory = costs.memory_rows(study.groups, titles)
    beside = study.beside
    found = {
        "measurements": _sections(bits.section, beside.measurements, damaged),
        "outlooks": _sections(outlooks.section, beside.weights, damaged),
        "plans": _sections(costs.plan, beside.plans, damaged),
    }
    metric = compared.metric if compared is not None else "accuracy"
    return {
        "title": _title(study),
        "verdict": _verdict(compared, study, titles),
        "warnings": [*remarks(study, compared, titles), *damaged],
        "notes": [] if study.summary is None else study.summary.warnings,
        "table": None if compared is None else results.table(compared, study, titles),
        "seeds_table": None if compared is None else results.seeds_table(compared, titles),
        "forecasted": forecasted.section(study.forecasts, students, compared, titles),
        "weighed": weighed.section(study.groups, titles, colours),
        "chapters": study.chapters,
        "assumptions": assumption_rows(study.groups, titles),
        "classes": classes.section(students, study.control, titles),
        "calibrated": calibrated.section(students, titles, colours),
        "agreed": calibrated.agreed(students, titles),
        "figures": figures.section(study, metric, titles, colours),
        "costs": costs.rows(students, titles),
        "times": [
            {**row, "memory": memory.get(row["name"], {})}
            for row in time_rows(study.groups, titles)
        ],
        "memory_kinds": sorted({kind for row in memory.values() for kind in row}, reverse=True),
        "common": common,
        "differing": differing,
        "names": [titles[name] for name in study.groups],
        "data": distinct([_plain(record.data) for record in records]),
        "versions": distinct([record.versions for record in records]),
        "hardware": distinct([record.hardware for record in records]),
        "seeds": sorted({record.seed for group in students.values() for record in group}),
        "commands": list(dict.fromkeys(record.command for record in records if record.command)),
        "started": min(record.started for record in records),
        "runs": len(records),
        "limbeck": versions()["limbeck"],
        "dashes": _DASHES,
        **found,
    }


def pictures_of(shown: Mapping[str, Any]) -> Iterator[Picture]:
    """Yield every figure of a report, in the order of the page.

    Args:
        shown: What :func:`contents` returned.
    """
    parts = [shown["forecasted"], *shown["measurements"], shown["weighed"], *shown["outlooks"]]
    for part in parts:
        for figure in () if part is None else part["figures"]:
            yield figure["picture"]
    if shown["calibrated"] is not None:
        yield shown["calibrated"]["figure"]["picture"]
    for figure in shown["figures"]:
        yield figure["picture"]


def comparison_of(study: Study) -> Comparison | None:
    """Return the comparison that a report shows: the first metric there is, on test if it can.

    None where no run has finished with a result.
    """
    groups = study.students
    for part in ("test", "validation"):
        for metric, moment in product(_METRICS, _MOMENTS):
            if any(values_of(group, name, metric, moment, part) for name, group in groups.items()):
                return compare(
                    groups,
                    control=study.control if study.control in groups else None,
                    metric=metric,
                    moment=moment,
                    part=part,
                )
    return None


def titles_of(study: Study) -> dict[str, str]:
    """Return what the groups are called: a demo has names for people."""
    given = {} if study.summary is None else study.summary.settings.get("titles", {})
    return {name: str(given.get(name, name)) for name in study.groups}


def _sections(
    make: Callable[[Mapping[str, Any], str, str], dict[str, Any]],
    found: Mapping[str, Mapping[str, Any]],
    damaged: list[str],
) -> list[dict[str, Any]]:
    """Return a part for each file beside the runs; what cannot be read is named in ``damaged``."""
    parts = []
    for number, (place, record) in enumerate(found.items(), 1):
        try:
            parts.append(make(record, place, f" {number}" if len(found) > 1 else ""))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as problem:
            damaged.append(
                f"{place}: expected a file of this limbeck ({type(problem).__name__}: {problem}). "
                "It is left out: write it again."
            )
    return parts


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


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(data)
    if isinstance(shown.get("class_names"), list):
        shown["class_names"] = ", ".join(map(str, shown["class_names"]))
    return {sentences.what(name): value for name, value in shown.items()}
