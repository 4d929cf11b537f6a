"""Case ``censored``: numbers for the top 20 labels only, as many interfaces give them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line, widened
from limbeck.limits.lab.running import (
    LEARNERS,
    RISK,
    Learner,
    error_of_mean,
    error_of_slope,
    generator,
    result,
    simulate,
    slope,
)
from limbeck.limits.tables.dense import censored_rows
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import zipf_law
from limbeck.limits.tables.sizes import censored_gain


INPUTS, LABELS, EXPONENT, HEAD = 20, 500, 1.6, 20
GRID = (2_000, 20_000, 200_000, 2_000_000, 20_000_000)
RUNS = {"full": 60, "quick": 12}
LAST, SLOPE, SLOPE_WITHIN, GAIN_WITHIN = 2, -0.5, 0.01, 0.03
MASS, DIGITS = 0.8966479105, 1e-10
BIASES = {"renormalised": 0.1033520895, "uniform tail": 0.0577767868}


def censored_law() -> FiniteLaw:
    """Return the law of the case: rows that fall as a power, labels in order."""
    rows = np.tile(zipf_law(LABELS, EXPONENT), (INPUTS, 1))
    return FiniteLaw("censored", np.full(INPUTS, 1 / INPUTS), rows)


def _head_and_tail(law: FiniteLaw, counts: np.ndarray) -> np.ndarray:
    told = np.broadcast_to(np.arange(law.labels) < HEAD, counts.shape)
    return censored_rows(counts, told, law.rows)


def _renormalised(law: FiniteLaw, counts: np.ndarray) -> np.ndarray:
    head = np.where(np.arange(law.labels) < HEAD, law.rows, 0.0)
    return np.broadcast_to(head / head.sum(1, keepdims=True), counts.shape)


def _uniform_tail(law: FiniteLaw, counts: np.ndarray) -> np.ndarray:
    head = np.arange(law.labels) < HEAD
    mass = law.rows[:, ~head].sum(1, keepdims=True)
    rows = np.where(head, law.rows, mass / (law.labels - HEAD))
    return np.broadcast_to(rows, counts.shape)


STUDENTS: Mapping[str, Learner] = {
    "hard labels": LEARNERS["hard_labels"],
    "head and tail": _head_and_tail,
    "sampled probabilities": LEARNERS["sampled_probabilities"],
    "renormalised": _renormalised,
    "uniform tail": _uniform_tail,
}


def censored(settings: LabSettings) -> LabResult:
    r"""Check that exact heads with sampled tails keep :math:`n^{-1/2}`, 1.54 times lower.

    Args:
        settings: Quick takes fewer runs.

    Returns:
        Checks of the slope, of the gain over hard labels, and of the biases of the two short cuts,
        and risks against n.

    Source:
        Derived, for the setting of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    began, size = time.perf_counter(), "quick" if settings.quick else "full"
    law, random = censored_law(), generator(settings, "censored")
    found = [simulate(law, n, RUNS[size], random, STUDENTS) for n in GRID]
    means = {name: [float(one[name].mean()) for one in found] for name in STUDENTS}
    gain = censored_gain(law.rows[0], HEAD)
    last, runs = GRID[-LAST:], [one["head and tail"] for one in found[-LAST:]]
    within = widened(SLOPE_WITHIN, error_of_slope(last, runs), quick=settings.quick)
    fall = slope(last, means["head and tail"][-LAST:])
    ratio = means["hard labels"][-1] / means["head and tail"][-1]
    errors = [error_of_mean(found[-1][name]) / means[name][-1] for name in list(STUDENTS)[:2]]
    noise = ratio * math.hypot(*errors)
    checks = [
        compare("mass of the head", float(law.rows[0, :HEAD].sum()), MASS, DIGITS),
        compare("head and tail: slope", fall, SLOPE, within),
        compare(
            "hard labels / head and tail, last n",
            ratio,
            gain,
            widened(GAIN_WITHIN, noise, quick=settings.quick),
        ),
    ]
    for name, bias in BIASES.items():
        checks.append(compare(f"{name}: bias", means[name][-1], bias, DIGITS))
    text = "sampled probabilities, last n"
    checks.append(compare(text, means["sampled probabilities"][-1], 0.0, 1e-6))
    curve = LabCurve(
        f"top {HEAD} of {LABELS} labels",
        "draws",
        RISK,
        line(GRID),
        line(means["head and tail"]),
        line([ratio_of / gain for ratio_of in means["hard labels"]]),
        {name: line(means[name]) for name in STUDENTS if name != "head and tail"},
        log=True,
    )
    return result("censored", settings, began, checks, [curve], {"runs": RUNS[size]})
