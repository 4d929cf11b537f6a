"""Findings about draws: another temperature, no draws at all, weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from limbeck.estimates import Estimate
from limbeck.limits.auditing.estimates import bounded, exact
from limbeck.limits.auditing.groups import known_groups, repeated_groups, without_repeats
from limbeck.limits.auditing.power import (
    STEEPEST,
    Groups,
    PowerFit,
    distance_of_power,
    fit_power,
    misfit,
)
from limbeck.limits.auditing.result import UNIT, Finding
from limbeck.limits.auditing.table import Table


ALARM = 1e-3  # chance of a false alarm of one statistical test
NEAR = 0.01  # exponents this near to 1 are left alone however many draws there are
ENOUGH = 10.0  # expected information about the exponent, for its interval to hold
MOST_TEMPERATURES = 3  # declared ones that are looked at, the commonest first
OUTSIDE = 0.25  # residual of log-weights that a power of the probability leaves, at most
SAMPLE_AGAIN = (
    "Sample at temperature 1 without top-p, and take the log-probabilities after the sampler's "
    "processing; or train on the reported numbers and not on the frequencies."
)


def find_temperature(table: Table) -> Iterator[Finding | str]:
    """Compare the labels drawn with the probabilities that were reported for them."""
    yield from _declared(table)
    values, counts = np.unique(table.temperature, return_counts=True)
    for value in values[np.argsort(-counts)][:MOST_TEMPERATURES].tolist():
        chosen = np.flatnonzero(table.temperature == value).tolist()
        records = [table.records[number] for number in chosen]
        yield from _of_one_temperature(replace(table, records=records))


def _of_one_temperature(table: Table) -> Iterator[Finding | str]:
    if not np.isfinite(table.log).any() and not table.tops:
        yield "temperature: no probabilities were reported. Frequencies alone show no temperature."
        return
    if without_repeats(table):
        yield (
            "temperature: every pair comes once though many would repeat; repeats were taken out, "
            "so that frequencies say nothing."
        )
        return
    groups = known_groups(table)
    whole = groups is not None and not table.tops
    groups = repeated_groups(table) if groups is None else groups
    if groups is None:
        yield (
            "temperature: needs rows, top lists, or several draws of an input of which some labels "
            "come again."
        )
        return
    fit = fit_power(groups, confidence=table.confidence)
    if fit.information < ENOUGH:
        yield (
            f"temperature: {fit.draws} draws of labels with known proportions carry too little "
            f"information (fitted temperature {_range(fit)})."
        )
        return
    yield from _judged(table, groups, fit, whole=whole)


def find_weights(table: Table) -> Iterator[Finding | str]:
    """Compare the weights of records with the probabilities of their labels."""
    weight = np.array([np.nan if r.weight is None else r.weight for r in table.records])
    given = np.isfinite(weight)
    if not given.any() or np.ptp(weight[given]) <= 1e-9 * weight[given].max():
        return
    lines = table.lines(given)
    use = given & np.isfinite(table.log) & (weight > 0)
    power, rest = _slope(np.log(weight[use]), table.log[use]) if use.sum() > 2 else (0.0, np.inf)
    if rest > OUTSIDE or abs(power) <= NEAR:
        yield Finding(
            "weights",
            "warning",
            int(given.sum()),
            "The records have different weights, which are no power of the teacher's probability.",
            None,
            "A student learns the law times the weight. Make sure that this is meant.",
            lines,
        )
        return
    tempered = use & (table.temperature > 0)
    drawn = 1 / float(np.mean(table.temperature[tempered])) if tempered.any() else STEEPEST
    learned = drawn + power
    if abs(learned - 1) <= 5 * NEAR:
        return  # importance weights of a proposal at another temperature: as they must be
    exponent = max(learned, 0.0)
    yield Finding(
        "probability_weighting",
        "serious",
        int(given.sum()),
        f"The weights are the teacher's probability to the power {power:.2f}: a student learns pi "
        f"to the power {exponent:.2f}, divided by its sum, and not pi.",
        _bias_of_power(table, exponent),
        "Leave the weights out. To use the log-probabilities take squared-error logits or k3 "
        '(`loss="sel"`, `"k3"`, `"control_variate"`), which need no weights.',
        lines,
    )


def find_cost_of_weighting(table: Table) -> Iterator[Finding | str]:
    """Say what weighting a cross-entropy by the teacher's probability would cost on this set."""
    if not np.isfinite(table.log).any():
        return
    bias = squared_bias(table)
    yield Finding(
        "cost_of_probability_weighting",
        "note",
        int(np.isfinite(table.log).sum()),
        "Cross-entropy weighted by the teacher's probability would learn pi^2 divided by its sum.",
        bias,
        "Don't weight by it.",
    )


