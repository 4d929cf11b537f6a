"""Time shares of a training step, without making the device wait."""

from __future__ import annotations

import time
from collections import defaultdict

import torch


class Clock:
    """Adds up the time between laps by name.

    On a CUDA device laps are events in the stream, taken in one step of ``every`` and read only
    when the shares are asked for.

    Args:
        device: Where the work happens.
        every: Steps between two that are timed, on CUDA.
    """

    def __init__(self, device: torch.device, every: int = 16) -> None:
        self._cuda = device.type == "cuda"
        self._every = every if self._cuda else 1
        self._step = -1
        self._timed = False
        self._last: float | torch.cuda.Event = 0.0
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def start(self) -> None:
        """Begin a step."""
        self._step += 1
        self._timed = self._step % self._every == 0
        if self._timed:
            self._last = self._now()

    def lap(self, name: str) -> None:
        """Book the time since the last lap, or the start of the step, under ``name``."""
        if not self._timed:
            return
        now = self._now()
        if isinstance(now, torch.cuda.Event):
            assert isinstance(self._last, torch.cuda.Event)  # one device, one kind of time
            self._events.append((name, self._last, now))
        else:
            assert isinstance(self._last, float)
            self._seconds[name] += now - self._last
        self._last = now

    def shares(self) -> dict[str, float]:
        """Return each name's share of the timed work, in [0, 1]; waits for the device."""
        if self._events:
            torch.cuda.synchronize()
            for name, begin, end in self._events:
                self._seconds[name] += begin.elapsed_time(end) / 1000
            self._events.clear()
        total = sum(self._seconds.values())
        return {name: value / total for name, value in self._seconds.items()} if total else {}

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
