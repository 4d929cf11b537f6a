"""Saved forecasts beside runs, read with care: one that is damaged is named, and stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


FORECAST = "forecast"  # folder beside the runs
FILE_NAME = "forecast.json"
Outcome = Literal["accuracy", "cross_entropy"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Made(_Part):
    """How an interval was made; its level is a share."""

    level: float = Field(gt=0.0, lt=1.0)


class Gain(_Part):
    """What is expected [points or bits]; an end that is not there is None."""

    value: float
    lower: float | None
    upper: float | None
    status: Literal["resolved", "unresolved"]
    settings: Made


class Decided(_Part):
    """The figure that moved the forecast most; its share is in points."""

    name: str
    text: str
    value: float | None
    unit: str
    share: float


class Entry(_Part):
    """What is expected of one teacher, through one of its layers."""

    teacher: str
    layer: str | None
    gains: dict[Outcome, Gain] = Field(min_length=2)
    verdicts: dict[Outcome, str] = Field(min_length=2)
    decided_by: Decided
    outside: list[str]
    missing: list[str]


class Rows(_Part):
    """How many rows the forecast is for."""

    rows: int
    labelled: int
    validation: int


class Settings(_Part):
    """How long the run in question is, in optimiser steps."""

    steps: int


class Saved(_Part):
    """A forecast as ``forecast.json`` has it; what a report says nothing of is left out.

    Attributes:
        loss: The method that it is of.
        cells: How many distillations it is fitted to.
        entries: One a teacher, or a layer of it.
        ranking: Places in ``entries``, the best first.
        seconds: What it cost, by group.
        data: Numbers of rows.
        settings: Of the run in question.
        warnings: What to mind.
    """

    kind: Literal["forecast"]
    format: Literal[1]
    loss: str
    cells: int
    entries: list[Entry] = Field(min_length=1)
    ranking: list[int]
    seconds: dict[str, float]
    data: Rows
    settings: Settings
    warnings: list[str]

    @model_validator(mode="after")
    def _ranked(self) -> Saved:
        if sorted(self.ranking) != list(range(len(self.entries))):
            raise ValueError("the ranking does not name each entry once")
        return self


def read_forecasts(folder: Path) -> tuple[dict[str, Saved], list[str]]:
    """Return the forecasts in a folder of runs, and what is wrong with others.

    Args:
        folder: Its ``forecast.json``, ``forecast/forecast.json`` and
            ``forecast/NAME/forecast.json`` are read.

    Returns:
        Forecasts by the folder they lie in, and a sentence for each file that is none.
    """
    found: dict[str, Saved] = {}
    damaged: list[str] = []
    paths = [folder / FILE_NAME, folder / FORECAST / FILE_NAME]
    for path in [*paths, *sorted((folder / FORECAST).glob(f"*/{FILE_NAME}"))]:
        if not path.is_file():
            continue
        try:
            found[str(path.parent)] = Saved.model_validate_json(path.read_bytes())
        except ValidationError as problem:
            first = problem.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = f"{where}: {first['msg']}" if where else first["msg"]
        except OSError as problem:
            said = str(problem)
        else:
            continue
        damaged.append(
            f"{path.relative_to(folder).as_posix()}: expected a forecast of limbeck; {said}. It is "
            "left out: forecast again."
        )
    return found, damaged
