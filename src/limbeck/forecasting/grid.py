"""The cells that forecasts are fitted to: what was known before, and what distillation brought."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int


Outcome = Literal["accuracy", "cross_entropy"]
UNITS: dict[Outcome, str] = {"accuracy": "points", "cross_entropy": "bits"}


@dataclass(frozen=True)
class Row:
    """One teacher, student and budget.

    Attributes:
        name: Which: data set, teacher, student, budget.
        teacher: Which teacher it is.
        figures: What was known before, by name as in the catalogue.
        pilots: What a pilot showed, by method.
        gains: Mean gain over the control in a run, by method and outcome [points and bits].
        spreads: Standard error of each gain over seeds.
    """

    name: tuple[str, ...]
    teacher: str
    figures: Mapping[str, float]
    pilots: Mapping[str, Mapping[str, float]]
    gains: Mapping[str, Mapping[str, float]]
    spreads: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Grid:
    """Rows with how they were made.

    Attributes:
        rows: The cells.
        about: Hardware, versions, settings.
        misses: Of the cells, gain less forecast by a fit without the cell's data set, for models
            that were fitted before; by their names. See :func:`limbeck.forecasting.model.fitted`.
    """

    rows: Sequence[Row]
    about: Mapping[str, Any]
    misses: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def figures(self, names: Sequence[str], method: str) -> Float[np.ndarray, "cells names"]:
        """Return figures by name, NaN where a cell has none."""
        return np.array(
            [
                [{**row.figures, **row.pilots.get(method, {})}.get(name, np.nan) for name in names]
                for row in self.rows
            ]
        )

    def gains(self, method: str, outcome: Outcome) -> Float[np.ndarray, " cells"]:
        """Return the gains of a method [points or bits]."""
        return np.array([row.gains[method][outcome] for row in self.rows])

    @property
    def teachers(self) -> Int[np.ndarray, " cells"]:
        """Which teacher each cell has, as a number."""
        return np.unique([row.teacher for row in self.rows], return_inverse=True)[1]

    @property
    def data_sets(self) -> Int[np.ndarray, " cells"]:
        """Which data set each cell has, as a number."""
        return np.unique([row.name[0] for row in self.rows], return_inverse=True)[1]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods whose gains it holds."""
        return tuple(self.rows[0].gains)


def read_grid(text: str) -> Grid:
    """Return a grid from its JSON."""
    told = json.loads(text)
    rows = [Row(**row | {"name": tuple(row["name"])}) for row in told["rows"]]
    return Grid(rows, told["about"], told["misses"])


def grid_text(grid: Grid) -> str:
    """Return a grid as JSON, one row a line, numbers to six digits."""
    rows = [json.dumps(_rounded(asdict(row)), allow_nan=False) for row in grid.rows]
    about, misses = json.dumps(grid.about), json.dumps(_rounded(dict(grid.misses)))
    head = f'{{"about": {about},\n"misses": {misses},\n"rows": [\n'
    return head + ",\n".join(rows) + "\n]}\n"


@lru_cache(maxsize=1)
def own_grid() -> Grid:
    """Return the grid that limbeck ships."""
    return read_grid((files("limbeck.forecasting") / "grid.json").read_text("utf8"))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
