"""What a probe reads from answers: of which law the numbers are, and how exact they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from limbeck.asking.answers import Said, Step
from limbeck.asking.probe_result import Processing


GRIDS = (1.0, 0.5, 0.25, 0.125, 0.1, 0.0625, 0.05, 0.01, 0.005, 1 / 256, 0.001, 1e-4)
NEAR = 0.15  # of a slope from 1 or 1/T; 1 is 0.5 away from either
EXPECTED = 5.0  # draws in a cell, at least, for the chi-square law
FEW = 8  # numbers below which a grid may be chance


@dataclass
class Laws:
    """First tokens of many answers, by temperature, and the texts at temperature 1."""

    at: dict[float, list[Step]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


def name_of(token: Said) -> Hashable:
    """Return what tells a token from others in answers of one endpoint."""
    return (token.id, token.text, token.raw)


def processing_of(laws: Laws) -> tuple[dict[str, float], Processing]:
    """Return the slopes of log-probabilities over those at 1, and what they say.

    With two tokens or more in a list the slope of one law's logarithms over the other's is 1/T
    after the temperature, and 1 before it. With one number a law only that differs or not.
    """
    base = _numbers(laws.at.get(1.0, []))
    slopes: dict[str, float] = {}
    votes: set[Processing] = set()
    for temperature in (0.5, 2.0):
        other = _numbers(laws.at.get(temperature, []))
        common = [name for name in base if name in other]
        x = np.array([base[name] for name in common])
        y = np.array([other[name] for name in common])
        if len(common) >= 2 and np.ptp(x) > 0.05:
            slope = float(np.polyfit(x, y, 1)[0])
            slopes[f"{temperature:g}"] = slope
            if abs(slope - 1.0) < NEAR:
                votes.add("before")
            elif abs(slope - 1.0 / temperature) < NEAR / temperature:
                votes.add("after")
            else:
                votes.add("unclear")
        elif len(common) == 1:
            votes.add("before" if abs(x[0] - y[0]) < 1e-3 else "after")
    return slopes, votes.pop() if len(votes) == 1 else "unclear"


def _numbers(steps: Sequence[Step]) -> dict[Hashable, float]:
    """Return the mean log-probability of each token that has one."""
    seen: dict[Hashable, list[float]] = {}
    for step in steps:
        told = {name_of(one): one.log for one in (*step.top, step.token) if one.log is not None}
        for name, log in told.items():
            if log > -math.inf:
                seen.setdefault(name, []).append(log)
    return {name: math.fsum(logs) / len(logs) for name, logs in seen.items()}


def spread_of(repeats: Sequence[Sequence[Step]]) -> float | None:
    """Return the largest difference between repeats, as long as their texts agree."""
    largest: float | None = None
    for steps in zip(*repeats, strict=False):
        if len({name_of(step.token) for step in steps}) > 1:
            break
        logs = [step.token.log for step in steps if step.token.log is not None]
        if len(logs) > 1:
            largest = max(largest or 0.0, max(logs) - min(logs))
    return largest


def drawn_p(steps: Sequence[Step]) -> float | None:
    r"""Return the p-value of draws under the law reported with them.

    Tokens of the list are cells, all others one more; cells that expect fewer than 5 draws are
    put together. None with fewer than two cells.

    Source:
        Pearson (1900), chi-square test.
    """
    laws = [
        {name_of(one): math.exp(min(one.log, 0.0)) for one in step.top if one.log is not None}
        for step in steps
    ]
    shared = set.intersection(*map(set, laws)) if laws else set()
    drawn = Counter(name_of(step.token) for step in steps)
    cells = []
    for name in shared:
        expected = math.fsum(law[name] for law in laws)
        if expected >= EXPECTED:
            cells.append((drawn[name], expected))
    rest = len(steps) - math.fsum(expected for _, expected in cells)
    others = len(steps) - sum(seen for seen, _ in cells)
    if rest >= EXPECTED:
        cells.append((others, rest))
    elif cells:  # too few to be a cell of their own: with the smallest one
        smallest = min(range(len(cells)), key=lambda place: cells[place][1])
        seen, expected = cells[smallest]
        cells[smallest] = (seen + others, expected + max(rest, 0.0))
    if len(cells) < 2:
        return None
    observed, expected = np.array(cells, dtype=float).T
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


def grid_of(laws: Laws) -> float | None:
    """Return the coarsest step that all log-probabilities are multiples of, if any."""
    found = {
        one.log
        for steps in laws.at.values()
        for step in steps
        for one in (*step.top, step.token)
        if one.log is not None and -math.inf < one.log < 0
    }
    if len(found) < FEW:
        return None
    numbers = np.array(sorted(found))
    for step in GRIDS:
        places = numbers / step
        if np.abs(places - np.round(places)).max() < 1e-6 * max(1.0, float(np.abs(places).max())):
            return step
    return None
