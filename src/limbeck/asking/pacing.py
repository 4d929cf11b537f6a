"""A bound on how many requests are sent in a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from limbeck.checks import check_positive


class Pace:
    """Spaces requests evenly; safe to use from several threads.

    Args:
        rate: Requests a minute, above 0; None sets no bound.
        clock: Seconds that never run backwards.
        sleep: Waits for so many seconds.

    Example:
        >>> slept = []
        >>> pace = Pace(60.0, clock=lambda: 0.0, sleep=slept.append)
        >>> for _ in range(3):
        ...     pace.wait()
        >>> slept
        [1.0, 2.0]
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if rate is not None:
            check_positive("Pace", rate=rate)
        self._between = 0.0 if rate is None else 60.0 / rate
        self._clock, self._sleep = clock, sleep
        self._next = -float("inf")
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait for this request's turn."""
        if not self._between:
            return
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._between
        if turn > now:
            self._sleep(turn - now)
