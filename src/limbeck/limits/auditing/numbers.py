"""Findings about the numbers themselves: several for one thing, sums above 1, rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from limbeck.limits.auditing.estimates import deviation, exact
from limbeck.limits.auditing.result import Finding, Severity
from limbeck.limits.auditing.table import Table


FLOAT_NOISE = 1e-6  # of a log-probability that was computed twice in float32
FLOOR = 0.5 * math.sqrt(2 / math.pi)  # total variation per unit of noise in the logarithm: 0.399
HARMLESS, HARMFUL = 1e-3, 0.02
ENOUGH_NUMBERS = 12  # different ones, before a grid is called one
COARSE = 0.002  # total variation that rounding may cost before it is a warning
MOST_NUMBERS = 200_000
DECIMALS = range(1, 8)
FRACTIONS = range(1, 13)


def find_varying(table: Table) -> Iterator[Finding]:
    """Find pairs for which the teacher gave several values."""
    said = np.flatnonzero(np.isfinite(table.log))
    pair, log = table.pair[said], table.log[said]
    number = len(table.pair_first)
    times = np.bincount(pair, minlength=number)
    middle = np.bincount(pair, log, minlength=number) / np.maximum(times, 1)
    apart = log - middle[pair]
    differ = np.bincount(pair, np.abs(apart) > FLOAT_NOISE / 2, minlength=number) > 0
    if differ.any():
        squares, freedom = float(apart @ apart), int((times[times > 0] - 1).sum())
        floor = deviation(squares, freedom, table.confidence, FLOOR, of="0.399 sd")
        spread = math.sqrt(squares / freedom)
        lines = said[differ[pair]]
        yield Finding(
            "varying_probabilities",
            _severity(floor.value),
            len(lines),
            f"{int(differ.sum())} pairs have several values; a log-probability scatters by "
            f"{spread:.3g} nats (n = {freedom + int((times > 1).sum())}): the teacher is not "
            "deterministic, or there are several of them. No number of queries goes below the bias "
            "unless values are averaged.",
            floor,
            "Ask one back-end with one batch size and precision, and name it in `teacher`; or "
            "average the values of a pair.",
            table.lines(lines),
        )
    yield from _varying_rows(table)


def find_impossible_sums(table: Table) -> Iterator[Finding]:
    """Find inputs whose seen labels have probabilities that sum to more than 1."""
    known = np.isfinite(table.pair_probability)
    total = np.bincount(
        table.pair_context[known], table.pair_probability[known], minlength=table.contexts
    )
    above = total > 1 + table.tolerance
    if not above.any():
        return
    weights = table.context_draws[above]
    excess = float((total[above] - 1) @ weights / weights.sum())
    inside = above[table.context]
    yield Finding(
        "impossible_sums",
        "serious",
        int(inside.sum()),
        f"The seen labels of {int(above.sum())} inputs have probabilities that sum to up to "
        f"{total.max():.4g}.",
        exact(excess, int(weights.sum()), unit="probability above 1"),
        "The numbers are of different models or prompts, of a law that was cut and divided, or not "
        "probabilities of single labels (a mean per token). Look at these lines first.",
        table.lines(inside),
    )


def find_rounding(table: Table) -> Iterator[Finding | str]:
    """Find a grid that all numbers lie on, and bound what rounding to it costs."""
    numbers = _numbers(table)
    if len(numbers) == 0:
        return
    different = len(np.unique(numbers))
    if different < ENOUGH_NUMBERS:
        yield f"rounding: needs {ENOUGH_NUMBERS} different numbers; there are {different}."
        return
    labels = max(len(table.pair_first) / table.contexts, 1.0)
    if table.rows:
        labels = float(np.mean([np.isfinite(row).sum() for row in table.rows.values()]))
    grid = grid_of(numbers)
    if grid is None:
        return
    if grid.logarithms:
        bias = exact(math.tanh(grid.step / 4), len(numbers), kind="at most, for the coarsest step")
    else:
        bias = exact(min(labels * grid.step / 4, 1.0), len(numbers), kind="at most", labels=labels)
    yield Finding(
        "rounded_numbers",
        "note" if bias.value < COARSE else "warning",
        len(table.records),
        f"All numbers are {grid.name} ({different} different ones); rounding moves a law by at "
        "most the bias given.",
        bias,
        "Store log-probabilities in fp16 or with a step of 1/256, or finer."
        if bias.value >= COARSE
        else "Harmless until a smaller error than this is wanted.",
    )


@dataclass(frozen=True)
class Grid:
    """What all numbers were rounded to.

    Attributes:
        name: In words.
        step: The largest step between neighbours, in nats or as a probability.
        logarithms: Whether it is the logarithms that lie on the grid.
    """

    name: str
    step: float
    logarithms: bool


def grid_of(logs: np.ndarray) -> Grid | None:
    """Return the coarsest grid that log-probabilities, or their exponentials, lie on.

    Args:
        logs: Log-probabilities [nats], finite.

    Returns:
        The grid: so many decimals, a fraction 1/2^k, bf16 or fp16; None for finer numbers.

    Example:
        >>> grid_of(np.array([-0.25, -1.5, -3.75])).name
        'log-probabilities in steps of 1/4'
    """
    probabilities = np.exp(logs)
    steps = [(10.0**-d, f"with {d} decimals") for d in DECIMALS]
    steps += [(2.0**-k, f"in steps of 1/{2**k}") for k in FRACTIONS]
    for step, name in sorted(steps, reverse=True):
        if _on(logs, step):
            return Grid(f"log-probabilities {name}", step, logarithms=True)
        # What was rounded to 0 cannot be here: the smallest is one step.
        if probabilities.min() >= step / 2 and _on(probabilities, step):
            return Grid(f"probabilities {name}", step, logarithms=False)
    largest = max(float(np.abs(logs).max()), 2.0**-14)
    for name, bits in (("bf16", 7), ("fp16", 10)):
        if _short(logs, bits):
            step = 2.0 ** (math.floor(math.log2(largest)) - bits)
            return Grid(f"log-probabilities in {name}", step, logarithms=True)
    return None


def _varying_rows(table: Table) -> Iterator[Finding]:
    apart, numbers = [], []
    for number, record in enumerate(table.records):
        if record.row is None:
            continue
        first = table.rows[int(table.context[number])]
        if first is not record.row and len(first) == len(record.row):
            apart.append(0.5 * float(np.abs(np.exp(first) - np.exp(record.row)).sum()))
            numbers.append(number)
    if not apart or max(apart) <= FLOAT_NOISE:
        return
    yield Finding(
        "varying_rows",
        _severity(float(np.mean(apart))),
        len(apart),
        f"Rows of one input differ from its first by up to {max(apart):.3g} in total variation.",
        exact(min(float(np.mean(apart)), 1.0), len(apart), of="mean distance to the first row"),
        "Ask one back-end with one batch size and precision, and name it in `teacher`.",
        table.lines(np.array(numbers)[np.array(apart) > FLOAT_NOISE]),
    )


def _severity(bias: float) -> Severity:
    if bias < HARMLESS:
        return "note"
    return "serious" if bias >= HARMFUL else "warning"


def _numbers(table: Table) -> np.ndarray:
    """Return reported log-probabilities, of rows all, as many as are needed."""
    found = [table.log[np.isfinite(table.log)]]
    if table.rows:
        found = []
    taken = 0
    for row in table.rows.values():
        found.append(row[np.isfinite(row)])
        taken += len(row)
        if taken > MOST_NUMBERS:
            break
    found += [logs[np.isfinite(logs)] for _, logs in table.tops.values()]
    return np.concatenate(found)[:MOST_NUMBERS]


def _on(values: np.ndarray, step: float) -> bool:
    scaled = values / step
    close = 1e-12 / step + 4e-16 * np.abs(scaled)  # what a division and a logarithm may add
    return bool((np.abs(scaled - np.round(scaled)) <= close).all())


def _short(values: np.ndarray, bits: int) -> bool:
    """Whether values have so many bits after the leading one."""
    fraction, _ = np.frexp(values)
    scaled = fraction * 2.0 ** (bits + 1)
    return bool((scaled == np.round(scaled)).all())
