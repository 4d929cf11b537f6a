"""A real browser, a page of real runs, and what a person with a keyboard does there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import limbeck as lb
from limbeck.report import write_report


SCRIPT = "<script>window.injected = 1</script>"
IMAGE = '"><img src=x onerror="window.injected = 2">'
NAMES = [SCRIPT, IMAGE, "</title></style>", "'`\\", "${7*7}{{7*7}}", *"56789"]


def chromium() -> str | None:
    """Return the path of a Chromium, where there is one."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next(filter(None, found), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Start Chromium once; skip where there is none."""
    path = chromium()
    if path is None:
        pytest.skip("no Chromium here: install Debian's chromium, or set CHROMIUM to its path")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-background-networking"]
        found = started.chromium.launch(executable_path=path, args=flags)
        yield found
        found.close()


@pytest.fixture(scope="session")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, forecast, measure and report on small parts of the digits, under hostile names."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(digits.target)
    cuts = {"train": slice(0, 400), "validation": slice(400, 700), "test": slice(700, 1000)}
    rows = {
        name: lb.Data((images[cut], targets[cut]), class_names=NAMES, name=f"digits {SCRIPT}")
        for name, cut in cuts.items()
    }
    runs = tmp_path_factory.mktemp("runs")
    how = {"validation": rows["validation"], "test": rows["test"], "progress": False}
    how |= {"learning_rate": 0.1, "batch_size": 50}
    guide = lb.distill(_network(64, 0), None, rows["train"], epochs=8, **how)
    said = lb.forecast(
        guide.student, _network(8, 0), rows["train"], validation=rows["validation"], epochs=10,
        learning_rate=0.1, batch_size=50,
    )  # fmt: skip
    hostile = f"kd {IMAGE[2:]}".replace("/", "")
    for seed in (0, 1):
        for name, teacher in (("control", None), (hostile, guide.student)):
            lb.distill(
                _network(8, seed), teacher, rows["train"], loss="kd", epochs=3, seed=seed,
                out=runs / name / f"seed{seed}", **how,
            )  # fmt: skip
    said.save(runs / "forecast" / "kd")
    lb.measure(guide.student, _network(8, 0), rows["test"]).save(runs / "measurement")
    return write_report([runs], tmp_path_factory.mktemp("report") / "report.html")


def _network(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