def squared_bias(table: Table) -> Estimate:
    r"""Return how far pi^2 / |pi|^2 is from pi, averaged over the draws' contexts.

    Exact for rows. Where only some labels of a context are known, with the remaining mass r, the
    squared norm lies between that of the known labels and r^2 more, which bounds the distance

    .. math:: \sum_a \pi(a) \Bigl(1 - \frac{\pi(a)}{\|\pi\|^2}\Bigr)_+

    from both sides: the known labels' part grows with the norm, the others' is in [0, r].

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, lemma 4.2; bounds derived.
    """
    lower = np.zeros(table.contexts)
    upper = np.zeros(table.contexts)
    use = np.zeros(table.contexts, bool)
    known = np.isfinite(table.pair_probability)
    of, p = table.pair_context[known], np.minimum(table.pair_probability[known], 1.0)
    rest = np.clip(1 - np.bincount(of, p, minlength=table.contexts), 0, 1)
    least = np.bincount(of, p * p, minlength=table.contexts)
    use[of] = True
    for ends, norm, more in ((lower, least, 0 * rest), (upper, least + rest**2, rest)):
        ratio = np.divide(p, norm[of], out=np.zeros(len(p)), where=norm[of] > 0)
        part = p * np.maximum(1 - ratio, 0)
        ends[:] = np.minimum(np.bincount(of, part, minlength=table.contexts) + more, 1)
    all_rows = True
    for context in np.flatnonzero(use).tolist():
        row = table.rows.get(context)
        all_rows = all_rows and row is not None
        if row is not None:
            law = np.exp(row) / np.exp(row).sum()
            square = law * law / (law * law).sum()
            lower[context] = upper[context] = 0.5 * float(np.abs(square - law).sum())
    weights = table.context_draws[use]
    low, high = (float(ends[use] @ weights / weights.sum()) for ends in (lower, upper))
    draws = int(weights.sum())
    return exact(low, draws) if all_rows else bounded(low, high, draws)


def _declared(table: Table) -> Iterator[Finding]:
    other = table.temperature != 1.0
    if not other.any():
        return
    values = np.unique(table.temperature[other])
    shown = ", ".join(f"{value:g}" for value in values[:5]) + ", ..." * (len(values) > 5)
    greedy = bool((table.temperature == 0).any())
    hard = bool(np.isnan(table.log[other]).any())
    text = (
        f"Sampled at temperature {shown}: frequencies follow the sampler's law, not the teacher's."
    )
    if greedy:
        text += " Labels at temperature 0 are no draws, only the most likely ones."
    yield Finding(
        "declared_temperature",
        "serious" if greedy and hard else "warning",
        int(other.sum()),
        text,
        None,
        SAMPLE_AGAIN,
        table.lines(other),
    )


def _judged(table: Table, groups: Groups, fit: PowerFit, *, whole: bool) -> Iterator[Finding]:
    p_value, distance = misfit(groups, fit.exponent)
    records = int((table.count[np.isfinite(table.log)] > 0).sum())
    if p_value < ALARM / 10 and fit.exponent < STEEPEST:
        half = float(np.sqrt(np.log(2 / (1 - table.confidence)) / (2 * fit.draws)))
        yield Finding(
            "labels_not_drawn",
            "serious",
            records,
            "The labels are no draws from the probabilities reported with them, at any temperature "
            f"(p = {p_value:.1g}; the nearest is {_range(fit)}).",
            Estimate(
                min(distance, 1.0),
                max(distance - half, 0.0),
                min(distance + half, 1.0),
                fit.draws,
                UNIT,
                "resolved",
                {"kind": "shift of mass between bins of the probability, at least"},
            ),
            "Labels of a data set, or of another model, are not the teacher's: learn from the "
            "numbers of the rows alone, or sample labels from them.",
        )
        return
    shifted = fit.lower > 1 + NEAR or fit.upper < 1 - NEAR
    if fit.p_value >= ALARM or not shifted:
        return
    square = ""
    if fit.lower <= 2 <= fit.upper:
        square = " So do draws that were weighted or counted by their own probability (power 2)."
    if fit.exponent >= STEEPEST:
        square = " The labels are always the most likely ones."
    if not whole:
        square += " The bias is that of the proportions among known labels."
    yield Finding(
        "temperature",
        "serious",
        records,
        "The labels follow the reported probabilities to another power: sampled at temperature "
        f"{_range(fit)} of the reported law (p = {fit.p_value:.1g}, {fit.draws} draws).{square}",
        _power_bias(groups, fit),
        SAMPLE_AGAIN,
    )


def _power_bias(groups: Groups, fit: PowerFit) -> Estimate:
    ends = [distance_of_power(groups, x) for x in (fit.lower, fit.exponent, fit.upper)]
    temperature, low, high = fit.temperature
    settings = {
        "temperature": _finite(temperature),
        "temperature_interval": [_finite(low), _finite(high)],
        "exponent": fit.exponent,
    }
    lowest = 0.0 if fit.lower <= 1 <= fit.upper else min(ends)
    return Estimate(ends[1], lowest, max(ends), fit.draws, UNIT, "resolved", settings)


def _bias_of_power(table: Table, exponent: float) -> Estimate | None:
    if abs(exponent - 2) <= NEAR:
        return squared_bias(table)
    groups = known_groups(table) or repeated_groups(table)
    if groups is None:
        return None
    value = distance_of_power(groups, exponent)
    return exact(value, int(groups.draws.sum()), exponent=exponent)


def _slope(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Return the least-squares slope, and the deviation that it leaves."""
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread if spread > 0 else 0.0
    return slope, float(np.sqrt(np.mean((y - slope * x) ** 2)))


def _range(fit: PowerFit) -> str:
    value, low, high = fit.temperature
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
