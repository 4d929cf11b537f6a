"""Case ``networks``: students that are networks, large enough for their teacher and too small."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import get_args

import numpy as np

from limbeck.lab_result import Check, LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.dimension import drawn_from
from limbeck.limits.lab.running import RISK, generator, result
from limbeck.limits.tables.dense import total_variation
from limbeck.limits.tables.tanh_network import NetworkLoss, TanhNetwork, fit_tanh_network


LOSSES: tuple[NetworkLoss, ...] = get_args(NetworkLoss)
SAMPLED: tuple[NetworkLoss, ...] = ("squared_error", "k3", "control_variate")
INPUTS = 6
OPTIMISER = 0.04  # error that the reference's optimiser leaves where a student could have none
FLOOR = 0.05  # of a student that is too small, at least


@dataclass(frozen=True)
class Sizes:
    """How large the networks and their sets are."""

    width: int
    small: int | None
    labels: int
    draws: tuple[int, int]
    runs: int
    steps: int
    test: int


FULL = Sizes(24, 6, 50, (2_000, 16_000), 2, 2_500, 4_000)
QUICK = Sizes(24, None, 50, (2_000, 16_000), 1, 1_500, 1_000)


def networks(settings: LabSettings) -> LabResult:
    r"""Check the order of the privileges for tanh networks that are trained by Adam.

    Of students as wide as their teacher: one log-probability a draw is worth more than eight times
    the hard labels, and whole rows leave what the optimiser does. Of those that are too small
    whole rows stay best and the naive loss worst, above a floor; nothing is known about the others
    there.

    Args:
        settings: Quick takes shorter training, and no student that is too small.

    Returns:
        Checks of orders and sizes, and errors against n, a panel a width.

    Source:
        Observed; losses of Zhao and Zhu (2023), arXiv:2310.07838, and derived.
    """
    began, sizes = time.perf_counter(), QUICK if settings.quick else FULL
    widths = [sizes.width] if sizes.small is None else [sizes.width, sizes.small]
    found = {width: _errors(settings, width, sizes) for width in widths}
    checks: list[Check] = []
    for width, errors in found.items():
        for place, n in enumerate(sizes.draws):
            one: dict[NetworkLoss, float] = {loss: float(errors[loss][place]) for loss in LOSSES}
            checks += _ordered(f"width {width}, n = {n}", one, enough=width >= sizes.width)
    checks += _realisable(found[sizes.width], sizes)
    if sizes.small is not None:
        floor = found[sizes.small]["kl_divergence"][-1]
        text = f"width {sizes.small}: floor that whole rows leave"
        checks.append(compare(text, floor, FLOOR, 0.0, "at_least"))
    curves = []
    for width, errors in found.items():
        others = {loss: line(errors[loss]) for loss in LOSSES if loss != "cross_entropy"}
        shown = line(sizes.draws), line(errors["cross_entropy"])
        curves.append(
            LabCurve(f"students of width {width}", "draws", RISK, *shown, None, others, log=True)
        )
    settings_of = {"width": sizes.width, "runs": sizes.runs, "steps": sizes.steps}
    return result("networks", settings, began, checks, curves, settings_of)


def _errors(settings: LabSettings, width: int, sizes: Sizes) -> dict[NetworkLoss, np.ndarray]:
    """Return mean test errors [sizes of the set] of each loss; all losses see the same draws."""
    found: dict[NetworkLoss, np.ndarray] = {
        loss: np.zeros((sizes.runs, len(sizes.draws))) for loss in LOSSES
    }
    for run in range(sizes.runs):
        random = generator(settings, "networks", run)  # students of all widths share a teacher
        teacher = TanhNetwork.random(INPUTS, sizes.width, sizes.labels, random)
        test = random.normal(size=(sizes.test, INPUTS))
        right = teacher.rows(test)
        for place, n in enumerate(sizes.draws):
            x = random.normal(size=(n, INPUTS))
            rows = teacher.rows(x)
            drawn = drawn_from(rows, random)
            for loss, errors in found.items():
                student = fit_tanh_network(
                    x, drawn, rows, loss=loss, width=width, steps=sizes.steps,
                    random=generator(settings, "networks", "student", run),
                )  # fmt: skip
                errors[run, place] = total_variation(student.rows(test), right).mean()
    return {loss: errors.mean(0) for loss, errors in found.items()}


def _ordered(where: str, errors: dict[NetworkLoss, float], *, enough: bool) -> list[Check]:
    """Judge that rows beat all, hard labels beat the naive loss, and sampled numbers beat these."""
    best, worst = (pick(errors[loss] for loss in SAMPLED) for pick in (min, max))
    hard, naive = errors["cross_entropy"], errors["naive_cross_entropy"]
    steps = {
        "whole rows / the best other": errors["kl_divergence"] / min(best, hard),
        "the worst other / naive": max(worst, hard) / naive,
    }
    if enough:
        steps["sampled numbers / hard labels"] = worst / hard
    return [
        compare(f"{where}: {name}", ratio, 1.0, 0.0, "at_most") for name, ratio in steps.items()
    ]


def _realisable(errors: dict[NetworkLoss, np.ndarray], sizes: Sizes) -> list[Check]:
    """Judge what holds for students that could equal their teacher."""
    few, many = sizes.draws
    checks = []
    for loss in SAMPLED:
        ratio = errors[loss][0] / errors["cross_entropy"][1]
        text = f"{loss} at {few} / hard labels at {many}"
        checks.append(compare(text, ratio, 1.0, 0.0, "at_most"))
    for n, error in zip(sizes.draws, errors["kl_divergence"], strict=True):
        text = f"whole rows, n = {n}: what the optimiser leaves"
        checks.append(compare(text, float(error), OPTIMISER, 0.0, "at_most"))
    return checks
