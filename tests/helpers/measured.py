"""What the tests of measurements share: a stand-in for the estimator, and two ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers.small import good_teacher, network, rows

import limbeck as lb
from limbeck.checks import DataError
from limbeck.estimates import Estimate
from limbeck.information.pid import ATOMS
from limbeck.training import measuring


INFORMATIONS = ("mutual_teacher", "mutual_student", "mutual_joint")


def estimate(value: float, n: int = 100, *, status: str = "resolved") -> Estimate:
    """Return a number of bits with an interval of a tenth on both sides."""
    return Estimate(value, max(value - 0.1, 0.0), value + 0.1, n=n, unit="bits", status=status)  # type: ignore[arg-type]


def pid_estimate(distillable: float = 1.0, n: int = 100, **changes: Any) -> lb.PIDEstimate:
    """Return a decomposition made by hand, of targets of two bits."""
    parts = dict.fromkeys((*ATOMS, *INFORMATIONS), 0.5) | {"unique_teacher": distillable}
    status = changes.pop("status", "resolved")
    return lb.PIDEstimate(
        **{name: estimate(value, n, status=status) for name, value in parts.items()},
        **{
            "target_entropy": 2.0,
            "null": {},
            "rivals": {"cka": 0.25},
            "probe_shortfall": {"teacher": 0.01},
            "kept": {},
            "warnings": (),
            "settings": {"method": "hull"},
            **changes,
        },
    )


class Recorder:
    """Stands in for ``estimate_pid``: keeps what it is given and answers at once."""

    def __init__(self, answer: Callable[[int], lb.PIDEstimate] | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.answer = answer or (lambda _: pid_estimate())

    def __call__(self, targets: Any, teacher: Any, student: Any, **options: Any) -> lb.PIDEstimate:
        self.calls.append({"targets": targets, "teacher": teacher, "student": student, **options})
        return self.answer(len(self.calls) - 1)


def measure(*arguments: Any, **options: Any) -> Any:
    """Measure on the CPU."""
    return lb.measure(*arguments, **{"device": "cpu", **options})


def run_rank(rank: int, world: int, folder: str) -> None:
    """Measure on this rank and save what the estimator was given and what came of it."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting{world}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    try:
        torch.save(on_this_rank(f"{folder}/{world}"), Path(folder) / f"{world} {rank}.pt")
    finally:
        dist.destroy_process_group()


def on_this_rank(folder: str) -> dict[str, Any]:
    """Measure with batches that fall unequally on two ranks, one of them without any at all."""
    x, y = rows(203)
    partly = torch.where(torch.arange(203) % 7 == 0, -1, y)
    options: dict[str, Any] = {"device": "cpu", "layers": {"student": ["penultimate", "1"]}}
    recorder = measuring.estimate_pid = Recorder()
    found = lb.measure(
        good_teacher(), network(), (x, partly), batch_size=31, max_rows=120, **options
    )
    found.save(folder)
    lb.measure(good_teacher(), network(), (x, partly), batch_size=500, **options)
    result: dict[str, Any] = {"calls": recorder.calls, "record": found.to_dict()}

    def refuse(_: int) -> lb.PIDEstimate:
        raise DataError("estimate_pid: on the main process alone")

    measuring.estimate_pid = Recorder(refuse)
    try:
        lb.measure(good_teacher(), network(), (x, y), **options)
    except DataError as problem:
        result["error"] = str(problem)
    return result
