"""Case ``noisy``: what errors in the teacher's numbers cost."""

from __future__ import annotations

import math
import time

import numpy as np

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import RISK, generator, portions, result
from limbeck.limits.tables.dense import sampled_rows, total_variation
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import dirichlet_law


SIZE, GRID, SPREADS = 20, (400, 4_000, 40_000), (0.0, 0.001, 0.01, 0.1)
RUNS = {"full": 400, "quick": 25}
FLOOR, WITHIN = math.sqrt(2 / math.pi) / 2, 0.0003  # at a spread of 0.01
SHARE = {0.001: 0.15, 0.01: 0.08, 0.1: 0.08}  # of the floor, at the largest n
FALL = 1e-4  # to which the risk has fallen without noise


def noisy(settings: LabSettings) -> LabResult:
    r"""Check the floor that noise of standard deviation sd in log-probabilities leaves.

    .. math:: \tfrac{1}{2} \sqrt{2 / \pi} \, \mathrm{sd} = 0.399 \, \mathrm{sd}

    Args:
        settings: Quick takes fewer runs.

    Returns:
        Checks at n = 40 000, and risks against n.

    Source:
        Derived.
    """
    began, size = time.perf_counter(), "quick" if settings.quick else "full"
    random = generator(settings, "noisy")
    risks = {spread: [_risk(spread, n, RUNS[size], random) for n in GRID] for spread in SPREADS}
    checks = [compare(f"no noise, n = {GRID[-1]}", risks[0.0][-1], 0.0, FALL)]
    for spread in SPREADS[1:]:
        floor = FLOOR * spread
        text = f"standard deviation {spread:g}, n = {GRID[-1]}"
        tolerance = WITHIN if spread == 0.01 else SHARE[spread] * floor
        checks.append(compare(text, risks[spread][-1], floor, tolerance))
    curve = LabCurve(
        "noise of log-probabilities",
        "draws",
        RISK,
        line(GRID),
        line(risks[0.01]),
        line([FLOOR * 0.01] * len(GRID)),
        {f"sd {spread:g}": line(risks[spread]) for spread in SPREADS if spread != 0.01},
        log=True,
    )
    return result("noisy", settings, began, checks, [curve], {"runs": RUNS[size]})


def _risk(spread: float, n: int, runs: int, random: np.random.Generator) -> float:
    """Return the mean risk where a pair has one wrong number, however often it is drawn."""
    total = 0.0
    for size in portions(runs, SIZE * SIZE):
        for _ in range(size):
            law = dirichlet_law(SIZE, SIZE, random, input_law=np.full(SIZE, 1 / SIZE))
            total += _one(law, spread, n, random)
    return total / runs


def _one(law: FiniteLaw, spread: float, n: int, random: np.random.Generator) -> float:
    noise = np.exp(spread * random.normal(size=law.rows.shape) - spread**2 / 2)
    seen = law.pair_counts(n, random)[0] > 0
    rows = sampled_rows(seen, law.rows * noise)
    return float(total_variation(rows, law.rows) @ law.input_law)
