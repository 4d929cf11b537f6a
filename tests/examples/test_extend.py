"""The code blocks of docs/extend.md, taken from the page and run in their order."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import limbeck as lb
from limbeck.losses import LOSSES


PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the folder, all names that the page's Python leaves, and its shell commands."""
    folder, names, shell = tmp_path_factory.mktemp("extend"), {"__name__": "page"}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        torch.manual_seed(0)
        try:
            for kind, code in BLOCK.findall(PAGE.read_text("utf8")):
                file = re.match(r"# file: (\S+)\n", code)
                if file:
                    (folder / file[1]).write_text(code)
                elif kind == "python":
                    exec(compile(code, f"{PAGE.name}: {code[:30]!r}", "exec"), names)
                else:
                    shell += code.splitlines()
            yield folder, names, shell
        finally:
            LOSSES.pop("reverse_kl", None)
            sys.modules.pop("stripes", None)


def test_each_of_the_three_has_four_steps():
    text = BLOCK.sub("", PAGE.read_text("utf8"))
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [part.splitlines()[0] for part in parts] == ["A loss", "A measure", "A data set"]
    for part in parts:
        assert re.findall(r"^(\d)\. ", part, re.MULTILINE) == ["1", "2", "3", "4"]


def test_the_loss_trains_under_its_name_and_is_the_equation(page):
    _, names, _ = page
    record = names["by_name"].record
    assert record.settings["loss"] == "ReverseKL"
    assert record.settings["loss_settings"]["scale"] == 2.0
    assert record.settings["weights"] == [0.5, 0.5]
    assert record.results["last"]["test"]["accuracy"] > 0.5  # chance is 0.1
    p, q = (
        np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]),
        np.array([[0.3, 0.3, 0.4], [0.2, 0.5, 0.3]]),
    )
    slow = sum(p[i, k] * np.log(p[i, k] / q[i, k]) for i in range(2) for k in range(3)) / 2
    value = names["reverse_kl"](torch.tensor(p).log() + 3.0, torch.tensor(q).log())
    assert value.item() == pytest.approx(slow)


def test_the_loss_pulls_the_student_to_the_teacher(page):
    _, names, _ = page
    student, rows = torch.nn.Linear(64, 10), names["rows"]
    with torch.no_grad():
        said = names["teacher"](rows[:500])
        before = names["reverse_kl"](student(rows[:500]), said).item()
    lb.distill(student, names["teacher"], rows[500:], loss="reverse_kl", weight=1.0, epochs=3)
    with torch.no_grad():
        assert names["reverse_kl"](student(rows[:500]), said).item() < 0.7 * before


def test_the_measure_stands_in_the_results_and_is_that_of_the_model(page):
    _, names, _ = page
    record = names["watched"].record
    shown = record.results["last"]["test"]
    assert "accuracy" in shown
    student, x, y = names["watched"].student, names["rows"][:500], names["labels"][:500]
    with torch.no_grad():
        p = student(x).double().softmax(1).numpy()
    right = sum(int(p[i].argmax() == y[i]) for i in range(500)) / 500
    by_hand = 100 * (sum(max(row) for row in p) / 500 - right)
    assert shown["overconfidence"] == pytest.approx(by_hand, abs=1e-4)
    assert any(name.endswith("overconfidence") for name in record.curves)
    found = names["found"]["teacher"]
    assert found.unit == "points"
    assert found.lower < found.value < found.upper
    assert found.n == 500


def test_the_data_set_is_learned_and_named_in_recipes(page, monkeypatch):
    folder, names, shell = page
    record = names["on_stripes"].record
    assert record.data["rows"] == 200
    assert record.data["labelled"] == 100
    assert record.data["class_names"] == ["upright", "level"]
    assert record.results["last"]["test"]["accuracy"] > 0.8  # chance is 0.5
    from limbeck.cli.main import app

    assert [line.split()[1] for line in shell] == ["train", "evaluate"]
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for line in shell:
        done = CliRunner().invoke(app, line.split()[1:])
        assert done.exit_code == 0, done.output
    assert "accuracy" in done.output
    trained = lb.RunRecord.open(folder / "runs" / "stripes")
    assert trained.data["rows"] == 300
    assert trained.data["labelled"] == 200
