"""Findings about laws of which only the largest part was kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from limbeck.estimates import Estimate
from limbeck.limits.auditing.estimates import bounded, exact, mean, share
from limbeck.limits.auditing.result import Finding
from limbeck.limits.auditing.table import Table
from limbeck.record_lines import two_laws
from limbeck.records import TeacherRecord


WHOLE = 1e-5  # a list whose sum is this near to 1 claims to be the whole law
CLIFF = 1e-4  # and one that ends with more than this has no tail to be seen
UNDERFLOW = 1e-7  # zeros beside probabilities as small as this may be rounding
ALIKE = 0.95  # share of the laws that have one number of labels, for it to be a choice
BUCKET = (
    "Keep the mass that is left as one more outcome (a tail bucket), draw labels from the whole "
    "law, and never divide the kept ones by their sum."
)


@dataclass(frozen=True, eq=False)
class _Cut:
    """Contexts whose kept labels sum to 1: how many are kept, and the smallest of them."""

    contexts: np.ndarray
    kept: np.ndarray
    smallest: np.ndarray
    all_labels: int | None


def find_renormalised(table: Table, left_out: Mapping[str, int]) -> Iterator[Finding]:
    """Find rows and lists of the k largest probabilities that were divided by their sum."""
    for kind, cut in (("rows", _cut_rows(table)), ("lists", _cut_tops(table))):
        if cut is None:
            continue
        inside = np.isin(table.context, cut.contexts)
        sizes = np.unique(cut.kept)
        one = len(sizes) == 1
        kept = f"{sizes[0]}" if one else f"{sizes[0]} to {sizes[-1]}"
        of = "" if cut.all_labels is None else f" of {cut.all_labels}"
        outside = left_out.get("drawn_outside", 0) if kind == "rows" else 0
        yield Finding(
            "renormalised_top_k",
            "serious" if one or kind == "lists" else "warning",
            int(inside.sum()),
            f"The {kind} hold {kept}{of} labels and sum to 1: what was cut off went to the kept "
            + ("ones, and a student learns 0 for the others." if one else "ones, or is truly 0."),
            _lost_mass(table, cut, outside),
            BUCKET,
            table.lines(inside),
        )


def find_two_laws(table: Table) -> Iterator[Finding]:
    """Find records whose label has one probability alone and another in the row or list."""
    found = np.array([two_laws(record, tolerance=table.tolerance) for record in table.records])
    if not found.any():
        return
    both = np.array([_has_both(record) for record in table.records])
    other = np.array([_elsewhere(table, number) for number in np.flatnonzero(both).tolist()])
    apart = -np.expm1(np.minimum(other - table.log[both], 0.0))
    yield Finding(
        "two_laws",
        "serious",
        int(found.sum()),
        f"{found.sum()} labels have one probability alone and another in their row or list.",
        mean(apart, table.count[both], table.confidence, of="drawn labels with two numbers"),
        "Take both after the sampler's processing: one of them is of the law before temperature, "
        "top-p or renormalisation.",
        table.lines(found),
    )


def find_censored(table: Table) -> Iterator[Finding]:
    """Find draws outside of the top list, which come without a number."""
    censored = np.array([record.censored for record in table.records])
    if not censored.any():
        return
    hidden = int(table.count[censored].sum())
    bias, gain = _tail_error(table, censored)
    known = "" if gain is None else f", {gain:.3g} times less than from labels alone"
    yield Finding(
        "censored",
        "warning",
        int(censored.sum()),
        f"{100 * hidden / table.draws:.3g} % of the draws lie outside of the top list and have no "
        "log-probability: within the tail only frequencies tell labels apart, so that the error "
        f"falls as 1/sqrt(n){known}.",
        bias,
        "Use the loss for censored teachers (tail bucket and sampled tail), or ask for a larger k.",
        table.lines(censored),
    )


def _cut_rows(table: Table) -> _Cut | None:
    contexts = np.array(sorted(table.rows), dtype=np.int64)
    lengths = {len(row) for row in table.rows.values()}
    if len(contexts) < 2 or len(lengths) > 1:
        return None
    support = np.zeros(lengths.pop(), bool)  # a label that is 0 everywhere is merely unused
    kept, smallest = np.zeros(len(contexts), np.int64), np.zeros(len(contexts))
    for place, context in enumerate(contexts.tolist()):
        finite = np.isfinite(table.rows[context])
        support |= finite
        kept[place] = finite.sum()
        smallest[place] = np.exp(table.rows[context][finite].min())
    cut = kept < support.sum()
    values, counts = np.unique(kept, return_counts=True)
    commonest = values[counts.argmax()]
    if counts.max() >= ALIKE * len(kept) and commonest < support.sum():
        cut = kept == commonest
    elif cut.mean() <= 0.5 or np.median(smallest[cut]) < UNDERFLOW:
        return None
    return _Cut(contexts[cut], kept[cut], smallest[cut], int(support.sum()))


def _cut_tops(table: Table) -> _Cut | None:
    if not table.tops:
        return None
    contexts = np.array(sorted(table.tops), dtype=np.int64)
    logs = [table.tops[context][1] for context in contexts.tolist()]
    kept = np.array([len(one) for one in logs])
    sums = np.array([np.exp(one).sum() for one in logs])
    smallest = np.exp([one[-1] for one in logs])
    listed = np.concatenate([table.tops[context][0] for context in contexts.tolist()])
    labels = table.labels or len(np.union1d(listed, table.label))
    cut = (np.abs(sums - 1) <= WHOLE) & (smallest > CLIFF) & (kept < labels)
    if cut.mean() <= 0.5:
        return None
    return _Cut(contexts[cut], kept[cut], smallest[cut], table.labels)


def _lost_mass(table: Table, cut: _Cut, outside: int) -> Estimate:
    """Return 1 - a_K: from numbers that were not renormalised, from draws, or bounded."""
    inside = np.isin(table.context, cut.contexts)
    known = [
        number
        for number in np.flatnonzero(inside).tolist()
        if two_laws(table.records[number], tolerance=table.tolerance)
    ]
    if known:
        kept = np.array([table.log[n] - _elsewhere(table, n) for n in known])
        weights = table.count[known]
        lost = float(-np.expm1(np.minimum(kept, 0.0)) @ weights / weights.sum())
        return exact(lost, int(weights.sum()), of="probability beside its renormalised one")
    hidden = [table.records[n].censored for n in np.flatnonzero(inside).tolist()]
    draws = int(table.count[inside].sum())
    outside += int(table.count[inside] @ np.array(hidden))
    if outside:
        total = draws + (outside if not any(hidden) else 0)
        return share(outside, total, table.confidence, of="draws outside of the kept labels")
    # Each label that was cut off has at most the smallest kept probability, before the division.
    others = np.inf if cut.all_labels is None else cut.all_labels - cut.kept
    odds = others * cut.smallest
    most = np.ones(len(odds)) if cut.all_labels is None else odds / (1 + odds)
    weights = table.context_draws[cut.contexts]
    upper = float(most @ weights / weights.sum())
    return bounded(0.0, upper, draws, of="labels cut off are no likelier than the last one kept")


def _has_both(record: TeacherRecord) -> bool:
    listed = any(label == record.label for label, _ in record.top)
    return record.log_probability is not None and (record.row is not None or listed)


def _elsewhere(table: Table, number: int) -> float:
    """Return the log-probability of a record's label in its row, or else in its top list."""
    record = table.records[number]
    if record.row is not None:
        return float(record.row[record.label])
    return dict(record.top)[record.label]


