"""The published CIFAR-100 comparison, in slices that may be cut short at any time.

No claim is made beforehand; published accuracies stand beside what was measured. For every pair:
the teacher and the student alone, both trained by limbeck, then the student with KD, ITRD and
WTTM+ITRD, by the recipes of ``limbeck init --list`` (240 epochs). Each run is `limbeck train` or
`limbeck distill` in a process of its own, which is stopped, with its state saved, when the slice is
over. Calling the script again goes on; what is finished is not run again.

    python benchmarks/cifar100_pairs.py --data FOLDER [--minutes 9] [--device cuda]
        [--changes KEY=VALUE ...]

--changes holds for every recipe, such as training.compile=true or training.precision=bf16, and
--final is for the last slice: it writes results/cifar100_pairs.json from the finished runs, and the
teachers' weights as float16 safetensors beside their records.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import write
from safetensors.torch import load_file, save_file

from limbeck.cli.recipes import text_of
from limbeck.record import FILE_NAME


PAIRS = ("wrn_40_2-wrn_16_2", "resnet32x4-resnet8x4")
METHODS = ("kd", "itrd", "wttm+itrd")
GRACE = 60.0  # seconds that a run gets to save its state
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # with its state saved; before there was any


class Run(NamedTuple):
    """One run: its recipe, and the folder of its teacher's run if it has one."""

    recipe: str
    teacher: str | None


def planned(pairs: list[str], methods: list[str]) -> Iterator[Run]:
    """Yield all runs; a teacher comes before its students."""
    for pair in pairs:
        teacher, student = pair.split("-")
        yield Run(f"train/{teacher}", None)
        yield Run(f"train/{student}", None)
        yield from (Run(f"{method}/{pair}", f"train/{teacher}") for method in methods)


def state_of(folder: Path) -> dict[str, Any]:
    """Return a run's record, empty where there is none."""
    path = folder / FILE_NAME
    return json.loads(path.read_text("utf8")) if path.exists() else {}


def run(one: Run, o: argparse.Namespace, seconds: float) -> bool:
    """Start or go on with a run; return whether it is finished."""
    folder = o.out / one.recipe
    if state_of(folder).get("status") == "finished":
        return True
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder.with_name(f"{folder.name}.yaml")
    recipe.write_text(text_of(one.recipe), encoding="utf8")
    changes = [f"data.folder={o.data}", f"out={folder}", *o.changes]
    if one.teacher is not None:
        changes.append(f"teacher.folder={o.out / one.teacher}")
    command = [sys.executable, "-m", "limbeck", "distill" if one.teacher else "train", str(recipe)]
    command += [*changes, "--resume", "--force"] + (["--device", o.device] if o.device else [])
    print(f"{one.recipe} ...", flush=True)
    with subprocess.Popen(command) as process:
        try:
            code = process.wait(timeout=max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=GRACE)
    if code not in (0, *STOPPED):
        raise SystemExit(f"{one.recipe}: stopped with exit code {code}; see above.")
    return state_of(folder).get("status") == "finished"


def cell(one: Run, o: argparse.Namespace) -> dict[str, Any]:
    """Return what a finished run gave, with what was published."""
    record, text = state_of(o.out / one.recipe), text_of(one.recipe)
    results = record["results"]
    return {
        "recipe": one.recipe,
        "comment": text.splitlines()[0].removeprefix("# "),
        "last_percent": 100 * results["last"]["test"]["accuracy"],
        "mean_of_last_ten_percent": _percent(results.get("mean_of_last_ten")),
        "epochs": record["settings"].get("epochs"),
        "seconds": record["time"].get("seconds"),
        "seed": record["seed"],
    }


def _percent(result: dict[str, Any] | None) -> float | None:
    found = (result or {}).get("test", {}).get("accuracy")
    return None if found is None else 100 * found


def keep_weights(folder: Path) -> None:
    """Write a trained network's weights at half precision beside its record."""
    weights = load_file(folder / "student" / "model.safetensors")
    half = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in weights.items()}
    part = folder / "weights-fp16.part"
    save_file(half, part)
    os.replace(part, folder / "weights-fp16.safetensors")  # noqa: PTH105


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar100_pairs"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device")
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--final", action="store_true")
    parser.add_argument("--changes", nargs="+", default=[], metavar="KEY=VALUE")
    o = parser.parse_args()
    stop = time.monotonic() + 60 * o.minutes
    runs = list(planned(o.pairs, o.methods))
    for one in runs:
        if time.monotonic() >= stop or not run(one, o, stop - time.monotonic()):
            print("The slice is over; call again to go on.", flush=True)
            break
    finished = [one for one in runs if state_of(o.out / one.recipe).get("status") == "finished"]
    for one in finished:
        print(json.dumps(cell(one, o)), flush=True)
    if o.final:
        for one in finished:
            if any(one.recipe == other.teacher for other in runs):
                keep_weights(o.out / one.recipe)
        result = {"changes": o.changes, "runs": [cell(one, o) for one in finished]}
        write("cifar100_pairs", result | {"planned": len(runs)})


if __name__ == "__main__":
    main()
