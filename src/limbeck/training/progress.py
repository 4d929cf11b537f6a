"""The progress bar: rate and remaining time; silent where the output is not a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """Counts optimiser steps; shows rows a second, the time left and the last numbers read."""

    def __init__(self, total: int, *, shown: bool, done: int = 0, label: str = "train") -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} rows/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task(label, total=total, completed=done, rate="-", said="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self, rows: int) -> None:
        """Count one step of ``rows`` rows."""
        if self._progress.disable:
            return
        speed = self._progress.tasks[0].speed
        rate = f"{speed * rows:,.0f}" if speed else "-"
        self._progress.update(self._task, advance=1, rate=rate)

    def say(self, text: str) -> None:
        """Show a few words behind the bar."""
        self._progress.update(self._task, said=text)
