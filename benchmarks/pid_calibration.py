"""Do the intervals of ``limbeck.estimate_pid`` cover, and how far off is it? Truth is known here.

Claim (the project's targets; what was measured stands in results/pid_calibration.json): from 5,000
rows on, 95 % intervals of distillable and distilled information cover at least 90 % of
the time; at 20,000 rows and up to 12 classes their root-mean-square error is at most .02 bits; at
50,000 rows and 100 classes at most .05 bits.

Sources are those of ``limbeck.information.known``, in 64 dimensions with nuisance. Every second one
(``TUNING``) was looked at when the estimator's two constants were chosen: the learning curve's
exponent (1) and how far the extrapolated part widens the interval (once). The other half is what is
reported. Truth is the law of the continuous sources, so that intervals have to cover what the
probes lack too.

    python benchmarks/pid_calibration.py [--minutes 60] [--workers 2] [--half reported|tuning]

It runs trial after trial, one seed of every source and number of rows before the next seed, appends
each to results/pid_calibration.jsonl, goes on where it was stopped, and writes the summary.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from typing import Any

import numpy as np
import torch
from common import RESULTS, write
from resumable import rows_of

from limbeck import estimate_pid
from limbeck.information.known import SOURCES


TUNING, REPORTED = list(SOURCES)[::2], list(SOURCES)[1::2]
ROWS = (1000, 5000, 20_000)
MANY_ROWS = 50_000  # for the sources with 100 classes
MANY_EVERY = 1  # seeds to one trial of those
PEERS = ("cells", "kmeans")
PEER_SEEDS = 2
ATOMS = ("unique_teacher", "redundant", "unique_student", "synergistic")
TRIALS = RESULTS / "pid_calibration.jsonl"

Trial = tuple[str, int, int, str]  # source, rows, seed, method


def planned(sources: list[str], seeds: int) -> Iterator[Trial]:
    """Yield every trial, seed by seed."""
    few = [name for name in sources if SOURCES[name].classes < 100]
    many = [name for name in sources if SOURCES[name].classes >= 100]
    for seed in range(seeds):
        yield from ((name, n, seed, "hull") for n in ROWS for name in few)
        if seed % MANY_EVERY == 0:
            yield from ((name, MANY_ROWS, seed, "hull") for name in many)
        if seed < PEER_SEEDS:
            yield from ((name, n, seed, m) for n in ROWS[1:] for m in PEERS for name in few)
            yield from ((name, MANY_ROWS, seed, m) for m in PEERS for name in many if seed == 0)


def run(trial: Trial) -> dict[str, object]:
    """Draw, estimate, and return what came out beside the truth."""
    torch.set_num_threads(1)
    name, rows, seed, method = trial
    source = SOURCES[name]
    sample = source.draw(rows, seed=1000 + seed)
    start = time.process_time()
    found = estimate_pid(sample.targets, sample.teacher, sample.student, method=method, seed=seed)
    atoms = {
        atom: [round(number, 6) for number in (source.truth[atom], e.value, e.lower, e.upper)]
        for atom, e in ((atom, getattr(found, atom)) for atom in ATOMS)
    }
    unresolved = [atom for atom in ATOMS if getattr(found, atom).status == "unresolved"]
    raw = {a: round(getattr(found, a).settings.get("extrapolated", 0.0), 6) for a in ATOMS}
    return {
        "source": name,
        "rows": rows,
        "seed": seed,
        "method": method,
        "seconds": round(time.process_time() - start, 2),
        "unresolved": unresolved,
        "extrapolated": raw,
        **atoms,
    }


def summarise(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return bias, spread and coverage for every method, half, number of rows and class group."""
    cells = []
    keys = sorted({(t["method"], t["source"] in TUNING, t["rows"]) for t in trials})
    for method, tuning, rows in keys:
        own = [
            t
            for t in trials
            if (t["method"], t["source"] in TUNING, t["rows"]) == (method, tuning, rows)
        ]
        cells.append(
            {
                "method": method,
                "half": "tuning" if tuning else "reported",
                "rows": rows,
                "classes": "100" if rows == MANY_ROWS else "2 to 12",
                **figures(own),
                "by_source": {
                    name: figures([t for t in own if t["source"] == name])
                    for name in sorted({t["source"] for t in own})
                },
            }
        )
    return cells


def figures(trials: list[dict[str, Any]]) -> dict[str, object]:
    """Return the figures of one cell; the coverage of both goals is pooled."""
    found: dict[str, object] = {
        "trials": len(trials),
        "seconds": round(float(np.mean([t["seconds"] for t in trials])), 1),
    }
    pooled = []
    for atom in ATOMS:
        truth, value, lower, upper = np.array([t[atom] for t in trials]).T
        # Rounded to 1e-6 in the file.
        covered = (lower <= truth + 2e-6) & (truth <= upper + 2e-6)
        share = float(covered.mean())
        if atom in ("unique_teacher", "redundant"):
            pooled.append(share)
        found[atom] = {
            "bias": round(float((value - truth).mean()), 4),
            "spread": round(float((value - truth).std()), 4),
            "rms": round(float(np.sqrt(np.square(value - truth).mean())), 4),
            "coverage": round(share, 4),
            "coverage_error": round(math.sqrt(share * (1 - share) / len(trials)), 4),
            "half_width": round(float((upper - lower).mean()) / 2, 4),
        }
    found["coverage_of_both"] = round(float(np.mean(pooled)), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--half", choices=("reported", "tuning"), default="reported")
    options = parser.parse_args()
    stop = time.monotonic() + 60 * options.minutes
    done = {(t["source"], t["rows"], t["seed"], t["method"]) for t in rows_of(TRIALS)}
    sources = REPORTED if options.half == "reported" else TUNING
    todo = (trial for trial in planned(sources, options.seeds) if trial not in done)
    with ProcessPoolExecutor(options.workers) as pool, TRIALS.open("a", encoding="utf8") as out:
        running = {pool.submit(run, trial) for trial in islice(todo, options.workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                out.write(json.dumps(future.result()) + "\n")
                out.flush()
            if time.monotonic() < stop:
                running |= {pool.submit(run, trial) for trial in islice(todo, len(finished))}
    write(
        "pid_calibration",
        {
            "tuning": TUNING,
            "reported": REPORTED,
            "cells": summarise(rows_of(TRIALS)),
        },
        packages=("scikit-learn",),
    )


if __name__ == "__main__":
    main()
