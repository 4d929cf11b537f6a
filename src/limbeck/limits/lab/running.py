"""What the cases share: risks of all learners over many runs, slopes, and their uncertainty."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from limbeck.lab_result import Check, LabCurve, LabResult, LabSettings, compare
from limbeck.limits.tables.dense import (
    hard_label_rows,
    naive_rows,
    sampled_rows,
    soft_label_rows,
    total_variation,
)
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.randomness import derive_seed


CELLS = 1 << 21  # counts that are held at once
ERRORS = 4.0  # standard errors that a mean may be off: a right law fails once in 15 000 checks
RISK = "total variation"
Runs = Float[np.ndarray, " runs"]
Learner = Callable[[FiniteLaw, Int64[np.ndarray, "runs inputs labels"]], np.ndarray]


def _naive(law: FiniteLaw, counts: np.ndarray) -> np.ndarray:
    return naive_rows(counts, law.rows)


def _sampled(law: FiniteLaw, counts: np.ndarray) -> np.ndarray:
    return sampled_rows(counts > 0, law.rows)


def _soft(law: FiniteLaw, counts: np.ndarray) -> np.ndarray:
    return soft_label_rows(counts.sum(2) > 0, law.rows)


LEARNERS: Mapping[str, Learner] = {
    "hard_labels": lambda _, counts: hard_label_rows(counts),
    "naive": _naive,
    "sampled_probabilities": _sampled,
    "soft_labels": _soft,
}


def generator(settings: LabSettings, *parts: int | str) -> np.random.Generator:
    """Return the generator of a part of a case."""
    return np.random.default_rng(derive_seed("limits lab", settings.seed, *parts))


def simulate(
    law: FiniteLaw,
    n: int,
    runs: int,
    random: np.random.Generator,
    learners: Mapping[str, Learner] | Sequence[str],
) -> dict[str, Runs]:
    """Return the risk of each learner in independent runs of n draws.

    Args:
        law: That is drawn from.
        n: Draws of a run.
        runs: Repetitions.
        random: Generator.
        learners: Names of ``LEARNERS``, or functions from a law and counts to rows.

    Returns:
        Risks [runs] by name.
    """
    chosen = (
        learners if isinstance(learners, Mapping) else {name: LEARNERS[name] for name in learners}
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for size in portions(runs, law.inputs * law.labels):
        counts = law.pair_counts(n, random, runs=size)
        for name, rows in chosen.items():
            found[name].append(total_variation(rows(law, counts), law.rows) @ law.input_law)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def soft_label_runs(law: FiniteLaw, n: int, runs: int, random: np.random.Generator) -> Runs:
    """Return risks of soft labels, which depend on the inputs that were drawn alone."""
    uniform = total_variation(law.rows, np.full(law.labels, 1 / law.labels))
    missed = [law.input_counts(n, random, runs=size) == 0 for size in portions(runs, law.inputs)]
    return np.concatenate(missed) @ (law.input_law * uniform)


def portions(runs: int, cells: int) -> list[int]:
    """Return numbers of runs that fit into memory together and sum to ``runs``."""
    most = max(1, CELLS // cells)
    return [min(most, runs - start) for start in range(0, runs, most)]


def error_of_mean(values: Runs) -> float:
    """Return the standard error of the mean of independent runs."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def slope(x: Sequence[float | int] | np.ndarray, y: Sequence[float | int] | np.ndarray) -> float:
    """Return the least-squares slope of log y on log x."""
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    return float(np.polyfit(log_x, log_y, 1)[0])


def error_of_slope(x: Sequence[float | int] | np.ndarray, runs: Sequence[Runs]) -> float:
    """Return the standard error of :func:`slope` of means over runs, by the delta method."""
    log_x = np.log(np.asarray(x, float))
    away = log_x - log_x.mean()
    relative = np.array([error_of_mean(one) / one.mean() for one in runs])
    return float(math.sqrt(np.sum((away * relative) ** 2)) / np.sum(away**2))


def near(name: str, runs: Runs, predicted: float) -> Check:
    """Compare the mean over runs with an expectation, within four standard errors and rounding."""
    tolerance = ERRORS * error_of_mean(runs) + 1e-12
    return compare(name, float(runs.mean()), predicted, tolerance)


def log_spaced(first: int, last: int, points: int) -> list[int]:
    """Return whole numbers that are evenly spaced in their logarithm."""
    return [round(n) for n in np.geomspace(first, last, points)]


def result(
    case: str,
    settings: LabSettings,
    began: float,
    checks: Sequence[Check],
    curves: Sequence[LabCurve],
    sizes: Mapping[str, Any],
    remarks: Sequence[str] = (),
) -> LabResult:
    """Return what a case found, with the time that it took."""
    return LabResult(
        case,
        tuple(checks),
        tuple(curves),
        {"seed": settings.seed, **sizes},
        round(time.perf_counter() - began, 3),
        tuple(remarks),
    )
