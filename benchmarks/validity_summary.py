"""What the runs of predictive_validity.py say: rank correlations, and how far forecasts go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn.dummy import DummyRegressor

from limbeck.forecasting.catalogue import PREDICTORS
from limbeck.forecasting.grid import UNITS, Grid, Outcome, Row
from limbeck.forecasting.model import (
    FIGURES,
    LEVEL,
    PILOT_FIGURES,
    conformal,
    default_regression,
    left_out,
)


DRAWS = 1000
RIVAL = "cross_entropy_gap"
OUTCOMES: tuple[Outcome, ...] = ("accuracy", "cross_entropy")
#: Figures that are laid beside one another as ways to forecast.
SCORES = FIGURES[:-2]
#: Figures by which one of several teachers may be chosen; the largest first.
CHOSEN_BY = (
    "cross_entropy_gap", "accuracy_gap", "distillable", "distillable_kmeans", "teacher_knows",
    "pilot_accuracy", "pilot_cross_entropy", "agreement", "cka",
)  # fmt: skip
ATOMS = ("distillable", "distilled", "unique_student", "synergistic")
WAYS: dict[str, Sequence[str]] = {
    "the mean of the other cells": (),
    "cross-entropy difference": ("cross_entropy_gap",),
    "accuracy difference": ("accuracy_gap",),
    "distillable bits": ("distillable",),
    "the four atoms": ATOMS,
    "pilot": PILOT_FIGURES,
    "labels and scores": SCORES,
    "labels, scores, distillable bits": (*SCORES, "distillable"),
    "labels, scores, the four atoms": (*SCORES, *ATOMS),
    "the forecast: labels, scores, what features know": FIGURES,
    "the forecast with a pilot": FIGURES + PILOT_FIGURES,
}


def grid_of(runs: Mapping[Any, Mapping[str, Any]], cells: Sequence[Any], **how: Any) -> Grid:
    """Return the cells with their mean gains over the control.

    Args:
        runs: The row of every run, by (cell, what, seed).
        cells: Which cells.
        how: ``methods``, ``seeds``, ``alike`` (which run stands for a run) and ``about``.
    """
    rows = []
    for cell in cells:
        told = runs[how["alike"]((cell, "figures", 0))]
        gains: dict[str, dict[str, float]] = {}
        spreads: dict[str, dict[str, float]] = {}
        for method in how["methods"]:
            pairs = [
                [runs[how["alike"]((cell, what, seed))] for what in ("control", method)]
                for seed in how["seeds"]
            ]
            points = np.array([after["accuracy"] - before["accuracy"] for before, after in pairs])
            bits = np.array([after["bits"] - before["bits"] for before, after in pairs])
            both = {"accuracy": points, "cross_entropy": bits}
            gains[method] = {name: float(one.mean()) for name, one in both.items()}
            spreads[method] = {
                name: float(one.std(ddof=1) / np.sqrt(len(one))) if len(one) > 1 else float("nan")
                for name, one in both.items()
            }
        teacher = f"{cell.data} {cell.teacher}"
        rows.append(Row(tuple(cell), teacher, told["figures"], told["pilots"], gains, spreads))
    return Grid(rows, how["about"])


def correlations(grid: Grid, method: str, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return how well each figure orders the cells by their gain, by name.

    Kendall's tau and Spearman's rho, and Spearman's of what is left when the ranks of the
    cross-entropy difference are taken out of both; 95 % intervals by drawing teachers anew.
    """
    gains, teachers = grid.gains(method, outcome), grid.teachers
    draws = _teachers_drawn(teachers)
    rival = grid.figures([RIVAL], method)[:, 0]
    found: dict[str, dict[str, Any]] = {}
    for name, predictor in PREDICTORS.items():
        figure = grid.figures([name], method)[:, 0]
        kept = np.isfinite(figure)
        if kept.sum() < 8 or np.ptp(figure[kept]) == 0:
            continue
        ways: dict[str, Callable[..., float]] = {"tau": _tau, "rho": _rho}
        if name != RIVAL:
            ways["partial"] = _partial
        told: dict[str, Any] = {"unit": predictor.unit, "text": predictor.text}
        for way, measured in ways.items():
            values = [
                measured(figure[at], gains[at], rival[at])
                for drawn in draws
                for at in [drawn[kept[drawn]]]
            ]
            told[way] = [
                measured(figure[kept], gains[kept], rival[kept]),
                *np.nanquantile(values, [0.025, 0.975]).tolist(),
            ]
        found[name] = told | {"cells": int(kept.sum())}
    return found


