"""Two processes with the same global batch are one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file


RECIPE = """\
data: {module: "helpers.small:sets"}
teacher: {model: "helpers.small:double_teacher"}
student: {model: "helpers.small:double_student"}
training: {epochs: 3, batch_size: 16, schedule: constant, progress: false}
"""


def launched(processes: int, out: Path, *overrides: str) -> dict:
    """Distil through the command line on so many processes and return the record."""
    recipe = out.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    tests = Path(__file__).parents[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"),
        *("--master_port=0", "--standalone", "-m", "limbeck", "distill", str(recipe)),
        *("--out", str(out), "--device", "cpu", *overrides),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "record.json").read_text())


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=itrd", "seed=1"),
        ("loss={kd: {weight: 0.5}, itrd: {weight: 1.0}}", "training.optimizer=adamw"),
        ("loss={name: rid, warmup_epochs: 1, cycle: 2}", "layers={student: '1', teacher: '1'}"),
    ],
)
def test_two_processes_give_the_student_of_one(tmp_path, overrides):
    one = launched(1, tmp_path / "one", *overrides)
    two = launched(2, tmp_path / "two", *overrides)
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
    weights = load_file(tmp_path / "one" / "student" / "model.safetensors")
    others = load_file(tmp_path / "two" / "student" / "model.safetensors")
    for name, weight in weights.items():
        assert str(weight.dtype) == "torch.float64"
        assert (weight - others[name]).abs().max().item() < 1e-9, name
