"""Case ``log_linear``: with the teacher's features, about d probabilities give it away."""

from __future__ import annotations

import time
from typing import get_args

import numpy as np

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line, widened
from limbeck.limits.lab.running import RISK, error_of_mean, generator, result, slope
from limbeck.limits.tables.log_linear import LogLinearTeacher, Loss, fit_log_linear, transfer_error


LOSSES: tuple[Loss, ...] = get_args(Loss)
DIMENSION, LABELS, TEST = 12, 20, 1000
FULL = ((6, 12, 16, 24, 100, 400, 1600, 6400), 20)
QUICK = ((6, 24, 100, 400), 6)
RECOVERED, RECOVERED_AT = 1e-6, 24
SLOPE_FROM, SLOPE, WITHIN = 100, -0.5, 0.05
STUCK = 0.2  # what the naive cross-entropy keeps at least, at the largest n
FLOOR = 1e-17  # below which exact recovery is drawn


def log_linear(settings: LabSettings) -> LabResult:
    r"""Check exact recovery at 2 d draws, and :math:`n^{-1/2}` for hard labels.

    Args:
        settings: Quick takes fewer sizes and runs.

    Returns:
        Checks of median test errors, which are drawn against n.

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, appendix H (the setting); findings derived.
    """
    began = time.perf_counter()
    grid, runs = QUICK if settings.quick else FULL
    errors = _errors(settings, grid, runs)
    medians = {loss: np.median(found, axis=1) for loss, found in errors.items()}
    checks, at = [], grid.index(RECOVERED_AT)
    for loss in ("squared_error", "k3", "kl_divergence"):
        text = f"{loss}: median error at n = {RECOVERED_AT}"
        checks.append(compare(text, medians[loss][at], RECOVERED, 0.0, "at_most"))
    first = "kl_divergence: median error at n = 6, below d"
    checks.append(compare(first, medians["kl_divergence"][0], RECOVERED, 0.0, "at_most"))
    for loss in ("squared_error", "k3"):
        text = f"{loss}: median error at n = 6, below d"
        checks.append(compare(text, medians[loss][0], 0.1, 0.0, "at_least"))
    late = [place for place, n in enumerate(grid) if n >= SLOPE_FROM]
    sizes = [grid[place] for place in late]
    # A run keeps its teacher at every n, so the slope is taken within runs.
    falls = np.array([slope(sizes, one) for one in errors["cross_entropy"][late].T])
    tolerance = widened(WITHIN, error_of_mean(falls), quick=settings.quick)
    checks.append(compare("cross_entropy: slope", float(falls.mean()), SLOPE, tolerance))
    stuck = medians["naive_cross_entropy"][-1]
    text = "naive_cross_entropy: median error at the last n"
    checks.append(compare(text, stuck, STUCK, 0.0, "at_least"))
    shown = {loss: line(np.maximum(found, FLOOR)) for loss, found in medians.items()}
    curve = LabCurve(
        f"{DIMENSION} features, {LABELS} labels",
        "draws",
        f"median {RISK} on fresh inputs",
        line(grid),
        shown.pop("cross_entropy"),
        None,
        shown,
        log=True,
    )
    sizes_of = {"runs": runs, "dimension": DIMENSION, "labels": LABELS}
    return result("log_linear", settings, began, checks, [curve], sizes_of)


def _errors(settings: LabSettings, grid: tuple[int, ...], runs: int) -> dict[Loss, np.ndarray]:
    """Return test errors [sizes, runs] of each loss; all see the same draws."""
    found: dict[Loss, np.ndarray] = {loss: np.empty((len(grid), runs)) for loss in LOSSES}
    for run in range(runs):
        random = generator(settings, "log_linear", run)
        teacher = LogLinearTeacher.random(DIMENSION, LABELS, random)
        test = teacher.features(TEST, random)
        for place, n in enumerate(grid):
            features = teacher.features(n, random)
            rows = teacher.rows(features)
            beyond = rows.cumsum(1) < random.random(n)[:, None]
            drawn = np.minimum(beyond.sum(1), LABELS - 1)
            for loss, errors in found.items():
                fitted = fit_log_linear(features, drawn, rows, loss=loss)
                errors[place, run] = transfer_error(test, fitted, teacher.parameters)
    return found
