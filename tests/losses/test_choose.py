"""The table of docs/choose.md against the losses."""

import json
import re
from pathlib import Path

import pytest

from limbeck.losses import LOSSES


ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "choose.md").read_text("utf8")
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in TABLE.splitlines()
    if line.startswith("| `")
    and len(cells := [cell.strip() for cell in line.split("|")[1:-1]]) == 10
}


def test_every_loss_has_its_row():
    assert set(ROWS) == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_and_means_are_those_of_the_losses(name):
    _, needs, _, mean, weights, *_ = ROWS[name]
    loss = LOSSES[name]
    # Of an instance in two losses, whose row says yes.
    assert (mean == "yes") == getattr(loss, "mean_over_samples", True)
    said = tuple(float(number) for number in weights.split(","))
    assert said == getattr(loss, "published_weights", (1.0, 1.0))
    # Logits or features of any layer; a loss that reads both says so.
    assert bool(re.search(r"\bz\b|any output", needs)) == loss.needs_logits


def test_gains_are_those_that_were_measured():
    found = json.loads((ROOT / "benchmarks" / "results" / "methods_small.json").read_text())
    gains = {
        row["method"]: "{:+.1f} [{:+.1f}, {:+.1f}]".format(
            row["gain_points"], *row["gain_interval"]
        )
        for row in found["rows"]
        if row["teacher"] == "trained" and row["method"] in LOSSES
    }
    assert len(gains) >= 12
    assert {name: cells[-1] for name, cells in ROWS.items() if cells[-1]} == gains
