"""Case ``certificates``: the missing mass bounds the risk, and can be told from the data alone."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from limbeck.lab_result import Check, LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import ERRORS, generator, near, portions, result
from limbeck.limits.tables.dense import sampled_rows, total_variation
from limbeck.limits.tables.exact_risk import expected_missing_mass
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import dirichlet_law, zipf_law


SIZE, EXPONENT, CONCENTRATION, LAW_SEED = 60, 1.1, 0.3, 20231007
GRID = (500, 2000, 8000, 32000)
RUNS, LAWS, LAW_RUNS = {"full": 1000, "quick": 60}, {"full": 150, "quick": 30}, 20
SLACK = 1e-12


@dataclass(frozen=True, eq=False)
class Drawn:
    """What independent runs gave: true numbers and their estimates, each [runs]."""

    missing: np.ndarray
    risk: np.ndarray
    good_turing: np.ndarray
    sharper: np.ndarray
    good_turing_error: np.ndarray  # squared, as the data tell it
    sharper_error: np.ndarray


def draw(law: FiniteLaw, n: int, runs: int, random: np.random.Generator) -> Drawn:
    """Return missing masses, risks of sampled probabilities, and both estimates, by run."""
    parts = []
    for size in portions(runs, law.inputs * law.labels):
        counts = law.pair_counts(n, random, runs=size)
        seen, at = counts > 0, counts.sum(2)
        left = np.maximum(1 - np.where(seen, law.rows, 0.0).sum(2), 0.0)
        off = total_variation(sampled_rows(seen, law.rows), law.rows) @ law.input_law
        once = np.where(counts == 1, law.rows, 0.0).sum(2)
        terms = np.where(at == 1, 1.0, at * left + once)
        parts.append(
            (
                np.where(seen, 0.0, law.pairs).sum((1, 2)),
                off,
                (counts == 1).sum((1, 2)) / n,
                terms.sum(1) / n,
                *_squared_errors(law, counts, n),
            )
        )
    return Drawn(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _squared_errors(law: FiniteLaw, counts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared standard errors of both estimates, told from each run's counts."""
    once, twice = counts == 1, counts == 2
    singles, doubles = once.sum((1, 2)), twice.sum((1, 2))
    plain = (singles * (1 - singles / n) + 2 * doubles) / n**2
    seen, at = counts > 0, counts.sum(2)
    left = np.maximum(1 - np.where(seen, law.rows, 0.0).sum(2), 0.0)
    own = np.where(once, law.rows, 0.0)
    new = np.where((at == 1)[..., None], 1.0, left[..., None] + own)
    value = (counts * new).sum((1, 2)) / n
    shared = (own.sum(2) ** 2).sum(1) - (own**2).sum((1, 2))
    shared += 2 * np.where(twice, law.rows**2, 0.0).sum((1, 2))
    deviations = (counts * (new - value[:, None, None]) ** 2).sum((1, 2))
    return plain, (deviations + shared) / n**2


def certificates(settings: LabSettings) -> LabResult:
    r"""Check Good-Turing, its sharper form, their errors, and :math:`R \le m_0` in every run.

    The squared errors that a run's own counts tell, :math:`N_1 (1 - N_1 / n) + 2 N_2` over n^2 and
    its sharper form, are compared with the spread over runs, so that how much sharper the one is
    follows from theory and is not a number that was once measured.

    Args:
        settings: Quick takes fewer runs and laws.

    Returns:
        Checks of means, spreads and the bound on Zipf inputs and on random laws, and risks
        against n.

    Source:
        Derived, for the setting of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    began, size = time.perf_counter(), "quick" if settings.quick else "full"
    random = generator(settings, "certificates")
    law = dirichlet_law(
        SIZE,
        SIZE,
        np.random.default_rng(LAW_SEED),  # the law is always the same one
        input_law=zipf_law(SIZE, EXPONENT),
        concentration=CONCENTRATION,
    )
    checks, found = [], [draw(law, n, RUNS[size], random) for n in GRID]
    for n, one in zip(GRID, found, strict=True):
        expected = expected_missing_mass(law.pairs, n)
        before = expected_missing_mass(law.pairs, n - 1)
        checks.append(near(f"n = {n}: missing mass", one.missing, expected))
        checks.append(near(f"n = {n}: Good-Turing", one.good_turing, before))
        checks.append(near(f"n = {n}: sharper Good-Turing", one.sharper, before))
        checks += _spreads(f"n = {n}", one)
    worst = max(float((one.risk - one.missing).max()) for one in found)
    checks.append(compare("largest risk less missing mass", worst, 0.0, SLACK, "at_most"))
    checks.append(_random_laws(LAWS[size], random))
    curve = LabCurve(
        "Zipf inputs, Dirichlet rows",
        "draws",
        "missing mass of pairs",
        line(GRID),
        line([one.missing.mean() for one in found]),
        line([expected_missing_mass(law.pairs, n) for n in GRID]),
        {
            "sharper Good-Turing": line([one.sharper.mean() for one in found]),
            "risk": line([one.risk.mean() for one in found]),
        },
        log=True,
    )
    return result("certificates", settings, began, checks, [curve], {"runs": RUNS[size]})


def _spreads(where: str, found: Drawn) -> list[Check]:
    """Judge the spread of both estimates over runs, in units of the errors that the runs tell."""
    # A standard deviation of r normal numbers has a relative standard error of 1 / sqrt(2 r).
    within = ERRORS / np.sqrt(2 * len(found.risk))
    cases = {
        "Good-Turing": (found.good_turing, found.good_turing_error),
        "sharper Good-Turing": (found.sharper, found.sharper_error),
    }
    checks, told = [], []
    for name, (estimates, squares) in cases.items():
        told.append(float(np.sqrt(squares.mean())))
        spread = float(np.std(estimates - found.missing, ddof=1))
        checks.append(compare(f"{where}: spread of {name} / told", spread / told[-1], 1.0, within))
    text = f"{where}: error told of the sharper one / of Good-Turing"
    return [*checks, compare(text, told[1] / told[0], 1.0, 0.0, "at_most")]


def _random_laws(laws: int, random: np.random.Generator) -> Check:
    """Look for a law and a run with a risk above the missing mass."""
    worst = -1.0
    for _ in range(laws):
        inputs, labels = int(random.integers(5, 60)), int(random.integers(3, 60))
        law = dirichlet_law(
            inputs,
            labels,
            random,
            input_law=float(random.choice([0.1, 1.0, 10.0])),
            concentration=float(random.choice([0.05, 0.5, 5.0])),
        )
        n = max(1, int(inputs * labels * random.choice([0.5, 2.0, 10.0, 50.0])))
        one = draw(law, n, LAW_RUNS, random)
        worst = max(worst, float((one.risk - one.missing).max()))
    name = f"{laws} random laws, {LAW_RUNS} runs each: largest risk less missing mass"
    return compare(name, worst, 0.0, SLACK, "at_most")
