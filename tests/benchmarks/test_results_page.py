"""The page of results is what its script makes of the result files, and says something of each."""

import importlib
import json
import sys
from pathlib import Path

import pytest


BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    figures = importlib.import_module("key_figures")
    page = importlib.import_module("results_page")
finally:
    sys.path.remove(str(BENCHMARKS))
FILES = sorted(page.RESULTS.glob("*.json"))


def test_the_page_is_in_step_with_the_result_files():
    text = page.PAGE.read_text("utf8")
    assert page.made(text) == text, "run: python benchmarks/results_page.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_result_file_has_a_script_and_key_figures(path):
    result = json.loads(path.read_text("utf8"))
    lines = figures.lines_of(path.stem, result)
    assert lines
    assert all(line.strip() for line in lines)
    assert page.script_of(path.stem, result) is not None
    cells = page.row(path)
    assert cells is not None
    assert all(cells)


@pytest.mark.parametrize("name", [*figures.LINES, *page.TOLD_IN])
def test_no_line_is_made_for_a_file_that_is_gone(name):
    assert (page.RESULTS / f"{name}.json").is_file()


def test_a_key_figure_is_the_one_in_the_file():
    result = {"gain_points": {"value": 3.72, "lower": 0.54, "upper": -6.96, "n": 3}}
    assert figures.lines_of("binary_small", result) == [
        "ITRD over training alone: +3.7 [+0.5, -7.0] points, n = 3 seeds"
    ]


def test_a_file_without_known_figures_says_what_it_holds():
    found = figures.lines_of(
        "something new", {"script": "x", "versions": {}, "rows": [], "teacher": 1}
    )
    assert found == ["no single figure; it holds rows, teacher"]


def test_a_file_without_its_script_has_no_row(tmp_path):
    path = tmp_path / "gone.json"
    path.write_text('{"script": "benchmarks/never_there.py"}')
    assert page.row(path) is None


def test_the_question_is_the_first_line_of_the_head(tmp_path):
    script = tmp_path / "one.py"
    script.write_text('"""Does ``it`` help?\n\nNobody knows.\n"""\n')
    assert page.question(script) == "Does `it` help?"
    script.write_text("x = 1\n")
    with pytest.raises(SystemExit, match="docstring"):
        page.question(script)
