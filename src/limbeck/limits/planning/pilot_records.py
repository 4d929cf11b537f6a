"""What the records of a pilot say of the teacher's law: tails, effective labels, D1."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import ndtri

from limbeck.checks import DataError
from limbeck.estimates import Estimate, Status
from limbeck.limits.bounds.arguments import Number, check_confidence
from limbeck.limits.planning.pilot_tail import TailFit, fit_tail
from limbeck.limits.tables.from_records import SMALLEST, total_draws
from limbeck.limits.tables.mass_by_unit import mass_by_unit
from limbeck.teacher_record import Privilege, TeacherRecord


RESAMPLES = 400
MANY = 10_000  # units from which the linear part of the resamples is taken, in closed form
AT_ONCE = 4_000_000  # weights in memory
COVERED = 0.05  # missing mass of inputs up to which D1 is read off the pilot


@dataclass(frozen=True)
class LawPilot:
    """A pilot's view of the law.

    Attributes:
        n: Queries.
        privilege: The most that every record gives.
        language_model: Whether inputs are texts or token ids.
        sequences: How many sequences the records come from; 0 where none is named.
        inputs: Tail of the inputs.
        pairs: Tail of the pairs (input, label); sharper where their probabilities are known.
        row_spread: Mean over queries of sum_a sqrt(pi (1 - pi)); unresolved from labels alone.
        effective_labels: A_eff, its square plus 1.
        square_spread: Mean over queries of its square, or an upper bound; None where unknown.
        size: D1 of the inputs seen; unresolved where too many are unseen.
        notes: What limits the above.
    """

    n: int
    privilege: Privilege
    language_model: bool
    sequences: int
    inputs: TailFit
    pairs: TailFit
    row_spread: Estimate
    effective_labels: Estimate
    square_spread: float | None
    size: Estimate
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    inputs: Int64[np.ndarray, " r"]
    labels: Int64[np.ndarray, " r"]
    counts: Int64[np.ndarray, " r"]
    logs: Float[np.ndarray, " r"] | None
    spreads: Float[np.ndarray, " r"] | None = field(repr=False)  # of the row, or of the draw
    exact: bool = False  # whether spreads are those of rows


def fit_law(records: Iterable[TeacherRecord], *, confidence: Number = 0.95) -> LawPilot:
    r"""Read tails, effective labels and D1 from a pilot's records.

    .. math:: E \sum_a \sqrt{\pi (1 - \pi)} = E_{a \sim \pi} \sqrt{\frac{1 - \pi(a|s)}{\pi(a|s)}},
              \qquad A_{eff} = \Big(E \sum_a \sqrt{\pi (1 - \pi)}\Big)^2 + 1

    so that sampled probabilities are enough for it; rows give it without that noise.

    Args:
        records: Independent queries, inputs from the law that the student will meet. Where
            sequences are named, intervals resample whole sequences.
        confidence: Of the intervals, in (0, 1).

    Returns:
        The view.

    Raises:
        DataError: If there are no records.
        ArgumentError: If the confidence is outside of its range.

    Example:
        Even rows of two labels: sum sqrt(1/4) = 1 and A_eff = 2.

        >>> row = np.log([0.5, 0.5])
        >>> law = fit_law([TeacherRecord(input=i % 3, label=0, row=row) for i in range(30)])
        >>> round(law.effective_labels.value, 9), law.inputs.distinct
        (2.0, 3)

    Source:
        Derived; tails as in ``pilot_tail``, resampling by Efron (1979).
    """
    check_confidence("fit_law", confidence)
    kept = list(records)
    if not kept:
        raise DataError(
            "fit_law: expected records; got none. Ask the teacher a few hundred times first."
        )
    draws = total_draws("fit_law", kept)
    table, groups = _table(kept), _sequences(kept)
    level = float(confidence)
    if groups is not None and int(groups.max()) == 0:
        raise DataError(
            "fit_law: expected records of two sequences or more; got one, whose records depend on "
            "each other: nothing says what a fresh one will meet. Collect more sequences."
        )
    notes: list[str] = []
    if table.logs is None:
        notes.append(
            "labels without probabilities: the tail of the pairs is that of plain Good-Turing."
        )
    inputs = _tail(table, groups, level, draws, of_inputs=True)
    pairs = _tail(table, groups, level, draws, of_inputs=False)
    privilege = _least_privilege(kept)
    language_model = any(not isinstance(record.input, int) for record in kept)
    if groups is not None:
        notes.append(
            f"{int(groups.max()) + 1:,} sequences: their records are dependent, so that tails are "
            "those of fresh sequences and intervals are by sequence; queries are meant in "
            "sequences of this length."
        )
    warm = sorted({record.temperature for record in kept} - {1.0})
    if warm:
        notes.append(
            f"sampled at temperature {', '.join(f'{t:g}' for t in warm)}: the numbers are about "
            "that law."
        )
    spread, effective, size = _spreads(table, groups, inputs, level)
    return LawPilot(
        n=draws,
        privilege=privilege,
        language_model=language_model,
        sequences=0 if groups is None else int(groups.max()) + 1,
        inputs=inputs,
        pairs=pairs,
        row_spread=spread,
        effective_labels=effective,
        square_spread=_square(table),
        size=size,
        notes=tuple(notes),
    )


def _table(records: list[TeacherRecord]) -> _Table:
    numbers: dict[object, int] = {}
    inputs = np.array([numbers.setdefault(record.input, len(numbers)) for record in records])
    counts = np.array([record.count for record in records])
    labels = np.array([record.label for record in records])
    logs = [record.log_probability for record in records]
    found = None
    if not any(log is None for log in logs):
        found = np.maximum(np.array(logs, dtype=np.float64), SMALLEST)
    rows = [record.row for record in records]
    if all(row is not None for row in rows):
        p = [np.exp(row) for row in rows if row is not None]
        spreads = np.array([np.sqrt(np.clip(row * (1 - row), 0, None)).sum() for row in p])
        return _Table(inputs, labels, counts, found, spreads, exact=True)
    spreads = None if found is None else np.sqrt(np.expm1(-np.minimum(found, 0.0)))
    return _Table(inputs, labels, counts, found, spreads)


def _sequences(records: list[TeacherRecord]) -> Int64[np.ndarray, " r"] | None:
    """Return the sequence of each record; None where none is named."""
    if all(record.sequence is None for record in records):
        return None
    numbers: dict[object, int] = {}
    keys = (
        ("record", place) if record.sequence is None else ("sequence", record.sequence)
        for place, record in enumerate(records)
    )
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def _least_privilege(records: list[TeacherRecord]) -> Privilege:
    found = {record.privilege for record in records}
    if "hard_labels" in found:
        return "hard_labels"
    return "sampled_probabilities" if "sampled_probabilities" in found else "soft_labels"


def _tail(
    table: _Table,
    groups: Int64[np.ndarray, " r"] | None,
    confidence: float,
    draws: int,
    *,
    of_inputs: bool,
) -> TailFit:
    """Fit the tail of the inputs, or of the pairs by their probabilities where these are known."""
    labels = np.zeros_like(table.labels) if of_inputs else table.labels
    law = None if of_inputs or table.logs is None else np.exp(table.logs)
    mass = mass_by_unit(table.inputs, labels, table.counts, units=groups, probabilities=law)
    if groups is None:
        return fit_tail(mass.times, level=mass.value, confidence=confidence)
    return fit_tail(
        mass.times, level=mass.value, draws=draws, error=mass.error, confidence=confidence
    )


def _square(table: _Table) -> float | None:
    """Return the mean square of the rows' spreads, or what bounds it from above."""
    if table.spreads is None:
        return None
    shares = table.counts / table.counts.sum()
    return float(shares @ table.spreads**2)  # of draws: their noise adds to it


