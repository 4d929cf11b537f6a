"""Draws whose labels have known proportions: from rows, from top lists, or from repeats."""

from __future__ import annotations

import numpy as np

from limbeck.limits.auditing.power import Groups
from limbeck.limits.auditing.table import LOWEST, Table


MOST_ELEMENTS = 1_000_000  # log-probabilities that enter a fit; more are drawn from by lot
MOST_DRAWS = 1_000_000
ENOUGH_REPEATS = 10.0  # expected; none at all then means that repeats were taken out


def known_groups(table: Table) -> Groups | None:
    """Return the contexts with a row or a top list; None where there is none to be used."""
    generator = np.random.default_rng(0)
    laws = _laws(table)
    order = generator.permutation(np.array(sorted(laws), dtype=np.int64))
    starts = np.searchsorted(table.pair_context, np.arange(table.contexts + 1))
    logs: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    taken = 0
    for context in order.tolist():
        labels, values = laws[context]
        here = slice(starts[context], starts[context + 1])
        drawn = np.zeros(len(labels))
        place = np.searchsorted(labels, table.pair_label[here])
        inside = place < len(labels)
        inside[inside] = labels[place[inside]] == table.pair_label[here][inside]
        drawn[place[inside]] = table.pair_draws[here][inside]
        if len(labels) < 2 or not drawn.any():
            continue
        logs.append(values)
        counts.append(drawn)
        taken += len(labels)
        if taken >= MOST_ELEMENTS:
            break
    return _joined(logs, counts)


def repeated_groups(table: Table) -> Groups | None:
    """Return the labels seen in a random half of a context's draws, with the other half's counts.

    Given the first half, the second half's draws of these labels follow the reported proportions,
    whatever the labels that were not seen have. Pairs that come once only never enter.
    """
    pairs = np.flatnonzero(table.pair_probability > 0)  # not NaN, and no underflow
    if len(pairs) == 0:
        return None
    generator = np.random.default_rng(0)
    counts = table.pair_draws[pairs]
    total = int(counts.sum())
    if total > MOST_DRAWS:
        counts = generator.binomial(counts, MOST_DRAWS / total)
    number = np.repeat(np.arange(len(pairs)), counts)
    generator.shuffle(number)
    number = number[np.argsort(table.pair_context[pairs][number], kind="stable")]
    context = table.pair_context[pairs][number]
    begin = np.searchsorted(context, context)
    size = np.searchsorted(context, context, side="right") - begin
    first = np.arange(len(context)) - begin < size // 2
    seen = np.bincount(number[first], minlength=len(pairs)) > 0
    later = np.bincount(number[~first], minlength=len(pairs)) * seen
    of = table.pair_context[pairs]
    labels = np.bincount(of, seen, minlength=table.contexts)
    drawn = np.bincount(of, later, minlength=table.contexts)
    use = seen & (labels[of] >= 2) & (drawn[of] > 0)
    if not use.any():
        return None
    starts = np.flatnonzero(np.diff(of[use], prepend=-1))
    logs = np.log(table.pair_probability[pairs][use])
    return Groups(logs, later[use].astype(np.float64), starts)


def without_repeats(table: Table) -> bool:
    """Whether repeated pairs were taken out: none is there, and many were to be expected."""
    if (table.pair_draws > 1).any():
        return False
    drawn = table.context_draws.astype(np.float64)
    said = np.isfinite(table.pair_probability)
    # A draw meets an equal one among the n - 1 others with probability pi(a) each.
    of = table.pair_context[said]
    expected = float(((drawn[of] - 1) * table.pair_probability[said]).sum()) / 2
    return expected >= ENOUGH_REPEATS


def _laws(table: Table) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return labels, ascending, and finite log-probabilities of each context that has them."""
    laws: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for context, (labels, logs) in table.tops.items():
        order = np.argsort(labels)
        keep = order[np.isfinite(logs[order])]
        laws[context] = labels[keep], np.maximum(logs[keep], LOWEST)
    for context, row in table.rows.items():
        finite = np.flatnonzero(np.isfinite(row))
        laws[context] = finite, np.maximum(row[finite], LOWEST)
    return laws


def _joined(logs: list[np.ndarray], counts: list[np.ndarray]) -> Groups | None:
    if not logs:
        return None
    sizes = np.array([len(one) for one in logs])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Groups(np.concatenate(logs), np.concatenate(counts), starts)
