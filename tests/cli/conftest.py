"""What the tests of the command line share: a caller, and a small trained teacher."""

import io
import json
import sys

import pytest
from typer.testing import CliRunner

from limbeck.cli.main import app, run


SMALL = """\
data: {name: digits, limit: 200}
teacher: {folder: %s}
student: {model: "zoo:small_cnn", width: 4, depth: 2}
loss: kd
training: {epochs: 1, batch_size: 50, device: cpu, progress: false}
"""


class Limbeck:
    """Runs the program in this process; refused calls end as they would in a shell."""

    def __init__(self, monkeypatch, capsys):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments, code=0, stdin=None):
        """Return (standard output, standard error) of a call that must end with ``code``."""
        self.capsys.readouterr()
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["limbeck", *map(str, arguments)])
            if stdin is not None:
                patched.setattr(sys, "stdin", io.StringIO(stdin))
            with pytest.raises(SystemExit) as ended:
                run()
        said = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, said.out + said.err
        return said.out, said.err

    def json(self, *arguments):
        """Return what a call with --json prints."""
        return json.loads(self(*arguments, "--json")[0])


@pytest.fixture
def limbeck(monkeypatch, capsys):
    """Return the caller."""
    monkeypatch.setenv("COLUMNS", "200")
    return Limbeck(monkeypatch, capsys)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """Return the folder of a teacher that ``limbeck train`` made."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    recipe = folder.parent / "teacher.yaml"
    recipe.write_text(
        "data: {name: digits}\n"
        'student: {model: "zoo:small_cnn", width: 8, depth: 2}\n'
        "training: {epochs: 2, batch_size: 32, device: cpu, progress: false}\n"
    )
    result = CliRunner().invoke(app, ["train", str(recipe), "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def recipe(tmp_path, teacher):
    """Return the path of a recipe that distils the teacher within a second."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL % teacher)
    return path
