"""Case ``continuous``: inputs from an interval, cut into cells, where no table has all inputs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line, widened
from limbeck.limits.lab.running import RISK, error_of_mean, generator, log_spaced, result, slope
from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.dense import total_variation
from limbeck.limits.tables.learners import fit_hard_labels, fit_sampled_probabilities
from limbeck.limits.tables.table import Table


LABELS, WAVES, SCALE = 20, 5, 0.9
POINTS = 8000  # of the midpoint rule for the risk
BINS = tuple(dict.fromkeys(log_spaced(2, 4000, 16)))
FULL = ((500, 2_000, 8_000, 32_000, 128_000), 6)
QUICK = ((500, 2_000, 8_000, 32_000), 2)
UNSETTLED = 0.1
# Slope and tolerance: of the reference's measurement for sampled probabilities, else of theory.
SLOPES = {
    "hard_labels": (-0.33, 0.03),
    "sampled_probabilities": (-0.61, 0.05),
    "soft_labels": (-1.00, 0.02),
}


@dataclass(frozen=True, eq=False)
class SmoothTeacher:
    """A teacher on [0, 1] whose logits are a few sine waves."""

    waves: Float[np.ndarray, "waves labels"]

    @classmethod
    def random(cls, random: np.random.Generator) -> SmoothTeacher:
        """Return one with normal amplitudes."""
        return cls(SCALE * random.normal(size=(WAVES, LABELS)))

    def rows(self, x: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k labels"]:
        """Return the conditional laws at some points."""
        q = np.arange(1, len(self.waves) + 1)
        logits = np.sin(np.pi * x[:, None] * q) @ self.waves
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)


def continuous(settings: LabSettings) -> LabResult:
    r"""Check :math:`n^{-1/3}`, about :math:`n^{-0.6}` and :math:`n^{-1}` in one dimension.

    Hard labels and sampled probabilities are counted in equal cells, as many as are best for the
    true risk; soft labels are taken from the nearest input.

    Args:
        settings: Quick takes fewer sizes and runs.

    Returns:
        Checks of slopes, and risks against n.

    Source:
        Derived, for a Lipschitz teacher.
    """
    began, size = time.perf_counter(), QUICK if settings.quick else FULL
    grid, runs = size
    found = {name: np.empty((runs, len(grid))) for name in SLOPES}
    middle = (np.arange(POINTS) + 0.5) / POINTS
    for run in range(runs):
        random = generator(settings, "continuous", run)
        teacher = SmoothTeacher.random(random)
        right = teacher.rows(middle)
        for place, n in enumerate(grid):
            x, labels, told = _draw(teacher, n, random)
            whole = middle, right
            found["hard_labels"][run, place] = _best(x, labels, None, whole)
            found["sampled_probabilities"][run, place] = _best(x, labels, told, whole)
            found["soft_labels"][run, place] = _nearest(teacher, x, whole)
    checks = []
    for name, (theory, within) in SLOPES.items():
        each = np.array([slope(grid, one) for one in found[name]])
        measured = slope(grid, found[name].mean(0))
        # Over a short grid the slope of sampled probabilities has not settled.
        least = UNSETTLED if settings.quick else within
        tolerance = max(least, widened(within, error_of_mean(each), quick=settings.quick))
        checks.append(compare(f"{name}: slope", measured, theory, tolerance))
    means = {name: line(risks.mean(0)) for name, risks in found.items()}
    curve = LabCurve(
        "inputs from an interval",
        "draws",
        RISK,
        line(grid),
        means.pop("hard_labels"),
        line([float(found["hard_labels"].mean(0)[0]) * (n / grid[0]) ** (-1 / 3) for n in grid]),
        means,
        log=True,
    )
    return result("continuous", settings, began, checks, [curve], {"runs": runs, "labels": LABELS})


def _draw(
    teacher: SmoothTeacher, n: int, random: np.random.Generator
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return points, labels drawn there and their probabilities."""
    x = random.random(n)
    rows = teacher.rows(x)
    beyond = rows.cumsum(1) < random.random(n)[:, None]
    labels = np.minimum(beyond.sum(1), LABELS - 1)
    return x, labels, rows[np.arange(n), labels]


def _best(
    x: np.ndarray,
    labels: np.ndarray,
    told: np.ndarray | None,
    whole: tuple[np.ndarray, np.ndarray],
) -> float:
    """Return the risk with the best number of cells, which an oracle chooses."""
    middle, right = whole
    risks = []
    for bins in BINS:
        counts = PairCounts(LABELS)
        counts.add(_cell(x, bins), labels, probabilities=told)
        student: Table = (
            fit_hard_labels(counts) if told is None else fit_sampled_probabilities(counts)
        )
        rows = student.rows(np.arange(bins))[_cell(middle, bins)]
        risks.append(float(total_variation(rows, right).mean()))
    return min(risks)


def _cell(x: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((x * bins).astype(np.int64), bins - 1)


def _nearest(teacher: SmoothTeacher, x: np.ndarray, whole: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the risk of the teacher's row at the nearest input."""
    middle, right = whole
    known = np.sort(x)
    above = np.clip(np.searchsorted(known, middle), 1, len(known) - 1)
    below = known[above - 1]
    near = np.where(middle - below < known[above] - middle, below, known[above])
    return float(total_variation(teacher.rows(near), right).mean())
