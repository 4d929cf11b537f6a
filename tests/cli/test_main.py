"""The program itself: start-up, version, exit codes and how errors look."""

import subprocess
import sys

import pytest
import typer

from limbeck import __version__
from limbeck.checks import ArgumentError
from limbeck.cli import main
from limbeck.training.interrupts import Interrupted


def test_help_does_not_import_torch():
    script = (
        "import sys\n"
        "from limbeck.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'scipy', 'yaml') if name in sys.modules])\n"
    )
    for arguments in (["--help"], ["distill", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip().endswith("[]"), done.stdout
        assert len(done.stdout.splitlines()) > 1


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "limbeck", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"limbeck {__version__}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["", "train", "distill", "evaluate", "report", "init", "info"])
def test_every_help_documents_exit_codes(limbeck, command):
    said, _ = limbeck(*command.split(), "--help")
    assert "Exit codes: 0 done; 1 a bug; 2 something given is wrong" in " ".join(said.split())


def test_every_command_is_there(limbeck):
    said, _ = limbeck("--help")
    for command in ("measure", "train", "distill", "evaluate", "report", "demo", "init", "info"):
        assert f" {command} " in said


def _failing(monkeypatch, problem):
    def fail(**_):
        raise problem

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.run()
    return ended.value.code


def test_own_errors_end_with_2_and_without_traceback(monkeypatch, capsys):
    assert _failing(monkeypatch, ArgumentError("weight: expected one; got two.")) == 2
    said = capsys.readouterr()
    assert said.err == "weight: expected one; got two.\n"
    assert said.out == ""


def test_long_messages_are_wrapped_between_words(monkeypatch, capsys):
    path = "/" + "x" * 150
    _failing(monkeypatch, ArgumentError(f"{path}: " + "word " * 60))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{path}:"
    assert len(lines) > 3
    assert max(map(len, lines[1:])) <= 100


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_interrupted_runs_end_with_128_and_the_signal(monkeypatch, capsys, number, code):
    assert _failing(monkeypatch, Interrupted("distill: stopped; saved.", number)) == code
    assert "stopped; saved" in capsys.readouterr().err


def test_other_errors_keep_their_traceback_and_say_they_are_bugs(monkeypatch, capsys):
    assert _failing(monkeypatch, ZeroDivisionError("oh")) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: oh" in said
    assert "is a bug in limbeck" in said.splitlines()[-1]


def test_other_processes_say_one_line(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    assert _failing(monkeypatch, ArgumentError("first line\nsecond line")) == 2
    assert capsys.readouterr().err == "[process 3] first line\n"


def test_usage_errors_end_with_2(limbeck):
    _, said = limbeck("distil", code=2)
    assert "No such command 'distil'" in said


def test_commands_keep_their_own_exit_codes(monkeypatch):
    app = typer.Typer()

    @app.command()
    def stop() -> None:
        raise typer.Exit(7)

    monkeypatch.setattr(sys, "argv", ["limbeck"])
    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 7
