"""Exact BROJA tables: limbeck against dit and cvxpy, with the error that each of them makes.

limbeck certifies a gap of 1e-6 bits on every table; target: at least 100 times faster at |Y| = 10
and 50 symbols a side than the fastest peer that is right to 1e-5 bits, at 100 symbols 80 times on
dense and 150 times on clustered tables; 200 bootstrap replicates of 10 x 20 x 20 cells in 15 s.

Measured (results/broja.json; one thread, while the machine's second core did other work): 133 times
(dense) and 79 times (clustered) at 50 symbols, 163 and 102 at 100. Sparse tables are a miss, 9 to
28 times: only what is not empty counts for a solver of sparse cones, too. No peer is right on the
sharp table of 50 symbols. dit's cone solver is off by up to .008 bits, its default by .001 where
it ends within 100 s at all.

    python benchmarks/broja.py [--quick] [--sizes 10x50,100x20] [--limit 100] [--again]

Tables: ``dense``, flat Dirichlet over all cells; ``clustered``, counts of 10,000 samples where each
symbol has a peaked posterior, as clusters of features have; ``sparse``, the same where each label
has few symbols, so that most cells are empty; ``sharp``, near-deterministic posteriors with
probabilities down to 1e-10. Peers: dit's PID_BROJA with ``method="cone"`` (ECOS) and with its
default, and the primal and the dual problem written in cvxpy and solved by Clarabel. Every solver
gets the same table in a process of its own, is timed inside it from the table to the number
(imports are not counted), is killed at the limit, and is left out at larger sizes once it was. A
peer's error is how far its union information lies outside of limbeck's bracket.

The results of every size and solver are written as they come: a second call goes on where the
first one stopped, as long as hardware and versions are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from common import RESULTS, summary, write

from limbeck import broja_pid
from limbeck.information.certificate import mutual_information
from limbeck.record import hardware, versions


KINDS = ("dense", "clustered", "sparse", "sharp")
SIZES = [(10, k) for k in (10, 20, 50, 100, 200)] + [(100, k) for k in (10, 20, 50, 100)]
PACKAGES = ("dit", "ecos", "cvxpy", "clarabel")
RIGHT = 1e-5  # bits of error up to which a peer counts as right
REPEATS, PEER_REPEATS = 7, 3  # fewer where they do not fit in the limit
START = 30  # seconds that a process may take to import and to make its table
MEMORY = 12 << 30  # bytes that a process may address


def table(kind: str, labels: int, symbols: int) -> np.ndarray:
    """Return the table P(y, t, s) of a kind and size; the same at every call."""
    source = np.random.default_rng(0)
    shape = (labels, symbols, symbols)
    if kind == "dense":
        return source.dirichlet(np.ones(labels * symbols**2)).reshape(shape)
    if kind in ("clustered", "sparse"):
        y = source.integers(labels, size=10_000)
        laws = [_peaked(source, kind, labels, symbols) for _ in range(2)]
        t, s = (np.array([source.choice(symbols, p=law[label]) for label in y]) for law in laws)
        counts = np.zeros(shape)
        np.add.at(counts, (y, t, s), 1)
        return counts / counts.sum()
    given = []
    for _ in range(2):
        posterior = 10.0 ** source.uniform(-10, -2, (labels, symbols))
        posterior[source.integers(labels, size=symbols), np.arange(symbols)] = 1.0
        posterior /= posterior.sum(0)
        given.append(posterior / posterior.sum(1, keepdims=True))
    joint = given[0][:, :, None] * given[1][:, None, :]
    return joint / joint.sum()


def _peaked(source: np.random.Generator, kind: str, labels: int, symbols: int) -> np.ndarray:
    """Return the law of a symbol for every label."""
    if kind == "sparse":
        return source.dirichlet(np.full(symbols, 0.1), size=labels)
    posterior = source.dirichlet(np.full(labels, 0.3), size=symbols).T
    joint = posterior * source.dirichlet(np.ones(symbols))
    return joint / joint.sum(1, keepdims=True)


def by_dit(pmf: np.ndarray, **options: str) -> float:
    import dit

    cells = np.argwhere(pmf > 0)
    outcomes = [(int(t), int(s), int(y)) for y, t, s in cells]
    joint = dit.Distribution(outcomes, pmf[tuple(cells.T)].tolist())
    found = dit.pid.PID_BROJA(joint, ((0,), (1,)), (2,), **options)
    unique = float(found.get_pi(((0,),)))
    return unique + mutual_information(pmf.sum(1)) / np.log(2)


def sums(index: np.ndarray) -> Any:
    """Return the sparse matrix that adds up the cells of one index."""
    from scipy.sparse import csr_matrix

    kinds, row = np.unique(index, return_inverse=True)
    return csr_matrix((np.ones(len(row)), (row, np.arange(len(row)))), shape=(len(kinds), len(row)))


def support(pmf: np.ndarray) -> tuple[np.ndarray, tuple[Any, Any, Any]]:
    """Return the cells that a coupling may fill and the sums over s, over t and over y."""
    cells = np.argwhere((pmf.sum(2) > 0)[:, :, None] & (pmf.sum(1) > 0)[:, None, :])
    y, t, s = cells.T
    k = max(pmf.shape)
    return cells, (sums(y * k + t), sums(y * k + s), sums(t * k + s))


def masses(pmf: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    labels = pmf.sum((1, 2))
    teacher, student = pmf.sum(2), pmf.sum(1)
    entropy = -float((labels * np.log(labels)).sum())
    return teacher[teacher > 0], student[student > 0], entropy


def by_primal(pmf: np.ndarray) -> float:
    import cvxpy as cp

    cells, (over_s, over_t, over_y) = support(pmf)
    teacher, student, entropy = masses(pmf)
    coupling = cp.Variable(len(cells))
    cost = cp.sum(cp.rel_entr(coupling, (over_y.T @ over_y) @ coupling))
    problem = cp.Problem(
        cp.Minimize(cost), [over_s @ coupling == teacher, over_t @ coupling == student]
    )
    problem.solve(solver=cp.CLARABEL)
    # The solver's own value is infinite where a cell is -1e-20.
    found = np.maximum(np.asarray(coupling.value), 0.0)
    total = over_y.T @ (over_y @ found)
    used = found > 0
    value = float((found[used] * np.log(found[used] / total[used])).sum())
    return (value + entropy) / float(np.log(2))


def by_dual(pmf: np.ndarray) -> float:
    import cvxpy as cp

    _, (over_s, over_t, over_y) = support(pmf)
    teacher, student, entropy = masses(pmf)
    of_teacher, of_student = cp.Variable(len(teacher)), cp.Variable(len(student))
    value = teacher @ of_teacher + student @ of_student
    terms = cp.exp(over_s.T @ of_teacher + over_t.T @ of_student)
    problem = cp.Problem(cp.Maximize(value), [over_y @ terms <= 1])
    return (float(problem.solve(solver=cp.CLARABEL)) + entropy) / float(np.log(2))


PEERS: dict[str, Callable[[np.ndarray], float]] = {
    "dit cone": lambda pmf: by_dit(pmf, method="cone"),
    "dit default": by_dit,
    "cvxpy primal": by_primal,
    "cvxpy dual": by_dual,
}


def child(solver: str, kind: str, labels: int, symbols: int, limit: float) -> dict[str, Any]:
    """Solve one table, again while there is time; what a process of its own does."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    pmf = table(kind, labels, symbols)
    found: dict[str, Any] = {}
    seconds: list[float] = []
    _solve(solver, table("dense", 2, 3))  # imports and caches
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    repeats = PEER_REPEATS if solver in PEERS else REPEATS
    while not seconds or (len(seconds) < repeats and sum(seconds) + max(seconds) < limit):
        start = time.perf_counter()
        found = _solve(solver, pmf)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"seconds": seconds, "peak_mb": peak / 1024, "imported_mb": before / 1024}


