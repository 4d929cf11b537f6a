"""From readings to a certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from limbeck.checks import ArgumentError, check_choice
from limbeck.estimates import Estimate
from limbeck.limits.bounds.arguments import check_confidence
from limbeck.limits.distance.certificate import Certificate
from limbeck.limits.distance.intervals import CONFIDENCE
from limbeck.limits.distance.readings import Readings
from limbeck.limits.distance.units import (
    HEAVY,
    INTERVALS,
    Units,
    group_mean,
    record_mean,
    unbounded_mean,
    units_of,
)


RATIO_ERRORS = 4  # standard errors by which the mean of r may miss 1
SLACK = 1e-3  # and what rounded numbers may add


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are made.

    Attributes:
        confidence: In (0, 1), of each interval alone.
        interval: "betting", "empirical_bernstein" or "hoeffding", for total variation.
        longest: Most records that a sequence can have, where it is known beforehand.
        seed: As of :func:`limbeck.limits.distance.betting.betting_interval`.
    """

    confidence: float = CONFIDENCE
    interval: str = "betting"
    longest: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all of them, before anything is run."""
        check_confidence("certify", self.confidence)
        check_choice("certify", "interval", self.interval, INTERVALS)
        if self.longest is not None and self.longest < 1:
            raise ArgumentError(
                f"certify: expected `longest` >= 1; got {self.longest}. Give the most records that "
                "a sequence can have, or leave it out."
            )
        if self.seed < 0:
            raise ArgumentError(f"certify: expected `seed` >= 0; got {self.seed}. Count from 0.")


@dataclass(frozen=True, eq=False)
class Circumstances:
    """What a certificate says beside its numbers.

    Attributes:
        student: Its name.
        left_out: How many records were left out, by reason.
        warnings: What to mind.
        further: Estimates that need no teacher.
        settings: How it was made.
    """

    student: str = "student"
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    further: Mapping[str, Estimate] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def certificate_of(
    readings: Readings, how: IntervalSettings | None = None, about: Circumstances | None = None
) -> Certificate:
    r"""Turn what was read off a student at held-out records into a certificate.

    .. math:: \widehat{\mathrm{TV}} = \frac1n \sum_i (1 - r_i)_+, \qquad
              \mathrm{KL} \ge \max(2 \mathrm{TV}^2, -\ln(1 - \mathrm{TV}^2))

    The bound on the total variation is a guarantee at any n; KL has no upper bound that holds for
    every law, so that its interval is approximate. The lower bound on KL follows from that on TV
    (Pinsker; Bretagnolle and Huber), for means over inputs too, because both are convex.

    Args:
        readings: Of the records.
        how: How intervals are made.
        about: What else is to be said.

    Returns:
        The certificate; total variation 0 means that no difference was seen.

    Raises:
        ArgumentError: If a sequence is longer than ``longest``.

    Example:
        A student that gives half of the teacher's probability to every drawn label.

        >>> n = 400
        >>> half = Readings(
        ...     np.full(n, 0.5),
        ...     np.full(n, 0.5),
        ...     np.full(n, np.log(0.5)),
        ...     np.full(n, np.nan),
        ...     np.ones(n, int),
        ...     None,
        ...     np.full(n, -1),
        ... )
        >>> found = certificate_of(half)
        >>> round(found.total_variation.value, 3), round(found.kl.value, 3)
        (0.5, 0.193)

    Source:
        Derived; meters of section 7 in the notes on Zhao and Zhu (2023), arXiv:2310.07838.
    """
    how, about = how or IntervalSettings(), about or Circumstances()
    warnings = list(about.warnings)
    low, high = (
        units_of(x, readings.counts, readings.groups) for x in (readings.low, readings.high)
    )
    estimates = {"total_variation": _total_variation(low, high, how, readings)}
    found = estimates["total_variation"]
    estimates["agreement"] = _agreement(found)
    if not low.equal:
        bounds, what = group_mean(
            low, high, confidence=how.confidence, interval=how.interval, seed=how.seed
        )
        value = float(((low.sums + high.sums) / low.sizes).mean()) / 2
        per = f"mean over {readings.unit}s of the mean within"
        settings = _settings(per, what, how)
        estimates["total_variation_per_group"] = _bounded(
            value, bounds, low, settings, resolved=found.status == "resolved"
        )
    kl = _divergences(readings, how, warnings)
    estimates |= kl
    if readings.whole_responses():
        estimates |= _responses(readings, how)
    if readings.censored.any():
        share = float((readings.counts * readings.censored).sum() / readings.counts.sum())
        warnings.append(
            f"{share:.1%} of the records are censored (the drawn label is not among the reported "
            "ones): total variation is bracketed only, and KL cannot be estimated."
        )
    settings = {
        "confidence": how.confidence,
        "interval": how.interval,
        "longest": how.longest,
        "seed": how.seed,
        "whole_rows": int(readings.whole.sum()),
        "censored": int(readings.censored.sum()),
        **about.settings,
    }
    return Certificate(
        student=about.student,
        privilege="soft_labels" if readings.whole.all() else "sampled_probabilities",
        records=int(readings.counts.sum()),
        units=len(low.sums),
        unit=readings.unit,
        estimates={**estimates, **about.further},
        left_out=dict(about.left_out),
        warnings=tuple(warnings),
        settings=settings,
    )


def kl_at_least(total_variation: float) -> float:
    """Return the smallest KL [nats] that goes with a total variation in [0, 1]."""
    square = total_variation**2
    return max(2 * square, -math.log1p(-square)) if square < 1 else math.inf


def _total_variation(
    low: Units, high: Units, how: IntervalSettings, readings: Readings
) -> Estimate:
    options: dict[str, Any] = {
        "interval": how.interval,
        "longest": how.longest,
        "seed": how.seed,
    }
    bounds, what = record_mean(low, high, confidence=how.confidence, **options)
    settings = _settings(f"mean over records of {readings.unit}s", what, how)
    one_sided = 2 * how.confidence - 1  # two ends, each of which may miss as often as one may
    if one_sided > 0:
        settings["at_most"] = record_mean(low, high, confidence=one_sided, **options)[0].upper
    settings["kl_at_least"] = kl_at_least(bounds.lower)
    resolved = not readings.censored.any()
    if resolved:
        near = unbounded_mean(high, confidence=how.confidence, unit="fraction")
        settings["standard_error"] = near.settings["standard_error"]
        settings["approximate"] = [max(near.lower, 0.0), min(near.upper, 1.0)]
    return _bounded((low.mean + high.mean) / 2, bounds, low, settings, resolved=resolved)


def _bounded(
    value: float,
    bounds: tuple[float, float],
    units: Units,
    settings: dict[str, Any],
    *,
    resolved: bool,
) -> Estimate:
    lower, upper = bounds
    return Estimate(
        min(max(value, lower), upper),
        lower,
        upper,
        n=int(units.sizes.sum()),
        unit="fraction",
        status="resolved" if resolved else "unresolved",
        settings=settings,
    )


def _agreement(found: Estimate) -> Estimate:
    kept = {key: found.settings[key] for key in ("interval", "kind", "confidence")}
    return Estimate(
        1 - found.value,
        1 - found.upper,
        1 - found.lower,
        n=found.n,
        unit="fraction",
        status=found.status,
        settings={"meaning": "1 - total variation: share of draws accepted", **kept},
    )


def _divergences(
    readings: Readings, how: IntervalSettings, warnings: list[str]
) -> dict[str, Estimate]:
    if readings.censored.any():
        return {}
    terms = {"kl_k3": readings.k3(), "kl_k1": readings.k1()}
    zeros = int(readings.counts[np.isposinf(terms["kl_k1"])].sum())
    if zeros:
        warnings.append(
            f"the student gives probability 0 to a label that the teacher has in {zeros} records: "
            "KL is infinite."
        )
    if readings.whole.all():
        terms = {"kl": terms["kl_k1"]}
    found: dict[str, Estimate] = {}
    for name, values in terms.items():
        finite = np.where(np.isfinite(values), values, 0.0)
        units = units_of(finite, readings.counts, readings.groups)
        if not np.isfinite(values).all():
            units = Units(np.full(len(units.sums), np.inf), units.sizes)
        meaning = "mean over records; exact in each" if name == "kl" else f"mean of {name[3:]}"
        found[name] = unbounded_mean(
            units, confidence=how.confidence, unit="nats", least=0.0, meaning=meaning
        )
    if "kl" not in found:
        best = min(found, key=lambda name: found[name].settings["standard_error"])
        found = {"kl": found[best], **found}
    _check_ratios(readings, how, warnings)
    heaviest = found["kl"].settings["heaviest"]
    if heaviest > HEAVY and found["kl"].status == "resolved":
        warnings.append(
            f"one {readings.unit} makes {heaviest:.0%} of the spread of KL: its interval is likely "
            "too narrow. Trust the total variation."
        )
    return found


def _check_ratios(readings: Readings, how: IntervalSettings, warnings: list[str]) -> None:
    """Warn where the mean of r is not 1, as it is for every student: sum_a pihat = 1."""
    with np.errstate(over="ignore"):
        ratio = np.exp(readings.log_ratio)
    if not np.isfinite(ratio).all():
        return
    units = units_of(ratio, readings.counts, readings.groups)
    mean = unbounded_mean(units, confidence=how.confidence, unit="")
    far = mean.value - 1
    if abs(far) > max(RATIO_ERRORS * mean.settings["standard_error"], SLACK):
        warnings.append(
            f"student's over teacher's probability is {mean.value:.3g} on average, where every "
            "student has 1: the labels were not drawn by the reported probabilities (temperature, "
            "top-p), or the student likes labels that the teacher draws too rarely to be seen. "
            "Distances may be off, KL most."
        )


def _responses(readings: Readings, how: IntervalSettings) -> dict[str, Estimate]:
    ones = np.ones_like(readings.counts)
    log_ratio = units_of(readings.log_ratio, ones, readings.groups).sums
    terms = np.maximum(-np.expm1(np.minimum(log_ratio, 0.0)), 0.0)
    units = Units(terms, np.ones_like(terms))
    bounds, what = group_mean(
        units, units, confidence=how.confidence, interval=how.interval, seed=how.seed
    )
    settings = _settings("mean over responses of (1 - product of r)_+", what, how)
    sums = units_of(readings.k3(), ones, readings.groups).sums
    return {
        "response_total_variation": _bounded(units.mean, bounds, units, settings, resolved=True),
        "response_kl": unbounded_mean(
            Units(sums, np.ones_like(sums)),
            confidence=how.confidence,
            unit="nats",
            least=0.0,
            meaning="mean over responses of the sum of k3 over tokens (chain rule)",
        ),
    }


def _settings(meaning: str, what: str, how: IntervalSettings) -> dict[str, Any]:
    return {
        "meaning": meaning,
        "interval": what,
        "kind": "guarantee",
        "confidence": how.confidence,
    }
