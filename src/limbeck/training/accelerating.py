"""Accelerate's engine for one run: device and processes."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from limbeck.checks import ArgumentError


def accelerator_for(device: str | None) -> Accelerator:
    """Return an Accelerator on the device asked for, or on the accelerator that there is.

    Raises:
        ArgumentError: If the device is not there.
    """
    if device is not None:
        _check_device(device)
    if "WORLD_SIZE" not in os.environ:
        # One process may run several distillations on different devices; the state is a singleton.
        AcceleratorState._reset_state(reset_partial_state=True)
    if device is not None and device.startswith("cuda:"):
        torch.cuda.set_device(device)
    return Accelerator(cpu=device == "cpu")


def _check_device(device: str) -> None:
    try:
        wanted = torch.device(device)
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as problem:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        first = (str(problem).splitlines() or [""])[0][:120]
        raise ArgumentError(
            f"device: expected one of {', '.join(there)}; got {device!r} ({first})."
        ) from None
