"""What the tests of the examples share."""

import runpy
import sys
from pathlib import Path

import pytest


FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(capsys, monkeypatch, tmp_path):
    """Return a caller of ``python examples/NAME.py ARGUMENTS``: what it prints."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run
