"""Case ``plateau``: a fixed law, on which only the naive cross-entropy stops learning."""

from __future__ import annotations

import time

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import (
    LEARNERS,
    RISK,
    error_of_slope,
    generator,
    log_spaced,
    near,
    result,
    simulate,
    slope,
    soft_label_runs,
)
from limbeck.limits.tables.exact_risk import hard_label_risk, naive_limit_risk, soft_label_risk
from limbeck.limits.tables.instances import classic_instance


# Inputs, labels, largest n in S A, runs.
FULL = ((100, 25, 256, 100), (1, 100, 256, 100), (20, 20, 256, 200), (100, 100, 256, 40))
QUICK = ((20, 20, 256, 30), (1, 100, 256, 100))
POINTS, LAST = 9, 4  # of the grid, and those that the slope is taken over
PLATEAU, SLOPE = 0.002, 0.01


def plateau(settings: LabSettings) -> LabResult:
    r"""Check that all learners but the naive one converge on a law that does not change.

    .. math:: E R_{\mathrm{naive}} \to \frac{A^2 - 1}{2 A (A + 3)}, \qquad
              E R_{\mathrm{hard}} \propto n^{-1/2}

    Hard labels and soft labels are compared with their exact expectations at every n.

    Args:
        settings: Quick takes two of the four sizes.

    Returns:
        Checks, and risks against n, a panel a size.

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, figure 1; expectations derived.
    """
    began, checks, curves = time.perf_counter(), [], []
    for inputs, labels, most, runs in QUICK if settings.quick else FULL:
        law, name = classic_instance(inputs, labels), f"{inputs} inputs, {labels} labels"
        pairs = inputs * labels
        grid = log_spaced(max(pairs // 8, 8), most * pairs, POINTS)
        random = generator(settings, "plateau", inputs, labels)
        found = [simulate(law, n, runs, random, tuple(LEARNERS)) for n in grid]
        mean = {key: [float(one[key].mean()) for one in found] for key in LEARNERS}
        hard = [hard_label_risk(law.input_law, law.rows, n) for n in grid]
        limit = naive_limit_risk(law.input_law, law.rows)
        closed = (labels**2 - 1) / (2 * labels * (labels + 3))
        checks.append(compare(f"{name}: naive, closed form", limit, closed, 1e-12))
        checks.append(
            compare(f"{name}: naive at n = {grid[-1]}", mean["naive"][-1], closed, PLATEAU)
        )
        for at in (0, POINTS // 2, POINTS - 1):
            text = f"{name}: hard labels at n = {grid[at]}"
            checks.append(near(text, found[at]["hard_labels"], hard[at]))
        soft = soft_label_risk(law.input_law, law.rows, inputs)
        drawn = soft_label_runs(law, inputs, runs, random)
        checks.append(near(f"{name}: soft labels at n = {inputs}", drawn, soft))
        last, runs_of = grid[-LAST:], [one["hard_labels"] for one in found[-LAST:]]
        tolerance = max(SLOPE, 4 * error_of_slope(last, runs_of))
        measured = slope(last, mean["hard_labels"][-LAST:])
        text = f"{name}: slope of hard labels"
        checks.append(compare(text, measured, slope(last, hard[-LAST:]), tolerance))
        end = mean["sampled_probabilities"][-1]
        checks.append(compare(f"{name}: sampled probabilities, last n", end, 0.0, 1e-12))
        curves.append(
            LabCurve(
                name,
                "draws",
                RISK,
                line(grid),
                line(mean["hard_labels"]),
                line(hard),
                {key: line(mean[key]) for key in LEARNERS if key != "hard_labels"},
                log=True,
            )
        )
    return result("plateau", settings, began, checks, curves, {"quick": settings.quick})
