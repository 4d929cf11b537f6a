"""How long and how much memory does an estimate take at the size of a real test set?

Claim (the project's targets; what was measured stands in results/measure.json): 50,000 rows of 512
features on both sides, with probes, joint probe, correction, bracket and null band, take less than
60 s for 10 classes and less than 180 s for 100 on two cores, less than 60 s from posteriors alone,
and less than 2 GB. 1,000 classes (20,000 rows of 128 features) have no target.

Every case runs in a process of its own, so that its memory is its own. Features are those of
sources with known decomposition (``limbeck.information.known``) in single precision, as networks
give them; what was found stands beside the truth.

    python benchmarks/measure.py [--rows 50000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import summary, write

from limbeck import estimate_pid, pid_from_posteriors
from limbeck.information import estimating
from limbeck.information.known import SOURCES, Source, circle, line
from limbeck.information.known_parts import Gaussian


WIDTH = 512
CASES = {
    "features, 10 classes": ("mixed10_line", 60.0),
    "features, 100 classes": ("split100", 180.0),
    "posteriors, 10 classes": ("mixed10_line", 60.0),
    "posteriors, 100 classes": ("split100", 60.0),
}
THOUSAND = Source(
    "thousand",
    "Three parts of ten in independent Gaussian noises, two clearer to the teacher.",
    (Gaussian(circle(10), 6.0, 3.0), Gaussian(line(10), 5.0, 2.0), Gaussian(line(10), 2.5, 4.0)),
)
MANY, MANY_ROWS, MANY_WIDTH = "features, 1,000 classes", 20_000, 128
SHARES = {"cross_fit": "probes", "terms_of": "hull", "shuffled_atoms": "null band"}


def timed(spent: dict[str, float], part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        found = function(*args, **kwargs)
        spent[part] = spent.get(part, 0.0) + time.perf_counter() - start
        return found

    return wrapped


def one(case: str, rows: int, seed: int) -> dict[str, object]:
    """Measure a case in this process."""
    source = THOUSAND if case == MANY else SOURCES[CASES[case][0]]
    sample = source.draw(rows, seed, MANY_WIDTH if case == MANY else WIDTH)
    if case.startswith("features"):
        given = [side.astype(np.float32) for side in (sample.teacher, sample.student)]
    else:
        given = [sample.teacher_posteriors, sample.student_posteriors]
    targets = sample.targets
    del sample
    spent: dict[str, float] = {}
    for name, part in SHARES.items():
        setattr(estimating, name, timed(spent, part, getattr(estimating, name)))
    start = time.perf_counter()
    estimate = estimate_pid if case.startswith("features") else pid_from_posteriors
    found = estimate(targets, *given, seed=seed)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "shares": {part: value / seconds for part, value in spent.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "error": {atom: getattr(found, atom).value - truth for atom, truth in source.truth.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        case, seed = options.child
        print(json.dumps(one(case, options.rows, int(seed))))
        return
    cells = {}
    for case, limit in [*((case, limit) for case, (_, limit) in CASES.items()), (MANY, None)]:
        trials = []
        rows = MANY_ROWS if case == MANY else options.rows
        for seed in range(options.repeats if case != MANY else 1):
            command = [sys.executable, __file__, "--rows", str(rows), "--child", case]
            done = subprocess.run([*command, str(seed)], check=True, capture_output=True, text=True)
            trials.append(json.loads(done.stdout.splitlines()[-1]))
        seconds = [trial["seconds"] for trial in trials]
        cells[case] = {
            "rows": rows,
            "seconds": summary(seconds),
            "limit_seconds": limit,
            "peak_mb": max(trial["peak_mb"] for trial in trials),
            "trials": trials,
        }
        print(f"{case}: {np.median(seconds):.1f} s, {cells[case]['peak_mb']:.0f} MB")
    write("measure", {"width": WIDTH, "cases": cells}, packages=("scikit-learn",))


if __name__ == "__main__":
    main()
