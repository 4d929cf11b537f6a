"""Case ``meters``: distances from held-out draws are unbiased, and their intervals cover."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from limbeck.lab_result import Check, LabResult, LabSettings, compare
from limbeck.limits.distance.betting import betting_ends
from limbeck.limits.distance.meters import sampled_terms
from limbeck.limits.distance.residual import residual_certificate
from limbeck.limits.lab.running import error_of_mean, generator, portions, result
from limbeck.limits.tables.dense import sampled_rows, total_variation
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import dirichlet_law


INPUTS, LABELS, CONCENTRATION, DISTANCE, LAW_SEED = 200, 300, 0.2, 0.5, 20231007
HELD_OUT, TABLE, UNLABELLED = 1_000, 20_000, 500
RUNS = {"full": 2_000, "quick": 200}
TABLES = {"full": 200, "quick": 40}
CONFIDENCE, ERRORS = 0.95, 5.0  # standard errors that a mean may be off
STEADIER = 1.0  # of k3 over k1 near the teacher, at least


@dataclass(frozen=True, eq=False)
class Drawn:
    """Terms of the meters, each [runs, held-out draws]."""

    total_variation: np.ndarray
    k1: np.ndarray
    k3: np.ndarray


def meters(settings: LabSettings) -> LabResult:
    r"""Check the meters of a student near its teacher, and the bound that needs no teacher.

    .. math:: \mathrm{TV} = E (1 - r)_+, \qquad \mathrm{KL} = E[-\log r] = E[r - 1 - \log r],
              \qquad R \le E\, x

    with x what a table of sampled probabilities leaves open at an input.

    Args:
        settings: Quick takes fewer runs.

    Returns:
        Checks of means within five standard errors, of the coverage of both intervals for total
        variation, and of the bound; no curve.

    Source:
        Derived; intervals of Waudby-Smith and Ramdas (2024), arXiv:2010.09686, and Audibert, Munos
        and Szepesvari (2009).
    """
    began, size = time.perf_counter(), "quick" if settings.quick else "full"
    random = np.random.default_rng(LAW_SEED)  # the law is always the same one
    law = dirichlet_law(INPUTS, LABELS, random, concentration=CONCENTRATION)
    student = law.rows * np.exp(DISTANCE * random.normal(size=law.rows.shape))
    student /= student.sum(1, keepdims=True)
    right = float(law.input_law @ total_variation(student, law.rows))
    ratio = np.log(np.where(law.rows > 0, law.rows, 1.0) / np.where(law.rows > 0, student, 1.0))
    divergence = float(law.input_law @ (law.rows * ratio).sum(1))
    random = generator(settings, "meters")
    found = draw(law, student, RUNS[size], random)
    checks = []
    for name, terms, truth in (
        ("total variation", found.total_variation, right),
        ("KL by k1", found.k1, divergence),
        ("KL by k3", found.k3, divergence),
    ):
        means = terms.mean(1)
        within = ERRORS * error_of_mean(means)
        checks.append(compare(f"{name}: mean", float(means.mean()), truth, within))
    spreads = [float(terms.mean(1).std(ddof=1)) for terms in (found.k1, found.k3)]
    steadier = spreads[0] / spreads[1]
    checks.append(compare("spread of k1 / of k3", steadier, STEADIER, 0.0, "at_least"))
    checks += _coverage(found.total_variation, right)
    checks += _residuals(law, TABLES[size], random)
    remark = (
        f"total variation {right:.4f}, standard deviation of {HELD_OUT} draws "
        f"{found.total_variation.mean(1).std(ddof=1):.4f}; KL {divergence:.4f} nats, "
        f"{spreads[0]:.4f} by k1 and {spreads[1]:.4f} by k3"
    )
    sizes = {"runs": RUNS[size], "held_out": HELD_OUT}
    return result("meters", settings, began, checks, (), sizes, [remark])


def draw(law: FiniteLaw, student: np.ndarray, runs: int, random: np.random.Generator) -> Drawn:
    """Return the terms of held-out draws with their probabilities."""
    flat, own = law.pairs.ravel(), student.ravel()
    told, ends = law.rows.ravel(), np.cumsum(law.pairs.ravel())
    possible = np.flatnonzero(flat)
    parts = []
    for size in portions(runs, HELD_OUT):
        at = np.searchsorted(ends, random.random((size, HELD_OUT)) * ends[-1], side="right")
        at = np.minimum(at, possible[-1]).ravel()
        terms = sampled_terms(np.log(own[at]), np.log(told[at]))
        parts.append([one.reshape(size, HELD_OUT) for one in terms])
    tv, k1, k3 = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Drawn(tv, k1, k3)


def _coverage(values: np.ndarray, right: float) -> list[Check]:
    """Judge how often both intervals hold the distance, and which one is narrower."""
    n, tail = values.shape[1], (1 - CONFIDENCE) / 2
    log = math.log(3 / (1 - CONFIDENCE))
    half = np.sqrt(2 * values.var(1, ddof=1) * log / n) + 3 * log / n
    low, high = betting_ends(values, np.ones_like(values), tail, "two-sided", 0)
    ends = {
        "empirical Bernstein": (values.mean(1) - half, values.mean(1) + half),
        "betting": (low, high),
    }
    checks = []
    for name, (lower, upper) in ends.items():
        inside = float(((lower <= right) & (right <= upper)).mean())
        checks.append(compare(f"{name}: coverage", inside, CONFIDENCE, 0.0, "at_least"))
    narrower = float((high - low).mean() / (2 * half).mean())
    checks.append(compare("width of betting / of Bernstein", narrower, 1.0, 0.0, "at_most"))
    return checks


def _residuals(law: FiniteLaw, tables: int, random: np.random.Generator) -> list[Check]:
    """Judge the bound of tables by what they leave open at fresh inputs, without a teacher."""
    risks, masses, means, held = [], [], [], 0
    for _ in range(tables):
        seen = law.pair_counts(TABLE, random)[0] > 0
        open_ = np.maximum(1 - np.where(seen, law.rows, 0.0).sum(1), 0.0)
        risks.append(float(total_variation(sampled_rows(seen, law.rows), law.rows) @ law.input_law))
        masses.append(float(law.input_law @ open_))
        fresh = open_[random.choice(law.inputs, size=UNLABELLED, p=law.input_law)]
        told = residual_certificate(fresh, confidence=CONFIDENCE)
        means.append(told.value)
        held += risks[-1] <= told.upper
    away = np.array(means) - np.array(masses)
    worst = float((np.array(risks) - np.array(masses)).max())
    return [
        compare("tables: largest risk less residual mass", worst, 0.0, 1e-12, "at_most"),
        compare(
            "tables: residual of unlabelled inputs less its mean",
            float(away.mean()), 0.0, ERRORS * error_of_mean(away),
        ),
        compare("tables: bound held", held / tables, CONFIDENCE, 0.0, "at_least"),
    ]  # fmt: skip
