"""The tables of docs/results/forecast.md, from results/predictive_validity.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common import ROOT
from pages import made_on, number, span, table, write_page

from limbeck.forecasting.catalogue import PREDICTORS


PAGE = ROOT / "docs" / "results" / "forecast.md"
COLUMNS = (("kd", "accuracy"), ("kd", "cross_entropy"), ("itrd", "accuracy"))


def with_span(one: list[float]) -> str:
    value, lower, upper = one
    return f"{value:+.2f} [{lower:+.2f}, {upper:+.2f}]"


def ranks(tables: Mapping[str, Any]) -> str:
    """Return one line a figure: Kendall's tau with each gain, and what is left of rank correlation.

    The figure that orders KD's gains in accuracy best stands first.
    """
    first = tables["kd"]["accuracy"]["correlations"]
    lines = []
    for name in sorted(first, key=lambda one: -abs(first[one]["tau"][0])):
        found = [tables[method][outcome]["correlations"].get(name) for method, outcome in COLUMNS]
        lines.append(
            (
                f"{first[name]['text']} (`{name}`)",
                *("" if one is None else with_span(one["tau"]) for one in found),
                with_span(first[name]["rho"]),
                with_span(first[name]["partial"]) if "partial" in first[name] else "",
            )
        )
    head = ("known before", *(f"{method}, {outcome}" for method, outcome in COLUMNS))
    return table([*head, "rho, kd, accuracy", "partial, kd, accuracy"], lines)


def ways(tables: Mapping[str, Any], left_out: str) -> str:
    """Return one line a way to forecast: error, coverage and width by method and outcome.

    Args:
        tables: By method and outcome.
        left_out: "forecasts" (of teachers) or "new_data" (of data sets).
    """
    columns = [(method, outcome) for method in tables for outcome in tables[method]]
    lines = [
        (
            name,
            *(
                f"{number(one['rmse'])}, {100 * one['coverage']:.0f} %, {number(one['width'])}"
                for method, outcome in columns
                for one in [tables[method][outcome][left_out][name]]
            ),
        )
        for name in tables["kd"]["accuracy"]["forecasts"]
    ]
    units = [
        f"{method}, {outcome} [{tables[method][outcome]['unit']}]" for method, outcome in columns
    ]
    return table(["forecast from", *units], lines)


def choices(tables: Mapping[str, Any]) -> str:
    """Return one line a figure: how well it orders one student's teachers, and what that costs."""
    columns = [(method, outcome) for method in tables for outcome in tables[method]]
    lines = [
        (
            f"{PREDICTORS[name].text} (`{name}`)",
            *(
                f"{one['tau'][0]:+.2f} {span(one['tau'][1:])}, {number(one['lost'])}"
                for method, outcome in columns
                for one in [tables[method][outcome]["choices"][name]]
            ),
        )
        for name in tables["kd"]["accuracy"]["choices"]
    ]
    return table(
        ["figure", *(f"tau, lost: {method}, {outcome}" for method, outcome in columns)], lines
    )


def spread(tables: Mapping[str, Any]) -> str:
    """Return one line a method and outcome: how large the gains are."""
    lines = [
        (
            f"{method}, {outcome} [{one['unit']}]",
            *(f"{value:+.2f}" for value in one["gain_quantiles"]),
            number(one["seed_error"]),
        )
        for method, outcomes in tables.items()
        for outcome, one in outcomes.items()
    ]
    quantiles = ("least", "10 %", "median", "90 %", "largest")
    return table(["gain over the control", *quantiles, "standard error over seeds"], lines)


def teachers(rows: list[dict[str, Any]]) -> str:
    """Return the teachers' test accuracies."""
    sets = list(dict.fromkeys(row["data"] for row in rows))
    known = {(row["data"], row["teacher"]): row["accuracy"] for row in rows}
    kinds = list(dict.fromkeys(row["teacher"] for row in rows))
    return table(
        ["teacher, % right", *sets],
        [(kind, *(f"{known[data, kind]:.1f}" for data in sets)) for kind in kinds],
    )


def write_tables(result: Mapping[str, Any]) -> None:
    """Write the tables into the page."""
    tables = result["tables"]
    where = made_on("`predictive_validity.py`", result)
    sources = (
        f"{result['cells']} cells, {result['seeds']} seeds, {result['runs']} jobs, "
        f"{result['core_hours']:.1f} hours of one core on a machine shared with other work. {where}"
    )
    write_page(
        PAGE,
        {
            "teachers": teachers(result["teachers"]),
            "gains": spread(tables),
            "ranks": ranks(tables),
            "choices": choices(tables),
            "ways": ways(tables, "forecasts"),
            "new data": ways(tables, "new_data"),
            "sources": sources,
        },
    )
