"""What a report shows, for other programs: PNG, PDF, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.estimates import Estimate
from limbeck.files import write_text
from limbeck.record import RunRecord
from limbeck.report.comparison import FRACTIONS, Comparison
from limbeck.report.html import comparison_of, contents, pictures_of
from limbeck.report.reading import Study


Groups = Mapping[str, Sequence[RunRecord]]
Row = Sequence[Any]
_NATS = ("cross_entropy", "loss", "loss task", "loss distillation", "loss total", "kl")


def write_figures(study: Study, folder: Path) -> list[Path]:
    """Write every figure of a report as PNG (300 dots an inch) and PDF.

    Args:
        study: What the report is about.
        folder: Made if absent; files of the same names are replaced.

    Returns:
        The files, in the order of the page.

    Raises:
        StorageError: If one cannot be written.
    """
    return [path for one in pictures_of(contents(study)) for path in one.save(folder)]


def write_tables(study: Study, folder: Path) -> list[Path]:
    """Write ``results``, ``differences``, ``curves``, ``classes`` and ``calibration`` as CSV.

    A table without rows is not written. Units stand in the header.

    Args:
        study: What the report is about.
        folder: Made if absent; files of the same names are replaced.

    Returns:
        The files.

    Raises:
        StorageError: If one cannot be written.
    """
    tables = {
        "results": _results(study.groups),
        "differences": _differences(comparison_of(study)),
        "curves": _curves(study.groups),
        "classes": _classes(study.groups),
        "calibration": _calibration(study.groups),
        "agreement": _agreement(study.groups),
    }
    paths = []
    for name, (header, rows) in tables.items():
        if rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([header, *rows])
            paths.append(folder / f"{name}.csv")
            write_text(paths[-1], text.getvalue())
    return paths


def comparison_dict(study: Study) -> dict[str, Any]:
    """Return a study's comparison as plain numbers and strings, for JSON; None for no end.

    Numbers are fractions and nats, not percent; a difference is method less control.
    """
    compared = comparison_of(study)
    shown = contents(study)
    found: dict[str, Any] = {"verdict": shown["verdict"], "warnings": shown["warnings"]}
    if compared is None:
        return found | {"metric": None, "rows": []}
    return found | {
        "metric": compared.metric,
        "moment": compared.moment,
        "part": compared.part,
        "control": compared.control,
        "rows": [
            {
                "name": row.name,
                "values": {str(seed): value for seed, value in row.values.items()},
                "estimate": _plain(row.estimate),
                "difference": None
                if row.difference is None
                else {
                    "estimate": _plain(row.difference.estimate),
                    "verdict": row.difference.verdict,
                    "wins": row.difference.wins,
                    "pairs": row.difference.pairs,
                },
                "seconds": _finite(row.seconds),
            }
            for row in compared.rows
        ],
    }


def with_unit(name: str) -> str:
    """Return a quantity's name with its unit.

    Example:
        >>> with_unit("validation accuracy"), with_unit("loss task"), with_unit("mse")
        ('validation accuracy [fraction]', 'loss task [nats]', 'mse')
    """
    bare = name.removeprefix("validation ")
    if bare in FRACTIONS:
        return f"{name} [fraction]"
    return f"{name} [nats]" if bare in _NATS or bare.startswith("loss ") else name


def _results(groups: Groups) -> tuple[Row, list[Row]]:
    """Return every metric of every run, by moment and rows."""
    cells = [
        (name, run, moment, part, found)
        for name, group in groups.items()
        for run in group
        for moment, parts in run.results.items()
        for part, found in parts.items()
        if part in ("test", "validation")
    ]
    metrics = list(dict.fromkeys(metric for *_, found in cells for metric in found))
    header = ["network", "seed", "status", "moment", "rows", *map(with_unit, metrics)]
    header += ["time of the run [s]", "peak resident memory [MiB]", "peak device memory [MiB]"]
    return header, [
        [
            name,
            run.seed,
            run.status,
            moment,
            part,
            *(found.get(metric, "") for metric in metrics),
            run.time.get("seconds", ""),
            run.memory.get("resident", ""),
            run.memory.get("device", ""),
        ]
        for name, run, moment, part, found in cells
    ]


def _differences(compared: Comparison | None) -> tuple[Row, list[Row]]:
    if compared is None:
        return [], []
    unit = compared.rows[0].estimate.unit
    numbers = ("mean", "from", "to", "difference", "difference from", "difference to")
    header = ["network", "control", "rows", "metric", *(f"{one} [{unit}]" for one in numbers)]
    rows = []
    for row in compared.rows:
        told = row.difference
        rows.append(
            [
                row.name,
                compared.control or "",
                compared.part,
                compared.metric,
                *_numbers(row.estimate),
                *(["", "", ""] if told is None else _numbers(told.estimate)),
                "" if told is None else told.verdict,
                "" if told is None else told.wins,
                "" if told is None else told.pairs,
            ]
        )
    return [*header, "verdict", "seeds won", "seeds compared"], rows


def _curves(groups: Groups) -> tuple[Row, list[Row]]:
    names = list(
        dict.fromkeys(key for group in groups.values() for run in group for key in run.curves)
    )
    rows = []
    for name, group in groups.items():
        for run in group:
            for epoch in range(max(map(len, run.curves.values()), default=0)):
                found = [_at(run.curves.get(key, ()), epoch) for key in names]
                rows.append([name, run.seed, epoch + 1, *found])
    return ["network", "seed", "epoch", *map(with_unit, names)], rows


def _classes(groups: Groups) -> tuple[Row, list[Row]]:
    header = ["network", "seed", "rows of", "class", "rows", "predicted", "right"]
    rows = []
    for name, run, counts in _details(groups, "classes"):
        names = run.data.get("class_names")
        size = len(counts["rows"])
        for at in range(size):
            called = names[at] if isinstance(names, list) and len(names) == size else at
            numbers = [counts[key][at] for key in ("rows", "predicted", "right")]
            shares = [numbers[2] / one if one else "" for one in numbers[:2]]
            rows.append([name, run.seed, run.details["part"], called, *numbers, *shares])
    return [*header, "recall [fraction]", "precision [fraction]"], rows


def _calibration(groups: Groups) -> tuple[Row, list[Row]]:
    header = ["network", "seed", "rows of", "confidence above [fraction]"]
    header += ["confidence up to [fraction]", "rows", "mean confidence [fraction]"]
    rows = []
    for name, run, found in _details(groups, "calibration"):
        bins = found["bins"]
        for at, one in enumerate(bins):
            edges = [at / len(bins), (at + 1) / len(bins)]
            numbers = ["" if one[key] is None else one[key] for key in ("confidence", "accuracy")]
            rows.append([name, run.seed, run.details["part"], *edges, one["rows"], *numbers])
    return [*header, "accuracy [fraction]"], rows


def _agreement(groups: Groups) -> tuple[Row, list[Row]]:
    header = ["network", "seed", "teacher", "rows", "same class [fraction]", "KL [nats]"]
    return header, [
        [name, run.seed, teacher, one["rows"], one["same_class"], one["kl"]]
        for name, run, found in _details(groups, "agreement")
        for teacher, one in found.items()
    ]


def _details(groups: Groups, key: str) -> Iterator[tuple[str, RunRecord, Mapping[str, Any]]]:
    for name, group in groups.items():
        for run in group:
            if key in run.details:
                yield name, run, run.details[key]


def _at(curve: Sequence[float | None], epoch: int) -> float | str:
    value = curve[epoch] if epoch < len(curve) else None
    return "" if value is None else value


def _numbers(estimate: Estimate) -> list[float | str]:
    """Return value and ends; an end that is not there is left out."""
    ends = [one if math.isfinite(one) else "" for one in (estimate.lower, estimate.upper)]
    return [estimate.value, *ends]


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {
        name: _finite(value) if isinstance(value, float) else value
        for name, value in asdict(estimate).items()
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
