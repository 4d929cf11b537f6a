"""How many threads numerical libraries use for small matrices: one."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator

import torch
from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Let BLAS and torch use one thread: on small matrices two take up to seven times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _controller() -> ThreadpoolController:
    # Looking for the libraries takes milliseconds, setting them microseconds.
    return ThreadpoolController()