def _spreads(
    table: _Table,
    groups: Int64[np.ndarray, " r"] | None,
    inputs: TailFit,
    confidence: float,
) -> tuple[Estimate, Estimate, Estimate]:
    n = int(table.counts.sum())
    if table.spreads is None:
        nothing = Estimate(0.0, 0.0, math.inf, n, "1", "unresolved")
        labels = Estimate(1.0, 1.0, math.inf, n, "labels", "unresolved")
        return nothing, labels, nothing
    units = np.arange(len(table.inputs)) if groups is None else groups
    spread, size = (
        float(found[0])
        for found in _statistics(table, table.spreads, table.counts[None].astype(np.float64))
    )
    many = (n if groups is None else int(units.max()) + 1) >= MANY
    if many:
        ends = _linear(table, table.spreads, groups, (spread, size), confidence)
    else:
        means, sizes = _resampled(table, table.spreads, units, independent=groups is None)
        ends = _quantiles(means, spread, confidence), _quantiles(sizes, size, confidence)
    (low, high), (size_low, size_high) = ends
    status: Status = "resolved" if int(units.max()) >= 29 else "unresolved"
    settings = {"interval": "bootstrap", "confidence": confidence, "resamples": RESAMPLES}
    if many:
        settings = {"interval": "normal, linearised", "confidence": confidence}
    covered = inputs.now.upper <= COVERED and status == "resolved"
    return (
        Estimate(spread, low, high, n, "1", status, settings),
        Estimate(spread**2 + 1, low**2 + 1, high**2 + 1, n, "labels", status, settings),
        Estimate(
            size,
            size_low,
            size_high if covered else math.inf,
            n,
            "1",
            "resolved" if covered else "unresolved",
            settings,
        ),
    )