def forecasts(
    grid: Grid, method: str, outcome: Outcome, *, whole_data_sets: bool = False
) -> dict[str, dict[str, float]]:
    """Return how far each way of forecasting goes for teachers that it has not seen.

    For each teacher the regression is fitted without it; its interval is taken from what was missed
    of the other teachers' cells, each by a fit without that teacher. The same for whole data sets.
    """
    gains, teachers = grid.gains(method, outcome), grid.teachers
    if whole_data_sets:
        teachers = grid.data_sets
    found = {}
    for name, figures in WAYS.items():
        rows = grid.figures(figures, method) if figures else np.zeros((len(gains), 1))
        regression = default_regression() if figures else DummyRegressor()
        missed, widths, inside = gains - left_out(regression, rows, gains, teachers), [], []
        for teacher in np.unique(teachers):
            theirs = teachers == teacher
            below, above = conformal(missed[~theirs])
            widths.append(above - below)
            inside += ((below <= missed[theirs]) & (missed[theirs] <= above)).tolist()
        found[name] = {
            "rmse": float(np.sqrt(np.mean(missed**2))),
            "coverage": float(np.mean(inside)),
            "width": float(np.median(widths)),
            "level": LEVEL,
        }
    return found


def choices(grid: Grid, method: str, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return how well each figure orders the teachers of one student, by name.

    Mean Kendall's tau over data set, student and budget, with its 95 % interval by drawing these
    anew; and how much gain is lost by taking the teacher that the figure puts first.
    """
    gains = grid.gains(method, outcome)
    student = [" ".join((row.name[0], *row.name[2:])) for row in grid.rows]
    groups = [np.flatnonzero(np.array(student) == one) for one in dict.fromkeys(student)]
    draws = np.random.default_rng(0).integers(len(groups), size=(DRAWS, len(groups)))
    found: dict[str, dict[str, Any]] = {}
    for name in CHOSEN_BY:
        figure = grid.figures([name], method)[:, 0]
        taus = np.array([_tau(figure[at], gains[at], gains[at]) for at in groups])
        lost = [gains[at].max() - gains[at][figure[at].argmax()] for at in groups]
        ends = np.quantile(taus[draws].mean(1), [0.025, 0.975]).tolist()
        found[name] = {"tau": [float(taus.mean()), *ends], "lost": float(np.mean(lost))}
    return found


def summarised(grid: Grid) -> dict[str, Any]:
    """Return all tables, by method and outcome."""
    return {
        method: {
            outcome: {
                "unit": UNITS[outcome],
                "gain_quantiles": np.quantile(
                    grid.gains(method, outcome), [0.0, 0.1, 0.5, 0.9, 1.0]
                ).tolist(),
                "seed_error": float(np.median([row.spreads[method][outcome] for row in grid.rows])),
                "correlations": correlations(grid, method, outcome),
                "choices": choices(grid, method, outcome),
                "forecasts": forecasts(grid, method, outcome),
                "new_data": forecasts(grid, method, outcome, whole_data_sets=True),
            }
            for outcome in OUTCOMES
        }
        for method in grid.methods
    }


def _teachers_drawn(teachers: np.ndarray) -> list[np.ndarray]:
    source = np.random.default_rng(0)
    places = [np.flatnonzero(teachers == one) for one in np.unique(teachers)]
    return [
        np.concatenate([places[one] for one in source.integers(len(places), size=len(places))])
        for _ in range(DRAWS)
    ]


def _tau(figure: np.ndarray, gains: np.ndarray, _: np.ndarray) -> float:
    return float(np.asarray(stats.kendalltau(figure, gains))[0])


def _rho(figure: np.ndarray, gains: np.ndarray, _: np.ndarray) -> float:
    return _pearson(stats.rankdata(figure), stats.rankdata(gains))


def _partial(figure: np.ndarray, gains: np.ndarray, rival: np.ndarray) -> float:
    ranks = [stats.rankdata(one) for one in (figure, gains, rival)]
    return _pearson(_without(ranks[0], ranks[2]), _without(ranks[1], ranks[2]))


def _without(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return what a straight line through another's values leaves."""
    if np.ptp(other) == 0:
        return values - values.mean()
    slope, start = np.polyfit(other, values, 1)
    return values - slope * other - start


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")