def _tail_error(table: Table, censored: np.ndarray) -> tuple[Estimate, float | None]:
    r"""Return the error that frequencies leave in the tails, and the gain over labels alone.

    .. math:: \frac{\tau}{2} \sqrt{\frac{2}{\pi m}} \sum_j \sqrt{u_j (1 - u_j)}

    for tail mass tau, m draws in the tail and its law u. The law seen in the draws gives the lower
    end, a uniform one (or tau itself) the upper.
    """
    rare = np.bincount(table.context, table.count * censored, minlength=table.contexts)
    contexts = np.array(sorted(table.tops), dtype=np.int64)
    tail = np.array([1 - np.exp(table.tops[c][1]).sum() for c in contexts.tolist()]).clip(0, 1)
    kept = np.array([len(table.tops[c][0]) for c in contexts.tolist()])
    hidden = np.zeros(len(table.pair_first))
    np.add.at(hidden, table.pair, table.count * censored)
    part = hidden / np.maximum(rare, 1)[table.pair_context]
    spread = np.bincount(table.pair_context, np.sqrt(part * (1 - part)), minlength=table.contexts)
    m, spread = rare[contexts], spread[contexts]
    scale = 0.5 * tail * np.sqrt(2 / (np.pi * np.maximum(m, 1)))
    low = np.minimum(scale * spread, tail)
    high = tail
    if table.labels is not None:
        high = np.where(m > 0, np.minimum(scale * np.sqrt(table.labels - kept), tail), tail)
    weights = table.context_draws[contexts]
    bias = bounded(
        float(low @ weights / weights.sum()),
        float(np.maximum(low, high) @ weights / weights.sum()),
        int(weights.sum()),
        of="expected error within the tails",
    )
    return bias, _gain(table, contexts, tail * spread, np.where(m > 1, tail, 0), part)


def _gain(
    table: Table, contexts: np.ndarray, sampled: np.ndarray, tail: np.ndarray, part: np.ndarray
) -> float | None:
    """Return the sum of sqrt(t(1-t)) over all labels by that of sqrt(t(tau-t)/tau) in the tail."""
    if not (sampled * tail).sum():
        return None
    in_tail = np.zeros(table.contexts)
    in_tail[contexts] = tail
    t = part * in_tail[table.pair_context]
    everything = float(np.sqrt(t * (1 - t)).sum())
    for context, mass in zip(contexts.tolist(), tail.tolist(), strict=True):
        if mass > 0:
            head = np.minimum(np.exp(table.tops[context][1]), 1.0)
            everything += float(np.sqrt(head * (1 - head)).sum())
    # sqrt(t (tau - t) / tau) = sqrt(tau) sqrt(u (1 - u))
    left = np.divide(sampled, np.sqrt(tail), out=np.zeros(len(tail)), where=tail > 0)
    return everything / float(left.sum())
