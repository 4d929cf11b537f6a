"""Findings about the set as a whole: faulty lines, repeats, several teachers or privileges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from limbeck.limits.auditing.estimates import exact
from limbeck.limits.auditing.result import SHOWN_LINES, Finding
from limbeck.limits.auditing.table import Table
from limbeck.records import Problem


ENOUGH_PAIRS = 20  # different records that all come g times are no accident
OF_CARE = 0.01  # share of faulty lines from which the rest is no fair sample any more


def find_faulty(problems: Sequence[Problem], kept: int) -> Iterator[Finding]:
    """Report lines that could not be read, and placeholders for numbers."""
    faulty = [problem for problem in problems if problem.left_out]
    if faulty:
        kinds = Counter(problem.kind for problem in faulty).most_common()
        lost = len(faulty) / (len(faulty) + kept)
        yield Finding(
            "faulty_lines",
            "serious" if lost > OF_CARE else "warning",
            len(faulty),
            f"{100 * lost:.3g} % of the lines are left out: "
            + ", ".join(f"{kind} {number}" for kind, number in kinds)
            + f". The first: {faulty[0]}",
            None,
            "Mend what writes these lines. Where faults depend on the label, the others are no "
            "fair sample of the teacher.",
            tuple(problem.line for problem in faulty[:SHOWN_LINES]),
        )
    hidden = [problem for problem in problems if problem.kind == "sentinel"]
    if hidden:
        yield Finding(
            "withheld_probabilities",
            "warning",
            sum(problem.lines for problem in hidden),
            "Placeholders such as -9999 stand for log-probabilities that the teacher keeps to "
            "itself.",
            None,
            "Never train on the placeholder: these records are labels only, or censored where a "
            "top list is there.",
            tuple(problem.line for problem in hidden),
        )


def find_repeats(table: Table) -> Iterator[Finding]:
    """Report pairs that were drawn again, and sets that were written more than once."""
    repeated = table.draws - len(table.pair_first)
    said = np.isfinite(table.pair_probability)
    worthless = int((table.pair_draws - 1)[said].sum())
    if repeated:
        again = np.ones(len(table.records), bool)
        again[table.pair_first] = False
        text = (
            f"{100 * repeated / table.draws:.3g} % of the draws repeat a pair: {table.draws} draws "
            f"count as {len(table.pair_first)}"
        )
        yield Finding(
            "repeated_pairs",
            "note",
            repeated,
            text
            + (
                f". With probabilities a repeat is worth nothing ({worthless} of them have one)."
                if worthless
                else " once probabilities are known; of labels alone each counts, as 1/sqrt(n)."
            ),
            exact(repeated / table.draws, table.draws, unit="fraction of draws"),
            "Spend the next queries where the unseen mass is largest, not on inputs that are known."
            if worthless
            else "Nothing to do: repeats are how labels show their frequency.",
            table.lines(again | (table.count > 1)),
        )
    yield from _whole_set_repeated(table)


def find_mixtures(table: Table) -> Iterator[Finding]:
    """Find several teachers or several privileges in one set."""
    teachers = Counter(record.teacher for record in table.records)
    if len(teachers) > 1:
        names = ", ".join(
            f"{'unnamed' if name is None else name!r} {number}"
            for name, number in teachers.most_common(5)
        )
        fewer = len(table.records) - teachers.most_common(1)[0][1]
        other = np.array([r.teacher != teachers.most_common(1)[0][0] for r in table.records])
        yield Finding(
            "mixed_teachers",
            "warning",
            fewer,
            f"{len(teachers)} teachers: {names}. A student learns their mixture.",
            None,
            "Split the set by teacher, unless a mixture is wanted.",
            table.lines(other),
        )
    kinds = Counter(record.privilege for record in table.records if not record.censored)
    if len(kinds) > 1:
        names = ", ".join(f"{name} {number}" for name, number in kinds.most_common())
        main = kinds.most_common(1)[0][0]
        other = np.array([r.privilege != main and not r.censored for r in table.records])
        yield Finding(
            "mixed_privileges",
            "warning",
            int(other.sum()),
            f"Records of several privileges: {names}. What holds for the set is what holds for the "
            "least.",
            None,
            "Train on each part with its own loss, or leave the few others out.",
            table.lines(other),
        )


def _whole_set_repeated(table: Table) -> Iterator[Finding]:
    """Find a file that holds everything g times, as a concatenation or a second run leaves it."""
    times = Counter(
        (r.input, r.label, r.log_probability, r.count, r.sequence, r.position, r.teacher)
        for r in table.records
    )
    common = math.gcd(*times.values())
    if common < 2 or len(times) < ENOUGH_PAIRS:
        return
    once = len(table.records) // common
    yield Finding(
        "repeated_set",
        "serious",
        len(table.records) - once,
        f"Every record comes {common} times, or a multiple of it: the set was written more than "
        f"once. {len(table.records)} records are {once}, and intervals that count all of them are "
        f"{math.sqrt(common):.3g} times too narrow.",
        exact(1 - 1 / common, len(table.records), unit="fraction of records"),
        "Keep one copy.",
    )
