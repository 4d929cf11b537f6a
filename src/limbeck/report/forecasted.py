"""The section of a report that says what was forecast, and what came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.estimates import Estimate
from limbeck.record import RunRecord
from limbeck.report import sentences
from limbeck.report.comparison import Comparison, paired_difference, values_of
from limbeck.report.forecast_file import Entry, Gain, Outcome, Saved
from limbeck.report.intervals import Interval, Pair, pairs_picture


class _Kind(NamedTuple):
    title: str
    unit: str
    digits: int
    factor: float  # of what records have; above zero is better


_KINDS: dict[Outcome, _Kind] = {
    "accuracy": _Kind("Accuracy", "points", 1, 100.0),
    "cross_entropy": _Kind("Cross-entropy", "bits", 2, -1.0 / math.log(2.0)),
}
_MARKS = {"helps": "better", "harms": "worse", "cannot tell": "inconclusive"}
COLUMNS = ("Method", "Gain", "Forecast", "from", "to", "Came", "from", "to")
Groups = Mapping[str, Sequence[RunRecord]]


class Came(NamedTuple):
    """What one group of runs gained over the control, beside what was forecast of it."""

    title: str
    outcome: Outcome
    forecast: Gain
    gain: Estimate
    seeds: int


def section(
    forecasts: Mapping[str, Saved],
    groups: Groups,
    compared: Comparison | None,
    titles: Mapping[str, str],
) -> dict[str, Any] | None:
    """Return what the template shows, None where nothing was forecast; numbers are words already.

    Args:
        forecasts: By folder.
        groups: Runs of students by name.
        compared: What the report compares: its control, and where results were taken.
        titles: Of the groups.
    """
    if not forecasts:
        return None
    names = _names(forecasts, groups, titles)
    came = [
        one
        for folder, saved in forecasts.items()
        for one in gains_of(saved, names[folder], groups, compared)
    ]
    cells = sorted({saved.cells for saved in forecasts.values()})
    return {
        "cells": " and ".join(map(str, cells)),
        "level": _levels(forecasts.values()),
        "rows": [
            _row(names[folder], saved, place)
            for folder, saved in forecasts.items()
            for place in saved.ranking
        ],
        "told": [
            {"name": names[folder], "texts": list(_told(saved))}
            for folder, saved in forecasts.items()
        ],
        "came": [_sentence(one) for one in came],
        "figures": _figures(came),
        "data": [_data(one) for one in came if one.gain.status == "unresolved"],
    }


def gains_of(
    saved: Saved, name: str, groups: Groups, compared: Comparison | None
) -> Iterator[Came]:
    """Yield the gain over the control of the runs that a forecast is of [points and bits].

    Those are runs with its loss and the published weight. Of a forecast of several teachers nobody
    knows here which one taught them: there is nothing to set against it.
    """
    if compared is None or compared.control is None or len(saved.entries) > 1:
        return
    taught = [
        group
        for group, runs in groups.items()
        if group != compared.control and _all_of(saved.loss, runs)
    ]
    for group in taught:
        title = name if len(taught) == 1 else f"{name} ({group})"
        for outcome, kind in _KINDS.items():
            found, control = (
                {
                    seed: kind.factor * value
                    for seed, value in values_of(
                        groups[one], one, outcome, compared.moment, compared.part
                    ).items()
                }
                for one in (group, compared.control)
            )
            if set(found) & set(control):
                difference = paired_difference(found, control, unit=kind.unit)
                forecast = saved.entries[0].gains[outcome]
                yield Came(title, outcome, forecast, difference.estimate, difference.pairs)


def place_of(value: float, forecast: Gain) -> str:
    """Say where a gain lies by a forecast's interval; its ends are inside.

    Example:
        >>> made = {"level": 0.9}
        >>> told = Gain(value=1.0, lower=0.0, upper=2.0, status="resolved", settings=made)
        >>> place_of(2.0, told), place_of(2.5, told), place_of(-0.5, told)
        ('inside of', 'above', 'below')
    """
    lower, upper = _ends(forecast)
    if value < lower:
        return "below"
    return "above" if value > upper else "inside of"


def _names(
    forecasts: Mapping[str, Saved], groups: Groups, titles: Mapping[str, str]
) -> dict[str, str]:
    """Return names: the method's title, with the forecast's folder where two are alike."""
    found = {}
    for folder, saved in forecasts.items():
        named = [titles[group] for group, runs in groups.items() if _all_of(saved.loss, runs)]
        found[folder] = named[0] if len(named) == 1 else saved.loss
    return {
        folder: f"{name} ({Path(folder).name})" if list(found.values()).count(name) > 1 else name
        for folder, name in found.items()
    }


def _all_of(loss: str, runs: Sequence[RunRecord]) -> bool:
    return all(_is_of(loss, run) for run in runs)


def _is_of(loss: str, run: RunRecord) -> bool:
    """Say whether a run learned by a loss, with its published weight.

    Records have the class, forecasts the name, which differ in case and underscores alone. Without
    a teacher there is no loss.
    """
    own = str(run.settings.get("loss"))
    same = own.replace("_", "").casefold() == loss.replace("_", "").casefold()
    return same and run.settings.get("weight") is None


def _levels(forecasts: Any) -> str:
    found = {
        gain.settings.level
        for saved in forecasts
        for entry in saved.entries
        for gain in entry.gains.values()
    }
    return " and ".join(f"{100 * level:g} %" for level in sorted(found))


def _row(name: str, saved: Saved, place: int) -> dict[str, Any]:
    entry = saved.entries[place]
    return {
        "name": name if len(saved.entries) == 1 else f"{name}, {_whom(entry)}",
        "cells": [
            {
                "value": _value(entry.gains[outcome], kind),
                "interval": _interval(*_ends(entry.gains[outcome]), kind),
                "verdict": entry.verdicts[outcome],
                "mark": _MARKS.get(entry.verdicts[outcome], "unresolved"),
            }
            for outcome, kind in _KINDS.items()
        ],
        "decided": entry.decided_by.text,
        "share": f"{_signed(entry.decided_by.share, _KINDS['accuracy'])} points",
    }


def _whom(entry: Entry) -> str:
    return entry.teacher if entry.layer is None else f"{entry.teacher} ({entry.layer})"


def _told(saved: Saved) -> Iterator[str]:
    """Yield what the forecast is for, why it lies outside, what was missing, what it cost."""
    rows = saved.data
    yield (
        f"For {saved.settings.steps:,} optimiser steps on {rows.rows:,} rows, {rows.labelled:,} of "
        f"them with a label; both networks were asked about {rows.validation:,} held-out rows."
    )
    for entry in saved.entries:
        whom = "" if len(saved.entries) == 1 else f"{_whom(entry)}: "
        decided = entry.decided_by
        value = "unknown" if decided.value is None else f"{decided.value:.3g} {decided.unit}"
        yield f"{whom}Decided by {decided.name} ({decided.text}): {value.rstrip()}."
        for text in entry.outside:
            yield f"{whom}Outside of what was seen: {text}."
        if entry.missing:
            yield f"{whom}Not to be had, and taken as typical: {', '.join(entry.missing)}."
    yield from saved.warnings
    parts = ", ".join(
        f"{group} {sentences.seconds(one)}" for group, one in saved.seconds.items() if one >= 0.05
    )
    cost = sentences.seconds(sum(saved.seconds.values()))
    yield f"The forecast cost {cost}{f' ({parts})' if parts else ''}."


def _sentence(came: Came) -> str:
    kind, gain = _KINDS[came.outcome], came.gain
    what = f"{came.title}, {kind.title.lower()}"
    if gain.status == "unresolved":
        return f"{what}: one seed, which has no interval, does not say what came."
    ends = _interval(gain.lower, gain.upper, kind)
    return (
        f"{what}: {_signed(gain.value, kind)} {kind.unit} {ends} over {came.seeds} seeds came, "
        f"{place_of(gain.value, came.forecast)} the forecast's interval "
        f"{_interval(*_ends(came.forecast), kind)}."
    )


def _figures(came: Sequence[Came]) -> list[dict[str, Any]]:
    """Return a drawing for each outcome of which something came."""
    found = []
    for outcome, kind in _KINDS.items():
        pairs = [
            Pair(
                one.title,
                Interval("forecast", _shown(one.forecast), *_ends(one.forecast)),
                Interval("came", one.gain.value, one.gain.lower, one.gain.upper),
            )
            for one in came
            if one.outcome == outcome and one.gain.status != "unresolved"
        ]
        if pairs:
            title = f"Gain in {kind.title.lower()} over the control"
            picture = pairs_picture(pairs, kind.unit, name=f"forecast {outcome}", title=title)
            rows = [_data(one) for one in came if one.outcome == outcome]
            found.append(
                {
                    "title": title,
                    "unit": kind.unit,
                    "picture": picture,
                    "columns": COLUMNS,
                    "rows": rows,
                }
            )
    return found


def _data(came: Came) -> list[str]:
    """Return the figures' numbers: forecast and what came, each with both ends."""
    kind, lone = _KINDS[came.outcome], came.gain.status == "unresolved"
    lower, upper = _ends(came.forecast)
    realised = [came.gain.value, came.gain.lower, came.gain.upper]
    return [
        came.title,
        f"{kind.title} [{kind.unit}]",
        _value(came.forecast, kind),
        *(_signed(one, kind) for one in (lower, upper)),
        *(["", "", ""] if lone else [_signed(one, kind) for one in realised]),
    ]


def _ends(gain: Gain) -> tuple[float, float]:
    """Return the interval's ends; one that is not there is infinite."""
    return (
        -math.inf if gain.lower is None else gain.lower,
        math.inf if gain.upper is None else gain.upper,
    )


def _shown(gain: Gain) -> float | None:
    return None if gain.status == "unresolved" else gain.value


def _value(gain: Gain, kind: _Kind) -> str:
    shown = _shown(gain)
    return "unresolved" if shown is None else _signed(shown, kind)


def _interval(lower: float, upper: float, kind: _Kind) -> str:
    return f"[{_signed(lower, kind)}, {_signed(upper, kind)}]"


def _signed(value: float, kind: _Kind) -> str:
    said = f"{value:+.{kind.digits}f}" if math.isfinite(value) else f"{value:+}"
    return said.replace("inf", "\u221e").replace("-", "\u2212")
