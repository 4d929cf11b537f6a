"""RunRecord: what a run was, what it did and what came of it, as JSON that a person can read."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limbeck.checks import DataError
from limbeck.files import write_text


SCHEMA_VERSION = 1
FILE_NAME = "record.json"


class RunRecord(BaseModel):
    """One run.

    Attributes:
        schema_version: Version of this layout; a reader refuses a newer one.
        kind: What kind of run it is.
        status: How it ended; a record is written from the first epoch on.
        seed: The run's seed.
        command: The shell command or call that repeats it.
        started: Start, ISO 8601, UTC.
        settings: Everything that was chosen, resolved.
        data: What was trained and evaluated on: rows, classes, labels.
        teacher: What the teacher is and how good it is here; empty without one.
        curves: One value an epoch, by name: loss terms [nats], metrics, learning rate.
        results: Metrics by moment ("last", "best", "mean of last ten") and set ("validation",
            "test"): ``results["last"]["test"]["accuracy"]``.
        details: Of a classifier's last evaluation, on ``part``: counts by class, ``calibration``
            and ``agreement`` with its teachers, as ``limbeck.training.details`` makes them.
        weighing: What a weight that was measured while training was made of: one entry a
            measurement, with its step.
        time: Seconds in total and their shares.
        memory: Peaks at the end of the run [MiB], of the whole process since its start:
            ``resident``, and ``device`` where an accelerator was used.
        versions: Versions of Python, limbeck and the libraries under it.
        hardware: Machine, processor, threads, memory, accelerator.
        warnings: What a reader must know before believing the numbers.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["train", "distill", "evaluate", "demo"]
    status: Literal["running", "finished", "interrupted", "failed"] = "running"
    seed: int
    command: str = ""
    started: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    teacher: dict[str, Any] = {}
    curves: dict[str, list[float | None]] = {}
    results: dict[str, dict[str, dict[str, float]]] = {}
    details: dict[str, Any] = {}
    weighing: list[dict[str, float]] = []
    time: dict[str, float] = {}
    memory: dict[str, float] = {}
    versions: dict[str, str] = Field(default_factory=lambda: versions())
    hardware: dict[str, Any] = Field(default_factory=lambda: hardware())
    warnings: list[str] = []

    def save(self, folder: Path | str) -> Path:
        """Write ``record.json`` into ``folder``, whole or not at all, and return its path."""
        path = Path(folder) / FILE_NAME
        write_text(path, self.model_dump_json(indent=1) + "\n")
        return path

    @classmethod
    def open(cls, path: Path | str) -> RunRecord:
        """Read a record from its file or the folder that holds it.

        Raises:
            DataError: If there is none, or it is not a record of this version.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise DataError(f"{path}: expected a record of a run; there is no such file.")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as problem:
            first = problem.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{path}: expected a record of schema version {SCHEMA_VERSION}; {place}: "
                f"{first['msg']}. It may be damaged, or written by another limbeck."
            ) from None

    def add_to_curves(self, values: Mapping[str, float]) -> None:
        """Append one epoch's values; a name that starts later is filled with None before."""
        length = max((len(curve) for curve in self.curves.values()), default=0)
        for name, value in values.items():
            curve = self.curves.setdefault(name, [None] * length)
            curve.append(float(value))
        for name, curve in self.curves.items():
            if name not in values and len(curve) < length + 1:
                curve.append(None)


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    found = {"python": platform.python_version()}
    for package in ("limbeck", "torch", "accelerate", "numpy", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def hardware() -> dict[str, Any]:
    """Return what the run runs on; nothing that names the person or the machine."""
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
        found["accelerator_memory_GiB"] = round(
            torch.cuda.get_device_properties(0).total_memory / 2**30, 1
        )
    return found


def this_command() -> str:
    """Return the shell command of this process, with paths as seen from here or from home."""
    arguments = [_without_person(argument) for argument in sys.argv[1:]]
    return shlex.join([Path(sys.argv[0]).name or "python", *arguments])


def _without_person(text: str) -> str:
    """Shorten paths: the folder of a person carries a name that a record must not."""
    for folder, short in ((Path.cwd(), ""), (Path.home(), "~/")):
        if folder != Path(folder.anchor):
            text = text.replace(f"{folder}/", short)
    return text


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
