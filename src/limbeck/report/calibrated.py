"""How sure students are against how often they are right, and how far they follow their teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from limbeck.record import RunRecord
from limbeck.report.comparison import mean_estimate
from limbeck.report.curves import add_legend, dress, style
from limbeck.report.pictures import Palette, Picture
from limbeck.report.sentences import interval, number


Groups = Mapping[str, Sequence[RunRecord]]
Bin = tuple[float, float, float, int]  # upper edge, mean confidence, accuracy, rows
DEFINITION = (
    "The expected calibration error is the mean gap between confidence (the largest probability) "
    "and accuracy over {bins} equally wide bins of confidence, weighted by their rows (Guo et al. "
    "2017, arXiv 1706.04599): 0 is best, and a student that is never sure of anything can have it. "
    "With few rows a bin it is biased upwards."
)


def section(
    groups: Groups, titles: Mapping[str, str], colours: Mapping[str, int]
) -> dict[str, Any] | None:
    """Return the errors with intervals over seeds, and the reliability figure.

    None where no run has them.
    """
    found = {name: known for name, group in groups.items() if (known := _of(group))}
    if not found:
        return None
    lines = {name: pooled([one["bins"] for one in known]) for name, known in found.items()}
    counts = sorted({len(one["bins"]) for known in found.values() for one in known})
    shades = {titles[name]: colours[name] for name in found}
    named = {titles[name]: bins for name, bins in lines.items()}
    picture = Picture(
        "calibration",
        f"Accuracy by confidence: {', '.join(named)}",
        lambda palette: _figure(named, shades, palette),
    )
    return {
        "definition": DEFINITION.format(bins=" and ".join(map(str, counts))),
        "rows": [
            {"name": titles[name], **_error([one["error"] for one in known])}
            for name, known in found.items()
        ],
        "figure": {
            "title": "Accuracy by confidence",
            "unit": "%",
            "picture": picture,
            "legend": [(titles[name], colours[name]) for name in found],
            "note": "On the dotted line a student is as often right as it is sure; below it, "
            "too sure. A dot is the larger, the more rows its bin has; bins are pooled over seeds.",
            "columns": ["Network", "Confidence up to", "Rows", "Mean confidence", "Accuracy"],
            "rows": [
                [title, f"{edge:.3f}", str(rows), f"{sure:.4f}", f"{right:.4f}"]
                for title, bins in named.items()
                for edge, sure, right, rows in bins
            ],
        },
    }


def pooled(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[Bin]:
    """Return the bins that have rows, over several runs with the same bins.

    Example:
        Three rows at 0.6, of which none is right, and one at 1.0 that is: 0.7 and 1/4.

        >>> first = [{"rows": 3, "confidence": 0.6, "accuracy": 0.0}]
        >>> second = [{"rows": 1, "confidence": 1.0, "accuracy": 1.0}]
        >>> [(edge, round(sure, 6), right, n) for edge, sure, right, n in pooled([first, second])]
        [(1.0, 0.7, 0.25, 4)]
    """
    found: list[Bin] = []
    for at in range(min(map(len, runs))):
        filled = [one[at] for one in runs if one[at]["rows"]]
        rows = sum(one["rows"] for one in filled)
        if rows:
            sure, right = (
                sum(one["rows"] * one[name] for one in filled) / rows
                for name in ("confidence", "accuracy")
            )
            found.append(((at + 1) / len(runs[0]), sure, right, rows))
    return found


def agreed(groups: Groups, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return rows on how far students agree with each of their teachers, over seeds."""
    rows = []
    for name, group in groups.items():
        by_teacher: dict[str, list[Mapping[str, float]]] = {}
        for record in group:
            for teacher, found in record.details.get("agreement", {}).items():
                if record.status == "finished":
                    by_teacher.setdefault(teacher, []).append(found)
        for teacher, found in by_teacher.items():
            same = mean_estimate([one["same_class"] for one in found], unit="fraction")
            apart = mean_estimate([one["kl"] for one in found], unit="nats")
            rows.append(
                {
                    "name": titles[name] if len(by_teacher) == 1 else f"{titles[name]}, {teacher}",
                    "same": number(same.value, "accuracy"),
                    "same_ends": interval(same, "accuracy"),
                    "kl": f"{apart.value:.4g}",
                    "kl_ends": interval(apart, "cross_entropy"),
                    "rows": " and ".join(map(str, sorted({int(one["rows"]) for one in found}))),
                }
            )
    return rows


def _of(group: Sequence[RunRecord]) -> list[Mapping[str, Any]]:
    return [
        found
        for record in group
        if record.status == "finished"
        and isinstance(found := record.details.get("calibration"), Mapping)
    ]


def _error(errors: Sequence[float]) -> dict[str, str]:
    estimate = mean_estimate(errors, unit="fraction")
    estimate = replace(estimate, lower=max(estimate.lower, 0.0))  # no error lies below
    return {"error": number(estimate.value, "accuracy"), "ends": interval(estimate, "accuracy")}


def _figure(
    lines: Mapping[str, Sequence[Bin]], colours: Mapping[str, int], palette: Palette
) -> Figure:
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=palette.ink, linestyle=":", linewidth=0.9)
    for name, bins in lines.items():
        axes.plot(
            [100 * sure for _, sure, _, _ in bins],
            [100 * right for _, _, right, _ in bins],
            color=palette.of(colours[name]),
            linestyle=style(colours[name]),
            linewidth=1.3,
        )
        total = sum(rows for *_, rows in bins)
        axes.scatter(
            [100 * sure for _, sure, _, _ in bins],
            [100 * right for _, _, right, _ in bins],
            s=[max(120 * rows / total, 2.0) for *_, rows in bins],
            color=palette.of(colours[name]),
            linewidths=0,
        )
    dress(axes, "accuracy [%]", "mean confidence [%]")
    axes.set_xlim(0, 101)
    axes.set_ylim(-1, 101)
    if palette.on_paper:
        add_legend(figure, colours, palette)
    return figure
