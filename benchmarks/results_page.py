"""docs/results/index.md: one row a benchmark, read from its head and from its result file.

    python benchmarks/results_page.py

Run it after a benchmark: tests/benchmarks/test_results_page.py compares the page with the files.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from key_figures import lines_of
from pages import replaced, table


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results" / "index.md"
TOLD_IN = {
    "broja": "../theory/pid.md#what-limbeck-measured",
    "forecast_held_out": "forecast.md",
    "forecast_held_out_before": "forecast.md",
    "loss_cost": "../choose.md#all-of-them",
    "methods_small": "../choose.md#all-of-them",
    "pid_calibration": "../choose.md#which-measure",
    "predicted_realised": "predicted.md",
    "predictive_validity": "forecast.md",
    "privilege": "../limits.md#on-real-models",
    "reproduce_pid": "../figure5.md",
    "binary_small": "../students.md",
    "store_speedup": "../store.md#what-it-saves",
    "store_views": "../store.md",
    "text_small": "../choose.md#transfer-and-text",
    "token_loss_memory": "../choose.md#when-the-teacher-is-a-service",
    "transfer_small": "../choose.md#transfer-and-text",
    "weighting_cost": "../weigh.md#five-ways-to-measure",
    "weighting_quality": "../weigh.md#is-it-as-good-as-the-best-fixed-weight",
}


def script_of(name: str, result: Mapping[str, Any]) -> Path | None:
    """Return the script that made a result file, if it is here."""
    for said in (result.get("script", ""), f"benchmarks/{name}.py"):
        for path in (said, said.replace("_before.py", ".py")):
            if path and (ROOT / path).is_file():
                return ROOT / path
    return None


def question(script: Path) -> str:
    """Return the first line of a script's head."""
    head = ast.get_docstring(ast.parse(script.read_text("utf8"))) or ""
    if not head:
        raise SystemExit(f"{script.name}: expected a docstring that says what is measured")
    return head.splitlines()[0].rstrip(".").replace("``", "`")


def made_on(result: Mapping[str, Any]) -> str:
    """Return the machine and the versions in short; the file has the whole."""
    if "hardware" not in result:
        return "not in the file"
    machine, versions = result["hardware"], result["versions"]
    cores = f"{machine['cores']} cores, {machine['processor']}"
    threads = f", {machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return f"{cores}{threads}; torch {versions['torch']}, limbeck {versions['limbeck']}"


def row(path: Path) -> list[str] | None:
    """Return a result file's cells, or None where no script of it is here."""
    result = json.loads(path.read_text("utf8"))
    script = script_of(path.stem, result)
    if script is None:
        return None
    up = "../../"
    links = [
        f"[script]({up}{script.relative_to(ROOT)})",
        f"[file]({up}{path.relative_to(ROOT)})",
    ]
    if path.stem in TOLD_IN:
        links.append(f"[told]({TOLD_IN[path.stem]})")
    figures = "<br>".join(lines_of(path.stem, result))
    return [question(script), figures, made_on(result), ", ".join(links)]


def rows() -> list[list[str]]:
    """Return the rows of all result files in order of their names."""
    found = [row(path) for path in sorted(RESULTS.glob("*.json"))]
    return [one for one in found if one is not None]


def made(page: str) -> str:
    """Return the page with its table made anew."""
    head = ("measured", "key figures, 95 % intervals in brackets", "made on", "see")
    return replaced(page, {"results": table(head, rows())})


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text("utf8")), encoding="utf8")
    print(f"written: {PAGE.relative_to(ROOT)}")
