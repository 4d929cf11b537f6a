"""Models of a gain whose answers are known by hand, in place of those of limbeck's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from limbeck.forecasting import forecast as forecast_module
from limbeck.forecasting.grid import Grid, Row
from limbeck.forecasting.model import GainModel


MISSES = 99
#: With misses evenly from -s to s, 90 % of 99 lie between those at places 5 and 95.
REACH = 90 / 98
Coefficients = Mapping[str, float]


class Sum:
    """A constant and a coefficient a figure; what is unknown adds nothing."""

    def __init__(self, constant: float, coefficients: Coefficients) -> None:
        self.constant, self.coefficients = constant, np.array(list(coefficients.values()))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return one number a row."""
        return self.constant + np.nan_to_num(rows) @ self.coefficients


def gain_model(
    coefficients: Coefficients,
    *,
    constant: float = 0.0,
    spread: float = 0.0,
    limit: float = 1e9,
) -> GainModel:
    """Return a model of known coefficients, with medians of 0 and ranges from -limit to limit."""
    count = len(coefficients)
    return GainModel(
        names=tuple(coefficients),
        regression=Sum(constant, coefficients),
        misses=np.linspace(-spread, spread, MISSES),
        medians=np.zeros(count),
        ranges=np.array([[-limit] * count, [limit] * count]),
    )


def tiny_grid(cells: int = 7) -> Grid:
    """Return a grid of which only its size and its methods count."""
    gains = {method: {"accuracy": 0.0, "cross_entropy": 0.0} for method in ("kd", "itrd")}
    row = Row(("data", "teacher"), "teacher", {}, {}, gains, gains)
    return Grid([row] * cells, {})


def use_models(monkeypatch: Any, **by_outcome: GainModel) -> list[tuple[str, str, bool]]:
    """Let forecasts be made by these models; return which were asked for, as that happens."""
    asked: list[tuple[str, str, bool]] = []

    def model_for(method: str, outcome: str, *, with_pilot: bool) -> GainModel:
        asked.append((method, outcome, with_pilot))
        return by_outcome[outcome]

    monkeypatch.setattr(forecast_module, "own_grid", tiny_grid)
    monkeypatch.setattr(forecast_module, "model_for", model_for)
    return asked
