"""Ctrl-C and SIGTERM: what is saved, how to go on, and the exit code."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import Any

from typer.core import TyperGroup


#: What lies on disk when a command is stopped outside of its own checkpoints, and how to go on.
LEFT = {
    "train": "what was saved before is kept. The same command with --resume goes on.",
    "cache": "rows that were written are kept. The same command goes on.",
    "collect": "answers that came are kept. The same command goes on and asks nothing twice.",
    "demo": "runs that were finished lie in its folder with their records. The same command "
    "starts anew.",
}
LEFT["distill"] = LEFT["train"]
NOTHING = "nothing was written. The same command starts anew."
_SAVE_THEMSELVES = ("train", "distill", "cache", "collect")  # and then say so

_last = [signal.SIGINT]


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


class Stopped(Exception):  # noqa: N818 - asked for, not an error
    """A command that a signal ended; it needs nothing that may have been half imported.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, command: str | None, number: int) -> None:
        name, said = signal.Signals(number).name, LEFT.get(command or "", NOTHING)
        super().__init__(f"{command}: stopped by {name}; {said}")
        self.signal = number


class Commands(TyperGroup):
    """The commands of limbeck; one that is stopped says what is saved."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and turn a signal into an error that ends with 128 and its number."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(ctx.invoked_subcommand, _last[-1]) from None
        except Exception as problem:
            number = getattr(problem, "signal", None)
            if number is None or ctx.invoked_subcommand in _SAVE_THEMSELVES:
                raise
            raise Stopped(ctx.invoked_subcommand, number) from None


def exit_code(number: int) -> int:
    """Return 128 and the number of the signal that came, which SIGTERM tells apart."""
    return 128 + (_last[-1] if number == signal.SIGINT else number)


@contextlib.contextmanager
def listening() -> Generator[None]:
    """Let SIGTERM end a command as Ctrl-C does; outside of the main thread it acts as before."""
    _last[:] = [signal.SIGINT]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, _frame: FrameType | None) -> None:
    _last.append(signal.Signals(number))
    raise Terminated
