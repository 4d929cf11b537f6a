"""SIGTERM and Ctrl-C: finish the step, write a checkpoint, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from limbeck.checks import LimbeckError


class Interrupted(LimbeckError):  # noqa: N818 - asked for, not an error
    """A run that was asked to stop and did, with a checkpoint on disk.

    Attributes:
        signal: Number of the signal; a shell's exit code is 128 more.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class Interrupts:
    """While open, the first signal is noted for :meth:`check`; a second one acts at once.

    Args:
        where: Who is stopped, for the message.
        advice: How to go on.
        saved: Whether :meth:`check` is given something that saves the state.
    """

    def __init__(
        self,
        where: str = "distill",
        advice: str = "Run the same command with --resume (resume=True) to go on.",
        *,
        saved: bool = True,
    ) -> None:
        self._where = where
        self._said = f"the state is saved. {advice}" if saved else "without `out` nothing is saved."
        self._number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Python allows handlers in the main thread only; elsewhere signals act as they did.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, save: Callable[[], None] | None = None) -> None:
        """Save and raise Interrupted if a signal has come."""
        if self._number:
            if save is not None:
                save()
            name = signal.Signals(self._number).name
            raise Interrupted(
                f"{self._where}: stopped by {name}; {self._said}",
                self._number,
            )

    def _noted(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        for known, handler in self._before.items():
            signal.signal(known, handler)
