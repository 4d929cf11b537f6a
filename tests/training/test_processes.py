"""Two processes with the same global batch are one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import command as on_rank, spread
from safetensors.torch import load_file


RECIPE = """\
data: {module: "helpers.small:sets"}
teacher: {model: "helpers.small:double_teacher"}
student: {model: "helpers.small:double_student"}
training: {epochs: 3, batch_size: 16, schedule: constant, progress: false}
"""
RID_LAYERS = "layers={student: '1', teacher: '1'}"


def student(name: str) -> str:
    return f'student={{model: "helpers.small:{name}"}}'


def launched(processes: int, out: Path, *changes: str, torchrun: bool = False) -> dict[str, Any]:
    """Distil by the command line on so many processes and return the record."""
    out.parent.mkdir(exist_ok=True)
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = ["distill", str(recipe), "--out", str(out), "--device", "cpu", *changes]
    if torchrun:
        run_by_torchrun(processes, command)
    else:
        spread(on_rank, processes, str(out.parent / "meeting"), command, count=processes)
    return json.loads((out / "record.json").read_text())


def run_by_torchrun(processes: int, command: list[str]) -> None:
    launcher = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"),
        *("--master_port=0", "--standalone", "-m", "limbeck"),
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [*launcher, *command], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("changes", "torchrun"),
    [
        (("loss=itrd", "seed=1"), True),
        (("loss={kd: {weight: 0.5}, itrd: {weight: 1.0}}", "training.optimizer=adamw"), False),
        (("loss={name: rid, warmup_epochs: 1, cycle: 2}", RID_LAYERS), False),
        (("loss=kd", "weight={mode: hbar, every: 1, warmup: 0, freeze_width: 9}"), False),
        ((student("double_binary_student"),), False),
        ((student("double_ternary_student"), "loss=itrd"), False),
    ],
)
def test_two_processes_give_the_student_of_one(tmp_path, changes, torchrun):
    one = launched(1, tmp_path / "one" / "run", *changes)
    two = launched(2, tmp_path / "two" / "run", *changes, torchrun=torchrun)
    assert one["hardware"]["processes"] == 1
    assert two["hardware"]["processes"] == 2
    for name, curve in one["curves"].items():
        told = [value is not None for value in curve]
        other = two["curves"][name]
        assert [value is not None for value in other] == told
        values = [[value for value in one if value is not None] for one in (curve, other)]
        assert values[1] == pytest.approx(values[0], rel=1e-9, abs=1e-9), name
    for moment, found in one["results"].items():
        for rows, metrics in found.items():
            assert two["results"][moment][rows] == pytest.approx(metrics, rel=1e-9), moment
    weights = load_file(tmp_path / "one" / "run" / "student" / "model.safetensors")
    others = load_file(tmp_path / "two" / "run" / "student" / "model.safetensors")
    for name, weight in weights.items():
        assert str(weight.dtype) == "torch.float64"
        assert (weight - others[name]).abs().max().item() < 1e-9, name
