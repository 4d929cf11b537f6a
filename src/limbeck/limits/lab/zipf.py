"""Case ``zipf``: with a heavy tail the number of inputs says nothing, the missing mass does."""

from __future__ import annotations

import math
import time

import numpy as np

from limbeck.lab_result import Check, LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import generator, log_spaced, near, result, slope
from limbeck.limits.tables.binomial import binomial_probability
from limbeck.limits.tables.exact_risk import expected_missing_mass
from limbeck.limits.tables.instances import zipf_law
from limbeck.limits.tables.missing_mass import good_toulmin, missing_mass_after


SIZE, GRID = 2_000_000, (1_000, 10_000, 100_000)
# Exponent, expected missing masses, their slope, and the endless tail's -(1 - 1 / alpha).
LAWS = (
    (1.2, (0.31278633, 0.19665845, 0.11752441), -0.213, -0.167),
    (1.5, (0.093627379, 0.043176485, 0.019750921), -0.338, -0.333),
    (2.0, (0.021842478, 0.006909321, 0.002184785), -0.500, -0.500),
)
DIGITS, SLOPE, TAIL = 5e-9, 5e-4, 0.05
RUNS = {"full": 40, "quick": 10}
SMALL, DRAWS, RATIOS = 1000, 2000, (0.5, 1.0, 2.0)
REMAINDER = 2.0**-12  # of Euler's transformation up to twice the sample; beyond there is no bound


def zipf(settings: LabSettings) -> LabResult:
    r"""Check :math:`E\, m_0 \propto n^{-(1 - 1 / \alpha)}` and its extrapolation from counts.

    Args:
        settings: Quick draws fewer samples.

    Returns:
        Checks of expected and drawn missing masses of inputs, of their slopes, and of
        extrapolations to 1.5, 2 and 3 times the sample: their means beside exact expectations,
        and these beside the mass up to twice the sample; missing masses against n.

    Source:
        Derived; extrapolation by Good and Toulmin (1956), Efron and Thisted (1976).
    """
    began, checks, curves = time.perf_counter(), [], []
    runs = RUNS["quick" if settings.quick else "full"]
    for alpha, values, found_slope, theory in LAWS:
        law, name = zipf_law(SIZE, alpha), f"alpha = {alpha}"
        expected = [expected_missing_mass(law, n) for n in GRID]
        for n, mass, value in zip(GRID, expected, values, strict=True):
            checks.append(compare(f"{name}, n = {n}: expected", mass, value, DIGITS))
        fall = slope(GRID, expected)
        checks.append(compare(f"{name}: slope", fall, found_slope, SLOPE))
        checks.append(compare(f"{name}: slope of an endless tail", fall, theory, TAIL))
        random = generator(settings, "zipf", str(alpha))
        drawn = _missing(law, GRID[0], runs, random)
        checks.append(near(f"{name}, n = {GRID[0]}: drawn", drawn, expected[0]))
        # The bound S / (e n), which knows the number of inputs alone, is above 1 here.
        text = f"{name}: bound of the number of inputs at the last n"
        checks.append(compare(text, SIZE / (math.e * GRID[-1]), 1.0, 0.0, "at_least"))
        grid = log_spaced(100, GRID[-1], 4)
        masses = line([expected_missing_mass(law, n) for n in grid])
        power = line([expected[-1] * (n / GRID[-1]) ** theory for n in grid])
        curves.append(
            LabCurve(name, "draws", "missing mass of inputs", line(grid), masses, power, log=True)
        )
    further, remark = _extrapolated(settings, 10 * runs)
    sizes = {"inputs": SIZE, "runs": runs}
    return result("zipf", settings, began, [*checks, *further], curves, sizes, [remark])


def _missing(law: np.ndarray, n: int, runs: int, random: np.random.Generator) -> np.ndarray:
    """Return the missing mass after n draws, by run; only what was drawn is looked at."""
    ends = np.cumsum(law)
    found = []
    for _ in range(runs):
        at = np.minimum(np.searchsorted(ends, random.random(n) * ends[-1]), len(law) - 1)
        found.append(1 - law[np.unique(at)].sum())
    return np.array(found)


def _extrapolated(settings: LabSettings, runs: int) -> tuple[list[Check], str]:
    """Judge extrapolated masses: their mean by its expectation, that by the mass itself."""
    law = zipf_law(SMALL, 1.0)
    random = generator(settings, "zipf", "extrapolated")
    counts = random.multinomial(DRAWS, law, size=runs)
    checks, remark = [], ""
    k = np.arange(1, DRAWS + 1)
    expected_number = binomial_probability(k[:, None], DRAWS, law).sum(1)  # E N_k
    for ratio in RATIOS:
        told = np.array([missing_mass_after(one, ratio) for one in counts])
        expected = good_toulmin(k, expected_number, n=DRAWS, ratio=ratio)
        text = f"{1 + ratio:g} times the sample"
        checks.append(near(f"{text}: extrapolated missing mass", told, expected))
        right = expected_missing_mass(law, round((1 + ratio) * DRAWS))
        if ratio <= 1:
            checks.append(compare(f"{text}: expectation", expected, right, REMAINDER))
        else:
            remark = f"{text}: extrapolated to {expected:.4f} on average, where {right:.4f} is true"
    return checks, remark
