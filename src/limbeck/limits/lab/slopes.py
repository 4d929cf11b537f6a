"""Case ``slopes``: how fast each learner's risk falls on the law that is hardest for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from limbeck.lab_result import Check, LabCurve, LabResult, LabSettings, compare, line, widened
from limbeck.limits.lab.running import (
    RISK,
    error_of_slope,
    generator,
    log_spaced,
    result,
    simulate,
    slope,
    soft_label_runs,
)
from limbeck.limits.tables.exact_risk import hard_label_risk, soft_label_risk
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import (
    hard_label_instance,
    sampled_probability_instance,
    sampled_probability_instance_risk,
    soft_label_instance,
)


# Inputs, labels, runs.
FULL = ((20, 20, 800), (20, 100, 800), (100, 20, 800), (100, 100, 200))
QUICK = ((20, 20, 100), (20, 21, 100))
POINTS, FIRST, LAST = 7, 4, 400  # n from 4 S A to 400 S A
WITHIN, SOFT_WITHIN, EXACT, DIRAC = 0.01, 0.02, 0.005, 0.001
SOFT_EXACT = -0.977  # of the reference's grid: rows move on with n, so it is not -1
MORE = 25  # times as many runs of soft labels, whose risk is noisier and needs no labels


def slopes(settings: LabSettings) -> LabResult:
    r"""Check the rates :math:`n^{-1/2}`, :math:`n^{-1}` and :math:`n^{-1}` of the theorems.

    Args:
        settings: Quick takes two small sizes and fewer runs.

    Returns:
        Checks of the slopes of log risk on log n over n = 4 S A to 400 S A, and risks against n.

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, figure 2; expectations derived.
    """
    began, checks, curves = time.perf_counter(), [], []
    for inputs, labels, runs in QUICK if settings.quick else FULL:
        pairs, name = inputs * labels, f"{inputs} inputs, {labels} labels"
        grid = log_spaced(FIRST * pairs, LAST * pairs, POINTS)
        for privilege, make, exact, theory, within in INSTANCES:
            random = generator(settings, "slopes", privilege, inputs, labels)
            laws = [make(inputs, labels, n) for n in grid]
            found = [
                soft_label_runs(law, n, MORE * runs, random)
                if privilege == "soft_labels"
                else simulate(law, n, runs, random, (privilege,))[privilege]
                for law, n in zip(laws, grid, strict=True)
            ]
            means = [float(one.mean()) for one in found]
            expected = [exact(law, n) for law, n in zip(laws, grid, strict=True)]
            text, measured = f"{name}: {privilege}", slope(grid, means)
            predicted = slope(grid, expected) if privilege == "soft_labels" else theory
            tolerance = widened(within, error_of_slope(grid, found), quick=settings.quick)
            checks.append(compare(f"{text}, slope", measured, predicted, tolerance))
            exact_slope = slope(grid, expected)
            checks.append(compare(f"{text}, exact slope", exact_slope, theory, EXACT))
            curves.append(
                LabCurve(text, "draws", RISK, line(grid), line(means), line(expected), log=True)
            )
        checks.append(_dirac(name, inputs, labels, grid))
    return result("slopes", settings, began, checks, curves, {"quick": settings.quick})


def _dirac(name: str, inputs: int, labels: int, grid: list[int]) -> Check:
    expected = []
    for n in grid:
        law = soft_label_instance(inputs, labels, n, rows="dirac")
        expected.append(soft_label_risk(law.input_law, law.rows, n))
    text = f"{name}: soft_labels, exact slope on Dirac rows"
    return compare(text, slope(grid, expected), -1, DIRAC)


def _hard_exact(law: FiniteLaw, n: int) -> float:
    return hard_label_risk(law.input_law, law.rows, n)


def _sampled_exact(law: FiniteLaw, n: int) -> float:
    return sampled_probability_instance_risk(law.inputs, law.labels, n)


def _soft_exact(law: FiniteLaw, n: int) -> float:
    return soft_label_risk(law.input_law, law.rows, n)


Make = Callable[[int, int, int], FiniteLaw]
Exact = Callable[[FiniteLaw, int], float]
INSTANCES: tuple[tuple[str, Make, Exact, float, float], ...] = (
    ("hard_labels", hard_label_instance, _hard_exact, -0.5, WITHIN),
    ("sampled_probabilities", sampled_probability_instance, _sampled_exact, -1.0, WITHIN),
    ("soft_labels", soft_label_instance, _soft_exact, SOFT_EXACT, SOFT_WITHIN),
)
