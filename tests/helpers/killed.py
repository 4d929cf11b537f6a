"""A training run that kills itself with SIGKILL at a chosen moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers.small import QUICK, good_teacher, network, rows

import limbeck as lb
from limbeck.training import checkpoint, finishing, loop


def run(out: Path | None, **options: Any) -> lb.Result:
    """Distil with everything that has state: dropout, BatchNorm, an embedding, an average."""
    x, y = rows(60)
    data = lb.Data((x[:48], y[:48]), augment=_jitter)
    return lb.distill(
        network(norm=True, dropout=0.3),
        good_teacher(),
        data,
        loss="itrd",
        validation=options.pop("validation", (x[48:], y[48:])),
        test=rows(30, seed=5),
        out=out,
        **QUICK | {"average": 0.9, "checkpoint_seconds": 0.0} | options,
    )


def run_and_die(out: Path, where: str, count: int) -> None:
    """Run in ``out`` and die at the ``count``-th time that ``where`` is reached."""
    torch.set_num_threads(1)
    holder, name = {
        "before a step": (loop.Loop, "_one_step"),
        "while writing a checkpoint": (checkpoint.torch, "save"),
        "before renaming": (Path, "replace"),
        "at the end of an epoch": (loop, "evaluate"),
        "while saving the student": (finishing, "save_model"),
        "before the last record": (finishing, "remove_checkpoint"),
    }[where]
    original = getattr(holder, name)
    setattr(holder, name, _deadly(original, count, half_written=where.startswith("while writing")))
    run(out, resume=True)


def _deadly(original: Callable[..., Any], count: int, *, half_written: bool) -> Callable[..., Any]:
    calls = [0]

    def deadly(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            if half_written:
                original(*arguments, **named)
                whole = Path(arguments[1])
                os.truncate(whole, whole.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    return deadly


def _jitter(inputs: torch.Tensor, index: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    return inputs + 0.01 * torch.sin(index + 7.0 * view)[:, None]
