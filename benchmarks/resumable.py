"""Runs of a benchmark: carried out side by side, appended to a file, and not made again."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar


K = TypeVar("K", bound=Hashable)
Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines; one that was cut off by a kill is left out."""
    found = []
    for line in path.read_text("utf8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def carry_out(
    plan: Iterable[K], run: Callable[[K], Row], key: Callable[[Row], K], path: Path, workers: int
) -> dict[K, Row]:
    """Return the row of every run that is planned; those in the file are taken from there.

    Args:
        plan: What is to be run.
        run: Makes one run, in a process of its own.
        key: Tells from a row which run it is of.
        path: The file of JSON lines.
        workers: How many run at a time.
    """
    plan = list(plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {key(row): row for row in rows_of(path)}
    todo = [one for one in plan if one not in found]
    cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with ProcessPoolExecutor(workers) as pool, path.open("a", encoding="utf8") as out:
        if cut_off and path.stat().st_size:
            out.write("\n")  # a kill left half a line, which would swallow the next one
        jobs = [pool.submit(run, one) for one in todo]
        for number, job in enumerate(as_completed(jobs), 1):
            if job.exception() is not None:  # else the others would be run, and not written
                pool.shutdown(cancel_futures=True)
            row = job.result()
            found[key(row)] = row
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(f"{number} of {len(todo)}: {key(row)}", flush=True)
    return {one: found[one] for one in plan}
