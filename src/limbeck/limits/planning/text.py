"""A plan in words: the rows of its table, and the lines below it."""

from __future__ import annotations

import math

from limbeck.limits.planning.result import Plan, PrivilegePlan
from limbeck.limits.planning.storage import readable_bytes


COLUMNS = ("privilege", "impossible below", "to plan with", "enough", "cost", "disk")


def rows(plan: Plan) -> list[tuple[str, ...]]:
    """Return a row a privilege under :data:`COLUMNS`; a dash where nothing can be said."""
    return [
        (
            one.privilege.replace("_", " "),
            _count(one.impossible_below),
            _planning(one),
            _count(one.sufficient),
            "-" if one.cost is None else f"{one.cost:,.6g}",
            "-" if one.disk is None else readable_bytes(one.disk),
        )
        for one in plan.privileges
    ]


def title(plan: Plan) -> str:
    """Return what was planned."""
    goal = f"error {plan.error:g} (total variation)"
    if (horizon := plan.settings.get("horizon")) is not None:
        goal += f" of responses of {horizon:,} tokens, {plan.error / horizon:.3g} a token"
    sure = "in the mean" if plan.confidence is None else f"with probability {plan.confidence:g}"
    if all(one.sufficient is None for one in plan.privileges):
        return f"teacher queries for {goal}"
    return f"teacher queries for {goal}; enough {sure}"


def lines(plan: Plan) -> list[str]:
    """Return prices, assumptions and notes, a line each."""
    found = []
    for pair, ratio in plan.break_even.items():
        better, poorer = pair.split("/")
        if ratio is not None:
            found.append(f"break-even: {better} below {ratio:.4g} times the price of {poorer}")
    if plan.cheapest is not None:
        found.append(f"cheapest at these prices: {plan.cheapest}")
    by_assumption: dict[str, list[str]] = {}
    for one in plan.privileges:
        by_assumption.setdefault(one.assumption, []).append(one.privilege)
    for assumption, names in by_assumption.items():
        whose = "all" if len(names) == len(plan.privileges) else ", ".join(names)
        found.append(f"rests on ({whose}): {assumption}")
    by_note: dict[str, list[str]] = {}
    for one in plan.privileges:
        for note in one.notes:
            by_note.setdefault(note, []).append(one.privilege)
    for note, names in by_note.items():
        whose = "all" if len(names) == len(plan.privileges) else ", ".join(names)
        found.append(f"{whose}: {note}")
    return [*found, *plan.notes]


def text(plan: Plan) -> str:
    """Return the title, an aligned table and the lines below it."""
    table = [COLUMNS, *rows(plan)]
    widths = [max(len(row[place]) for row in table) for place in range(len(COLUMNS))]
    made = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([title(plan), *made, *lines(plan)])


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _planning(one: PrivilegePlan) -> str:
    if one.planning is None and one.interval is None:
        return one.status
    shown = one.status if one.planning is None else _count(one.planning)
    if one.interval is None:
        return shown
    ends = (f"{end:,.4g}" if math.isfinite(end) else "?" for end in one.interval)
    return f"{shown} [{', '.join(ends)}]"
