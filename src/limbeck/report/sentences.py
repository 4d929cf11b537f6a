"""Numbers and verdicts as a reader wants them: percent, points, one sentence."""

from __future__ import annotations

import math

from limbeck.estimates import Estimate
from limbeck.report.comparison import FRACTIONS, Comparison, Row


_MINUS = "\u2212"


def is_percent(metric: str) -> bool:
    """Say whether a metric is shown in percent."""
    return metric in FRACTIONS


def number(value: float, metric: str) -> str:
    """Return a value of the metric: percent with one decimal, else four significant digits.

    Example:
        >>> number(0.9533, "accuracy"), number(1.23456, "mse")
        ('95.3 %', '1.235')
    """
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if is_percent(metric) else f"{value:.4g}"


def gain(value: float, metric: str) -> str:
    """Return a difference with its sign: points of percent, or the metric's own unit.

    Example:
        >>> gain(-0.0214, "accuracy"), gain(0.5, "mse")
        ('\u22122.1', '+0.5')
    """
    scaled = f"{100 * value:+.1f}" if is_percent(metric) else f"{value:+.4g}"
    return scaled.replace("-", _MINUS)


def interval(estimate: Estimate, metric: str, *, signed: bool = False) -> str:
    """Return "[lower, upper]", or what is missing for one.

    Example:
        >>> interval(Estimate(0.5, 0.25, 0.75, 4, "fraction", "resolved"), "accuracy")
        '[25.0, 75.0]'
    """
    if estimate.status == "unresolved":
        return "one seed, no interval"
    ends = (estimate.lower, estimate.upper)
    if signed:
        return f"[{gain(ends[0], metric)}, {gain(ends[1], metric)}]"
    if is_percent(metric):
        return f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]".replace("-", _MINUS)
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]".replace("-", _MINUS)


def seconds(value: float) -> str:
    """Return a duration: "0.8 s", "95 s", "3.1 h"."""
    if not math.isfinite(value):
        return "-"
    if value >= 7200:
        return f"{value / 3600:.1f} h"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def what(metric: str) -> str:
    """Return a metric's or setting's name for people."""
    return metric.replace("_", " ")


def verdict_sentence(comparison: Comparison, *, titles: dict[str, str]) -> str:
    """Return the comparison in one sentence."""
    metric = comparison.metric
    where = f"{comparison.part} {what(metric)}"
    compared = [row for row in comparison.rows if row.difference is not None]
    if not compared or comparison.control is None:
        return _without_control(comparison, where, titles)
    parts = [_part(row, metric, titles) for row in compared]
    pairs = {row.difference.pairs for row in compared if row.difference is not None}
    over = f"{max(pairs)} seed{'s' if max(pairs) > 1 else ''}"
    control = titles.get(comparison.control, comparison.control)
    return f"Against \u201c{control}\u201d, in {where} over {over}: {'; '.join(parts)}."


def _part(row: Row, metric: str, titles: dict[str, str]) -> str:
    difference, name = row.difference, titles.get(row.name, row.name)
    assert difference is not None  # only compared rows come here
    if difference.verdict == "unresolved":
        return f"{name} cannot be judged from one seed"
    found = f"{gain(difference.estimate.value, metric)}{' points' if is_percent(metric) else ''}"
    ends = interval(difference.estimate, metric, signed=True)
    if difference.verdict == "inconclusive":
        return f"{name} is inconclusive ({found} {ends})"
    size = found.removeprefix("+").removeprefix(_MINUS)
    return f"{name} is {difference.verdict} by {size} {ends}"


def _without_control(comparison: Comparison, where: str, titles: dict[str, str]) -> str:
    parts = []
    for row in comparison.rows:
        name = titles.get(row.name, row.name)
        if row.estimate.status == "unresolved":
            alone = next(iter(row.values.values()))
            parts.append(f"{name} reached {number(alone, comparison.metric)}")
        else:
            parts.append(
                f"{name} reached {number(row.estimate.value, comparison.metric)} "
                f"{interval(row.estimate, comparison.metric)}"
            )
    return (
        f"In {where}, {'; '.join(parts)}; without a control of the same seeds this does not say "
        "what distillation added."
    )