def _statistics(
    table: _Table, spreads: Float[np.ndarray, " r"], weights: Float[np.ndarray, "b r"]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Return the mean spread over queries, and D1 of the inputs seen, for weights of records."""
    order = np.argsort(table.inputs, kind="stable")
    starts = np.flatnonzero(np.diff(table.inputs[order], prepend=-1))
    sums = np.add.reduceat((weights * spreads)[:, order], starts, axis=1)
    seen = np.add.reduceat(weights[:, order], starts, axis=1)
    total = weights.sum(axis=1)
    roots = sums / np.sqrt(np.maximum(seen, 1e-300) * total[:, None])
    return sums.sum(axis=1) / total, roots.sum(axis=1) ** 2


def _linear(
    table: _Table,
    spreads: Float[np.ndarray, " r"],
    groups: Int64[np.ndarray, " r"] | None,
    values: tuple[float, float],
    confidence: float,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the intervals that endless resamples of many units have, to first order.

    Of D1 = (sum_s S_s / sqrt(n_s n))^2 the derivative by a record's weight is taken; the concave
    root of n_s makes it too small by Var(n_s)/(8 n_s^2) of each term, which mirrored resamples
    undo.
    """
    counts, at, n = table.counts.astype(np.float64), table.inputs, float(table.counts.sum())
    seen, sums = np.bincount(at, counts), np.bincount(at, counts * spreads)
    roots = sums / np.sqrt(seen * n)
    total = float(roots.sum())
    pull = spreads / np.sqrt(seen[at] * n) - roots[at] / (2 * seen[at]) - total / (2 * n)
    steps = np.stack([(spreads - values[0]) / n, 2 * total * pull])
    if groups is None:
        squares = steps**2 @ counts
    else:
        squares = np.array([(np.bincount(groups, step * counts) ** 2).sum() for step in steps])
    half = float(ndtri((1 + confidence) / 2)) * np.sqrt(squares)
    shift = 2 * total * float((roots * _variances(table, groups) / (8 * seen**2)).sum())
    low, high = values[0] - float(half[0]), values[0] + float(half[0])
    below, above = (values[1] + shift + side * float(half[1]) for side in (-1, 1))
    return (max(low, 0.0), high), (max(min(below, values[1]), 0.0), max(above, values[1]))


def _variances(
    table: _Table, groups: Int64[np.ndarray, " r"] | None
) -> Float[np.ndarray, " inputs"]:
    """Return the variance of each input's count: of single draws, or of whole sequences."""
    if groups is None:
        return np.bincount(table.inputs, table.counts.astype(np.float64))
    number = int(groups.max()) + 1
    cells, place = np.unique(table.inputs * number + groups, return_inverse=True)
    drawn = np.bincount(place, table.counts.astype(np.float64))
    return np.bincount(cells // number, drawn**2)


def _resampled(
    table: _Table,
    spreads: Float[np.ndarray, " r"],
    units: Int64[np.ndarray, " r"],
    *,
    independent: bool,
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Return both statistics over resamples of the units: queries, or whole sequences."""
    generator = np.random.default_rng(0)
    at_once = max(1, AT_ONCE // len(units))
    share = table.counts / table.counts.sum()
    means, sizes = [], []
    for start in range(0, RESAMPLES, at_once):
        some = min(at_once, RESAMPLES - start)
        if independent:  # a record that stands for several draws is drawn as often
            weights = generator.multinomial(int(table.counts.sum()), share, size=some)
        else:
            number = int(units.max()) + 1
            times = generator.multinomial(number, np.full(number, 1 / number), size=some)
            weights = times[:, units] * table.counts
        found = _statistics(table, spreads, weights.astype(np.float64))
        means.append(found[0])
        sizes.append(found[1])
    return np.concatenate(means), np.concatenate(sizes)


def _quantiles(
    resamples: Float[np.ndarray, " b"], value: float, confidence: float
) -> tuple[float, float]:
    """Return the basic interval: the resamples' quantiles, mirrored at the value."""
    low, high = np.quantile(resamples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return max(min(2 * value - float(high), value), 0.0), max(2 * value - float(low), value)
