"""How many threads numerical libraries use, and work that is done side by side."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController


T = TypeVar("T")


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Let BLAS and torch use one thread: on small matrices two take up to seven times as long."""
    with _at_most(1):
        yield


def side_by_side(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Return what tasks return, in their order; they run at once on the threads that torch may use.

    Each is left its share of these threads, so that none waits for another's. With one thread, as
    within a task of another call, they run one after the other. Tasks may not change what belongs
    to the whole process, such as filters of warnings.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(tasks))
    if workers <= 1:
        return [task() for task in tasks]
    with _at_most(threads // workers), ThreadPoolExecutor(workers) as pool:
        return [job.result() for job in [pool.submit(task) for task in tasks]]


@contextlib.contextmanager
def _at_most(threads: int) -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _controller().limit(limits=threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _controller() -> ThreadpoolController:
    # Looking for the libraries takes milliseconds, setting them microseconds.
    return ThreadpoolController()
