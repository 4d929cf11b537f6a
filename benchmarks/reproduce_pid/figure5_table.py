"""The table of figure5.py: every method's first and last checkpoint beside the paper's."""

from __future__ import annotations

from typing import Any

import numpy as np


Row = dict[str, Any]
WAYS = ("hull", "kmeans 10")
#: Read off figure 5a of arXiv:2411.07483 (CIFAR-10, innermost layer, 280 epochs, WRN-40-2 to
#: WRN-16-1; nats, +-0.01, here in bits): Uni and Red, first and last.
PAPER = {
    ("trained", "baseline"): ((1.085, 0.242), (0.694, 1.600)),
    ("trained", "vid"): ((1.085, 0.242), (0.694, 1.508)),
    ("trained", "rid"): ((1.476, 0.063), (0.276, 1.764)),
    ("untrained", "vid"): ((0.02, 0.02), (0.07, 0.07)),
    ("untrained", "rid"): ((0.029, 0.0), (0.068, 0.091)),
}


def table(summary: list[Row]) -> str:
    """Return Uni and Red [bits], first and last checkpoint, as a table of Markdown."""
    head = "teacher | student | accuracy | Uni, hull | Red, hull | Uni, clusters | Red, clusters"
    columns = f"| {head} | Uni, paper | Red, paper |"
    lines = [columns, "|" + "---|" * columns.count("|", 1)]
    pairs = dict.fromkeys((row["teacher"], row["method"]) for row in summary)
    for teacher, method in pairs:
        own = [r for r in summary if (r["teacher"], r["method"]) == (teacher, method)]
        accuracy = 100 * np.mean([row["accuracy"][1] for row in own if row["way"] == WAYS[0]])
        cells = [
            _change([row[name] for row in own if row["way"] == way])
            for way in WAYS
            for name in ("unique_teacher", "redundant")
        ]
        published = PAPER.get((teacher, method))
        cells += [f"{a:.2f} to {b:.2f}" for a, b in published] if published else ["", ""]
        lines.append(f"| {teacher} | {method} | {accuracy:.1f} % | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _change(found: list[Row]) -> str:
    first, last = ([row[when] for row in found] for when in ("first", "last"))
    spread = f" ± {np.std(last, ddof=1):.2f}" if len(last) > 1 else ""
    return f"{np.mean(first):.2f} to {np.mean(last):.2f}{spread}"