def _solve(solver: str, pmf: np.ndarray) -> dict[str, Any]:
    if solver != "limbeck":
        return {"union": PEERS[solver](pmf)}
    found = broja_pid(pmf)
    low, high = found.certificate.verify(pmf)
    return {
        "union": found.union,
        "bounds": [low, high],
        "gap": high - low,
        "iterations": found.iterations,
        "converged": found.converged,
    }


def run(solver: str, kind: str, labels: int, symbols: int, limit: float) -> dict[str, Any]:
    """Return what a process of its own finds, or what became of it."""
    command = [sys.executable, __file__, "--child", solver, kind, str(labels), str(symbols)]
    command += ["--limit", str(limit)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit + START, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"over {limit:g} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": lines[-1][:200]}
    found = json.loads(done.stdout.splitlines()[-1])
    return found if found["seconds"][0] <= limit else {"failed": f"over {limit:g} s"}


def entry(found: dict[str, Any], bounds: list[float] | None) -> dict[str, Any]:
    """Return what is written: the summary of the times, and the error where there is a bracket."""
    if "failed" in found:
        return found
    kept = {name: value for name, value in found.items() if name != "bounds"}
    kept["seconds"] = summary(found["seconds"])
    if bounds is not None:
        low, high = bounds
        kept["error_bits"] = max(found["union"] - high, low - found["union"], 0.0)
        if not np.isfinite(found["union"]):
            return {"failed": "no finite value"}
    return kept


