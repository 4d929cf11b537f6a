"""Processes of their own for tests, which start with torch and limbeck imported already."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist


_CONTEXT = multiprocessing.get_context("forkserver")
# Nothing of the tests: Python 3.11's server does not know this process's path.
_CONTEXT.set_forkserver_preload(["limbeck.training.distil", "torch._dynamo"])


def exit_code(function: Callable[..., Any], *arguments: Any) -> int | None:
    """Run a function in a process and return how that ended; None after two minutes."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def spread(function: Callable[..., Any], *arguments: Any, count: int = 2) -> None:
    """Run ``function(rank, *arguments)`` in so many processes; an error in one is raised here."""
    torch.multiprocessing.start_processes(
        function, args=arguments, nprocs=count, start_method="forkserver"
    )


def command(rank: int, world: int, meeting: str, arguments: list[str]) -> None:
    """Run the command line as one of so many processes that meet by a file."""
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    from limbeck.cli.main import run

    sys.argv = ["limbeck", *arguments]
    run()
