"""The demo's forecast: what a teacher will bring, said before any student is distilled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.cli.demo_material import CONTROL, Plan, network, student_rows
from limbeck.estimates import Estimate
from limbeck.forecasting.forecast import forecast
from limbeck.forecasting.result import FILE_NAME, Forecast
from limbeck.information.threads import one_thread
from limbeck.report.comparison import Comparison
from limbeck.report.forecast_file import FORECAST
from limbeck.zoo.data import DataSet


LOSSES = ("kd", "itrd")


@one_thread()
def forecasts(
    digits: DataSet,
    positions: Tensor,
    teacher: nn.Module,
    plan: Plan,
    folder: Path,
    losses: Sequence[str] = LOSSES,
) -> dict[str, Forecast]:
    """Forecast what each loss will add to the control of the first seed, and save it.

    Every image counts once, and the epochs are as many as the demo's steps then make. The one
    network that is trained for it is a short control, at the control's learning rate. It is asked
    about validation images: what came will be seen on test images.

    Args:
        digits: The images.
        positions: Which of them are the students'.
        teacher: A trained network.
        plan: The demo's sizes and settings.
        folder: Each forecast goes to ``forecast/LOSS`` in it.
        losses: Which.
    """
    rows = student_rows(digits, positions, plan.labels, 0)
    steps = plan.epochs * math.ceil(len(rows) / plan.batch_size)
    found = {}
    for loss in losses:
        found[loss] = forecast(
            teacher,
            network(digits, loss, 0, plan),
            rows.subset(torch.arange(len(positions))),  # each image, before the repetitions
            validation=digits.validation,
            loss=loss,
            epochs=max(1, round(steps / math.ceil(len(positions) / plan.batch_size))),
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rates[CONTROL],
            schedule="cosine",
            device="cpu",
        )
        found[loss].save(folder / FORECAST / loss)
    return found


def clear(folder: Path) -> None:
    """Remove an earlier demo's forecasts."""
    for file in (folder / FORECAST).glob(f"*/{FILE_NAME}"):
        file.unlink()


def forecast_sentence(
    found: Mapping[str, Forecast], comparison: Comparison, titles: Mapping[str, str]
) -> str:
    """Return what was expected and what came in words."""

    def words(gain: Estimate, scale: float = 1.0) -> str:
        ends = f"[{scale * gain.lower:+.1f}, {scale * gain.upper:+.1f}]"
        return ends if gain.status == "unresolved" else f"{scale * gain.value:+.1f} {ends}"

    parts = []
    for loss, one in found.items():
        difference = comparison.row(loss).difference
        if difference is None or difference.verdict == "unresolved":
            came = "one seed, no interval"
        else:
            came = words(difference.estimate, 100.0)
        parts.append(f"{titles[loss]} {words(one.accuracy)} ({one.verdict}), came {came}")
    return (
        "Forecast before any student was distilled, gain in points with 90 % intervals, and what "
        f"came with 95 %: {'; '.join(parts)}."
    )