def measure(
    sizes: list[tuple[int, int]], limit: float, done: list[dict[str, Any]], save: Callable[[], None]
) -> None:
    """Fill the list with what is missing in it, limbeck first at every size, then its peers."""
    by_key = {(c["kind"], c["labels"], c["symbols"], c["solver"]): c for c in done}
    for kind in KINDS:
        over: set[tuple[int, str]] = set()
        for labels, symbols in sizes:
            cell = (kind, labels, symbols)
            missing = [name for name in ("limbeck", *PEERS) if (*cell, name) not in by_key]
            bounds: list[float] = []
            for solver in missing and ["limbeck", *(m for m in missing if m != "limbeck")]:
                if (labels, solver) in over:
                    found: dict[str, Any] = {"failed": "not run: over the limit at fewer symbols"}
                else:
                    found = run(solver, *cell, limit)
                if solver == "limbeck":
                    bounds = found["bounds"]
                made = entry(found, bounds if solver in PEERS else None)
                if solver in missing:
                    names = {"kind": kind, "labels": labels, "symbols": symbols, "solver": solver}
                    by_key[(*cell, solver)] = names | made
                    done.append(names | made)
                    show(done[-1], by_key[(*cell, "limbeck")])
                    save()
            for solver in PEERS:
                if "over" in by_key[(*cell, solver)].get("failed", ""):
                    over.add((labels, solver))


def show(cell: dict[str, Any], own: dict[str, Any]) -> None:
    """Print a line: seconds, and for a peer its error and how many times slower it is."""
    line = f"{cell['kind']:10} {cell['labels']:4} x {cell['symbols']:3}  {cell['solver']:13}"
    if "failed" in cell:
        print(f"{line} {cell['failed']}", flush=True)
        return
    seconds = cell["seconds"]["median"]
    line += f"{seconds:9.4f} s (n={cell['seconds']['n']})"
    if cell["solver"] == "limbeck":
        line += f"  gap {cell['gap']:.1e} bits  peak {cell['peak_mb']:.0f} MB"
    else:
        times = seconds / own["seconds"]["median"]
        wrong = "" if cell["error_bits"] <= RIGHT else "  WRONG"
        line += f"  error {cell['error_bits']:.1e} bits  {times:.0f} times slower{wrong}"
    print(line, flush=True)


def replicates(count: int = 200) -> dict[str, Any]:
    """Return how long the bootstrap of 10,000 samples of a table of 10 x 20 x 20 takes."""
    pmf = table("clustered", 10, 20)
    source = np.random.default_rng(0)
    drawn = source.multinomial(10_000, pmf.ravel(), size=count).reshape(count, *pmf.shape)
    start = time.perf_counter()
    gaps = [broja_pid(counts).gap for counts in drawn]
    return {"tables": count, "seconds": time.perf_counter() - start, "largest_gap": max(gaps)}


def speedups(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for every table how many times faster limbeck is than the fastest right peer."""
    found = []
    for own in (c for c in cells if c["solver"] == "limbeck"):
        where = {name: own[name] for name in ("kind", "labels", "symbols")}
        right = [
            c
            for c in cells
            if c["solver"] in PEERS
            and where.items() <= c.items()
            and c.get("error_bits", np.inf) <= RIGHT
        ]
        best = min(right, key=lambda c: c["seconds"]["median"], default=None)
        if best is not None:
            value = best["seconds"]["median"] / own["seconds"]["median"]
            found.append(where | {"peer": best["solver"], "times": value})
    return found


def earlier(again: bool, limit: float) -> list[dict[str, Any]]:
    """Return the cells of an earlier call on this machine with these versions."""
    path = RESULTS / "broja.json"
    if again or not path.is_file():
        return []
    old = json.loads(path.read_text("utf8"))
    now = versions() | {package: version(package) for package in PACKAGES}
    if old["hardware"] != json.loads(json.dumps(hardware())) or old["versions"] != now:
        print("another machine or other versions: everything is measured again")
        return []
    # Who was stopped at another limit gets another chance.
    return [c for c in old["cells"] if "failed" not in c or old["limit_seconds"] == limit]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    parser.add_argument("--sizes", help="instead of all, such as 10x50,100x20")
    parser.add_argument("--limit", type=float, default=100.0, help="seconds of one solver")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        solver, kind, labels, symbols = chosen.child
        print(json.dumps(child(solver, kind, int(labels), int(symbols), chosen.limit)))
        return
    sizes = [(10, 5), (10, 10)] if chosen.quick else SIZES
    if chosen.sizes:
        sizes = [tuple(map(int, size.split("x"))) for size in chosen.sizes.split(",")]
    cells = [] if chosen.quick else earlier(chosen.again, chosen.limit)
    again = replicates(20 if chosen.quick else 200)
    print(f"{again['tables']} replicates of 10 x 20 x 20: {again['seconds']:.1f} s")

    def save() -> None:
        if not chosen.quick:
            result = {
                "limit_seconds": chosen.limit,
                "threads": os.environ.get("OMP_NUM_THREADS", "all"),
                "right_bits": RIGHT,
                "speedups": speedups(cells),
                "replicates": again,
                "cells": cells,
            }
            write("broja", result, PACKAGES)

    measure(sizes, chosen.limit, cells, save)
    save()
    for gain in speedups(cells):
        table_ = f"{gain['kind']:10} {gain['labels']:4} x {gain['symbols']:3}"
        print(f"{table_}  {gain['times']:6.0f} times faster than {gain['peer']}")


if __name__ == "__main__":
    main()
