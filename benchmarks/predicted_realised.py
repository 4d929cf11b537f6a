"""Do limbeck's predictions come true? The change of the plateau by a weight, the error of a plan.

No claim is made beforehand, and none that comes out bad is left out. Weight: what
``gradient_moments``, ``recommend_weight`` and ``outlook`` say of the plateau at fixed weights, as a
multiple of that at weight 0, beside the ratio of the means over paired seeds. The measured side is
the convex case of weighting_quality.py (read from its results) and two cases of ``limbeck lab
variance``, run here at their quick size. Moments are taken at the optimum, as the theory has them;
at a student that was trained without a teacher to the end of the same phase, as a user has them;
and as closed forms over all rows, so that what the law misses is told from what the estimates miss.
Plan: the planner's curve, fitted here anew to the three smallest budgets of privilege.py, beside
the errors measured at the larger ones.

    python benchmarks/predicted_realised.py

Takes a minute; writes results/predicted_realised.json and the tables of docs/results/predicted.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import common
import numpy as np
import predicted_plateaus
import privilege_curves
import torch
from pages import made_on, number, span, table, write_page

from limbeck.report.comparison import mean_estimate
from limbeck.teacher_record import PRIVILEGES


Row = dict[str, Any]
NAMES = {
    "hard_labels": "labels",
    "sampled_probabilities": "with probabilities",
    "soft_labels": "rows",
}
PARTS = ("convex", "network", "logistic")
MOMENTS = {"optimum": "at the optimum", "student": "at a student", "exact": "exact"}


def plan_rows(case: str, budgets: Sequence[int], errors: privilege_curves.Errors) -> list[Row]:
    """Return the planner's predictions of a case beside what was measured at each larger budget."""
    rows = []
    for privilege in PRIVILEGES:
        last = float(np.mean(errors[privilege, budgets[privilege_curves.PILOTS - 1]]))
        fitted = privilege_curves.predictions(errors, privilege, budgets)
        for at in fitted["at"]:
            measured = mean_estimate(errors[privilege, at["queries"]], unit="total variation")
            value, advised = at["foreseen"], at["planner_for_measured_error"]
            rows.append(
                {
                    "case": case,
                    "privilege": privilege,
                    "queries": at["queries"],
                    "misfit_p": fitted["misfit_p"],
                    "predicted": value,
                    "predicted_interval": at["interval"],
                    "measured": measured.to_dict(),
                    "predicted_over_measured": value / measured.value,
                    "inside_measured_interval": measured.lower <= value <= measured.upper,
                    "measured_inside_predicted": at["inside"],
                    "last_pilot_over_measured": last / measured.value,
                    "queries_advised": advised["planning"],
                    "queries_advised_interval": advised["interval"],
                }
            )
    return rows


