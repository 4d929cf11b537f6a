"""What a forecast says: gains with intervals, what decided, what it cost; saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist

from limbeck.checks import ArgumentError
from limbeck.estimates import Estimate
from limbeck.files import write_text
from limbeck.forecasting.catalogue import PREDICTORS
from limbeck.ranks import world_size
from limbeck.record import hardware, versions
from limbeck.training.measurement import plain


FILE_NAME = "forecast.json"
Verdict = Literal["helps", "harms", "cannot tell", "outside of what I have seen"]


def verdict_of(gain: Estimate) -> Verdict:
    """Say a gain over the control in words.

    Example:
        >>> verdict_of(Estimate(2.0, 0.5, 3.5, n=108, unit="points", status="resolved"))
        'helps'
        >>> verdict_of(Estimate(2.0, -0.5, 4.5, n=108, unit="points", status="resolved"))
        'cannot tell'
    """
    if gain.status == "unresolved":
        return "outside of what I have seen"
    if gain.lower > 0.0:
        return "helps"
    return "harms" if gain.upper < 0.0 else "cannot tell"


@dataclass(frozen=True)
class Reason:
    """The figure that moved a forecast most.

    Attributes:
        name: As in the catalogue.
        text: What it is, in a few words.
        value: What was found, None where it was not to be had.
        unit: Of the value.
        share: What it adds to the expected accuracy, beside a case with the grid's median in its
            place [points].
    """

    name: str
    text: str
    value: float | None
    unit: str
    share: float

    def __str__(self) -> str:
        """Return it in one line."""
        value = "unknown" if self.value is None else f"{self.value:.3g} {self.unit}".rstrip()
        return f"{self.name} ({self.text}), {value}: {self.share:+.2f} points"


@dataclass(frozen=True, eq=False)
class ForecastEntry:
    """What is expected of one teacher, through one of its layers.

    Attributes:
        teacher: The teacher's label.
        layer: The teacher's layer, None where it was left open.
        accuracy: Expected gain in accuracy over a run without a teacher [points].
        cross_entropy: Expected gain in cross-entropy [bits]; less cross-entropy is a gain.
        shares: What each figure adds, by outcome and figure [points or bits].
        outside: Why this case lies outside of the grid; empty if it does not.
        figures: What was found beforehand, by name as in the catalogue.
        missing: Figures that were not to be had and count as typical.
        seconds: What the figures cost, by group.
    """

    teacher: str
    layer: str | None
    accuracy: Estimate
    cross_entropy: Estimate
    shares: Mapping[str, Mapping[str, float]]
    outside: tuple[str, ...]
    figures: Mapping[str, float]
    missing: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def title(self) -> str:
        """Label and layer in a few words."""
        return self.teacher if self.layer is None else f"{self.teacher} ({self.layer})"

    @property
    def verdict(self) -> Verdict:
        """Whether accuracy will gain, in words."""
        return verdict_of(self.accuracy)

    @property
    def decided_by(self) -> Reason:
        """The figure with the largest share in the expected accuracy."""
        shares = self.shares["accuracy"]
        name = max(shares, key=lambda one: abs(shares[one]))
        known = PREDICTORS[name]
        return Reason(name, known.text, self.figures.get(name), known.unit, shares[name])

    def __str__(self) -> str:
        """Return gains, verdicts, what decided, and why the case lies outside."""
        lines = [
            self.title,
            f"  accuracy       {_signed(self.accuracy)}: {self.verdict}",
            f"  cross-entropy  {_signed(self.cross_entropy)}: {verdict_of(self.cross_entropy)}",
            f"  decided by     {self.decided_by}",
            *(f"  outside        {text}" for text in self.outside),
        ]
        if self.missing:
            lines.append(f"  not to be had  {', '.join(self.missing)}: taken as typical")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "teacher": self.teacher,
            "layer": self.layer,
            "gains": {
                "accuracy": self.accuracy.to_dict(),
                "cross_entropy": self.cross_entropy.to_dict(),
            },
            "verdicts": {
                "accuracy": self.verdict,
                "cross_entropy": verdict_of(self.cross_entropy),
            },
            "decided_by": vars(self.decided_by),
            "shares": self.shares,
            "outside": self.outside,
            "figures": self.figures,
            "missing": self.missing,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """What distilling from teachers is expected to bring to one student, with 90 % intervals.

    Attributes:
        entries: One for each teacher, or each layer of it, in the order given.
        loss: The method that the forecast is of.
        cells: How many distillations it is fitted to.
        data: Rows: their numbers and names.
        settings: How the student would be trained, and what the forecast was made from.
        early_seconds: What training the short control cost, once for all entries.
        warnings: What to mind.
        made: When, ISO 8601, UTC: a forecast counts if it was there before the run.
    """

    entries: tuple[ForecastEntry, ...]
    loss: str
    cells: int
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    early_seconds: float
    warnings: tuple[str, ...] = ()
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def accuracy(self) -> Estimate:
        """Expected gain in accuracy [points], where there is one entry."""
        return self._only.accuracy

    @property
    def cross_entropy(self) -> Estimate:
        """Expected gain in cross-entropy [bits], where there is one entry."""
        return self._only.cross_entropy

    @property
    def verdict(self) -> Verdict:
        """Whether accuracy will gain, in words, where there is one entry."""
        return self._only.verdict

    @property
    def decided_by(self) -> Reason:
        """The figure with the largest share, where there is one entry."""
        return self._only.decided_by

    @property
    def outside(self) -> tuple[str, ...]:
        """Why the case lies outside of the grid, where there is one entry."""
        return self._only.outside

    @property
    def figures(self) -> Mapping[str, float]:
        """What was found beforehand, by name, where there is one entry."""
        return self._only.figures

    @property
    def seconds(self) -> dict[str, float]:
        """What the forecast cost, by group, over all entries [seconds]."""
        total = {"short control": self.early_seconds}
        for entry in self.entries:
            for group, seconds in entry.seconds.items():
                total[group] = total.get(group, 0.0) + seconds
        return total

    def ranking(self) -> tuple[ForecastEntry, ...]:
        """Return the entries, the largest expected gain in accuracy first.

        Those that lie outside of the grid stand last; two whose intervals overlap need not differ.
        """
        return tuple(sorted(self.entries, key=lambda one: (bool(one.outside), -one.accuracy.value)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; what is not finite becomes None."""
        return plain(
            {
                "format": 1,
                "made": self.made,
                "kind": "forecast",
                "loss": self.loss,
                "cells": self.cells,
                "entries": [entry.to_dict() for entry in self.entries],
                "ranking": [self.entries.index(entry) for entry in self.ranking()],
                "seconds": self.seconds,
                "data": self.data,
                "settings": self.settings,
                "warnings": self.warnings,
                "versions": versions(),
                "hardware": hardware(),
            }
        )

    def save(self, folder: Path | str) -> Path:
        """Write ``forecast.json``; under a launcher one process does.

        Args:
            folder: Made if absent; an earlier forecast in it is replaced.

        Returns:
            The folder.

        Raises:
            StorageError: If it cannot be written.
        """
        folder = Path(folder)
        if world_size() == 1 or dist.get_rank() == 0:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
            write_text(folder / FILE_NAME, text + "\n")
        return folder

    def __str__(self) -> str:
        """Return what is expected of every teacher, the best first, and what it cost to know."""
        seconds = self.seconds
        parts = ", ".join(f"{group} {one:.1f}" for group, one in seconds.items() if one >= 0.05)
        title = f"expected gain of {self.loss} over a control without a teacher"
        return "\n".join(
            [
                f"{title}, 90 % intervals, from {self.cells} distillations",
                *(str(entry) for entry in self.ranking()),
                *(f"warning: {text}" for text in self.warnings),
                f"cost: {sum(seconds.values()):.1f} s" + (f" ({parts})" if parts else ""),
            ]
        )

    @property
    def _only(self) -> ForecastEntry:
        if len(self.entries) != 1:
            raise ArgumentError(
                f"Forecast: expected one entry to read this from; got {len(self.entries)}. Go "
                "through .ranking() or .entries."
            )
        return self.entries[0]


def _signed(gain: Estimate) -> str:
    interval = f"[{gain.lower:+.2f}, {gain.upper:+.2f}] {gain.unit}"
    return (
        f"unresolved {interval}" if gain.status == "unresolved" else f"{gain.value:+.2f} {interval}"
    )
