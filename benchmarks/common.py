"""What the benchmarks share: summaries of paired times, the machine, JSON files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.record import hardware, versions


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return n, the median and the 10 % and 90 % quantiles."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return {"n": len(values), "median": middle, "quantile_10": low, "quantile_90": high}


def ratio(above: Sequence[float], below: Sequence[float], *, seed: int = 0) -> dict[str, Any]:
    """Compare two sides that were measured in turns.

    Returns:
        ``value``, the ratio of the medians, with ``interval``, its 95 % bootstrap interval over
        pairs; ``of_totals``, which also counts what happens in few repeats only; ``pairs``, the
        summary of the ratios of neighbours.
    """
    numerator, denominator = np.asarray(above), np.asarray(below)
    drawn = np.random.default_rng(seed).integers(len(numerator), size=(4000, len(numerator)))
    medians = np.median(numerator[drawn], axis=1) / np.median(denominator[drawn], axis=1)
    return {
        "value": float(np.median(numerator) / np.median(denominator)),
        "interval": np.quantile(medians, [0.025, 0.975]).tolist(),
        "of_totals": float(numerator.sum() / denominator.sum()),
        "pairs": summary((numerator / denominator).tolist()),
    }


def write(name: str, result: dict[str, Any], packages: Sequence[str] = ()) -> Path:
    """Write ``results/<name>.json``: the script, the machine, the versions, the result."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    whole = {
        "script": f"benchmarks/{name}.py",
        "hardware": hardware(),
        "versions": versions() | {package: version(package) for package in packages},
        **result,
    }
    path.write_text(json.dumps(_rounded(whole), indent=1) + "\n", encoding="utf8")
    print(f"written: {path.relative_to(ROOT)}")
    return path


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