def errors_of(runs: Sequence[Mapping[str, Any]], case: str) -> dict[tuple[str, int], list[float]]:
    """Return a case's errors by privilege and budget, one a seed."""
    errors: dict[tuple[str, int], list[float]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        if run["case"] == case:
            errors.setdefault((run["privilege"], run["queries"]), []).append(run["total_variation"])
    return errors


def summary(rows: Sequence[Row], ratio: str = "predicted_over_measured") -> dict[str, Any]:
    """Return how many predictions hold, and by how much they miss in logarithms."""
    missed = [abs(math.log(row[ratio])) for row in rows]
    own = [row["measured_inside_predicted"] for row in rows]
    told = [row["same_direction"] for row in rows if row.get("same_direction") is not None]
    return {
        "n": len(rows),
        "inside_measured_interval": sum(row["inside_measured_interval"] for row in rows),
        "measured_inside_predicted": None if None in own else sum(own),
        "same_direction": [sum(told), len(told)],
        "median_absolute_log_ratio": float(np.median(missed)),
        "largest_absolute_log_ratio": max(missed),
    }


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of the weight by case and moments, and by status where there are several."""
    found: dict[str, list[Row]] = {}
    for part in PARTS:
        for moments in MOMENTS:
            own = [row for row in rows if (row["part"], row["moments"]) == (part, moments)]
            states = sorted({row["status"] for row in own})
            name = f"{part}, moments {MOMENTS[moments]}"
            if own:
                found[name] = own
            for status in states if len(states) > 1 else ():
                found[f"{name}; {status}"] = [row for row in own if row["status"] == status]
    return found


def estimate(one: Mapping[str, Any]) -> str:
    return f"{number(one['value'])} {span([one['lower'], one['upper']])}"


def foreseen(row: Row) -> str:
    """Return a prediction with its interval, bold where it is outside the measured one."""
    value = number(row["predicted"])
    if not row["inside_measured_interval"]:
        value = f"**{value}**"
    ends = row["predicted_interval"]
    return value if ends is None else f"{value} {span(ends)}"


def summary_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, one in summaries.items():
        own, (right, told) = one["measured_inside_predicted"], one["same_direction"]
        rows.append(
            (
                name,
                str(one["n"]),
                str(one["inside_measured_interval"]),
                "" if own is None else str(own),
                f"{right} of {told}",
                number(one["median_absolute_log_ratio"]),
                number(one["largest_absolute_log_ratio"]),
            )
        )
    head = ("predictions", "n", "inside the measured interval", "measured inside theirs")
    return table([*head, "right direction", "median \\|log ratio\\|", "largest"], rows)


def convex_table(rows: Sequence[Row]) -> str:
    """Return every cell of the convex case: by the three kinds of moments, and measured."""
    cells: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        if row["part"] == "convex":
            key = (row["teacher"], f"{row['learning_rate']:g}", f"{row['weight']:g}")
            cells.setdefault(key, {})[row["moments"]] = row
    lines = [
        (
            *key,
            *(foreseen(by[moments]) for moments in MOMENTS),
            estimate(by["exact"]["measured"]),
            number(by["optimum"]["predicted_over_measured"]),
        )
        for key, by in cells.items()
    ]
    head = ("teacher", "rate", "weight", *MOMENTS.values(), "measured")
    return table([*head, "at the optimum / measured"], lines)


def network_table(rows: Sequence[Row]) -> str:
    lines = [
        (
            row["teacher"],
            f"{row['weight']:g}",
            foreseen(row),
            estimate(row["measured"]),
            number(row["predicted_over_measured"]),
        )
        for row in rows
        if row["part"] == "network"
    ]
    return table(("teacher", "weight", "predicted", "measured", "predicted / measured"), lines)


def floor_table(rows: Sequence[Row]) -> str:
    """Return the plateaus without distillation, once each."""
    lines: dict[tuple[Any, ...], tuple[str, ...]] = {}
    for row in rows:
        if row["moments"] == ("optimum" if row["part"] == "network" else "exact"):
            one, other = row["plain_predicted"], row["plain_measured"]
            key = (row["part"], f"{row['learning_rate']:g}", f"{row['batch_size']}")
            lines.setdefault(key, (*key, f"{one:.5f}", f"{other:.5f}", number(one / other)))
    head = ("case", "rate", "batch", "predicted [nats]", "measured [nats]", "ratio")
    return table(head, list(lines.values()))


def advised(row: Row) -> str:
    """Return the queries that the plan would have asked for the error that was measured."""
    low, high = row["queries_advised_interval"]
    if row["queries_advised"] is None:
        return f"at least {low:,.0f}"
    return f"{row['queries_advised']:,} [{low:,.0f}, {high:,.0f}]"


def plan_table(rows: Sequence[Row]) -> str:
    lines = [
        (
            row["case"],
            NAMES[row["privilege"]],
            f"{row['queries']:,}",
            foreseen(row),
            estimate(row["measured"]),
            number(row["predicted_over_measured"]),
            "yes" if row["measured_inside_predicted"] else "NO",
            number(row["misfit_p"]),
            advised(row),
        )
        for row in rows
    ]
    head = ("case", "answers", "queries", "predicted", "measured", "predicted / measured")
    more = ("measured inside predicted", "p of the fit", "advised for the measured error")
    return table([*head, *more], lines)


def main() -> None:
    torch.set_num_threads(1)
    stored = {
        name: json.loads((common.RESULTS / f"{name}.json").read_text("utf8"))
        for name in ("weighting_quality", "privilege")
    }
    cases: Sequence[Callable[[], list[Row]]] = (
        lambda: predicted_plateaus.convex_rows(stored["weighting_quality"]["runs"]),
        predicted_plateaus.network_rows,
        predicted_plateaus.logistic_rows,
    )
    weights = [row for case in cases for row in case()]
    plans = [
        row
        for case, one in stored["privilege"]["cases"].items()
        for row in plan_rows(
            case, one["facts"]["settings"]["budgets"], errors_of(stored["privilege"]["runs"], case)
        )
    ]
    summaries = {name: summary(rows) for name, rows in groups(weights).items()}
    planned = summary(plans)
    unchanged = summary(plans, "last_pilot_over_measured")["median_absolute_log_ratio"]
    result = {
        "weight": {"summary": summaries, "rows": weights},
        "plan": {
            "summary": planned | {"median_absolute_log_ratio_of_last_pilot": unchanged},
            "rows": plans,
        },
    }
    path = common.write("predicted_realised", result)
    written = json.loads(path.read_text("utf8"))
    sources = [
        made_on(f"`{name}.py`", one)
        for name, one in (("predicted_realised", written), *stored.items())
    ]
    line = (
        f"**{planned['measured_inside_predicted']} of {planned['n']} measured means lie inside the "
        f"predicted interval**, {planned['inside_measured_interval']} predictions inside the "
        f"measured 95 % interval;\nmedian |log ratio| "
        f"{number(planned['median_absolute_log_ratio'])}. To say that the error stays as it was at "
        f"the pilot's largest budget misses by {number(unchanged)}."
    )
    page = common.ROOT / "docs" / "results" / "predicted.md"
    write_page(
        page,
        {
            "weight summary": summary_table(summaries),
            "convex": convex_table(weights),
            "network": network_table(weights),
            "plain plateaus": floor_table(weights),
            "plan": f"{line}\n\n{plan_table(plans)}",
            "sources": "\n".join(f"* {one}" for one in sources),
        },
    )
    print(summary_table(summaries), line, sep="\n\n")


if __name__ == "__main__":
    main()
