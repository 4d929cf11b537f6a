"""Progress: a bar on a terminal; nothing of it where the output is piped."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from helpers.language_server import MODEL, VOCABULARY, Behaviour, LanguageModel, Server


@pytest.fixture
def calls(tmp_path, recipe):
    """Give small calls of commands that show progress."""
    text = recipe.read_text().replace("progress: false", "progress: true")
    recipe.write_text(text.replace("epochs: 1", "epochs: 3"))
    out = tmp_path / "out"
    return {
        "distill": ("distill", recipe, "--out", out),
        "cache": ("cache", recipe, "--out", out, "--batch-size", 16, "--device", "cpu"),
        "measure": ("measure", recipe, "--device", "cpu"),
        "forecast": ("forecast", recipe, "--device", "cpu"),
        "weigh": ("weigh", recipe, "--device", "cpu", "--rows", 16),
        "lab": ("lab", "limits", "--case", "plateau", "--quick"),
    }


def run_piped(arguments, **more):
    """Run a command with both outputs piped and return them."""
    command = [sys.executable, "-m", "limbeck", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env=os.environ | more, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, done.stderr


def check_quiet(*outputs):
    """Check that there are no bars, colours or lines written over."""
    for output in outputs:
        for sign in (b"\r", b"\x1b", "━".encode() * 3, b"rows/s"):
            assert sign not in output


def check_few_lines(said, remarks):
    """Check that the output is JSON, and that there are few remarks beside warnings."""
    check_quiet(said, remarks)
    json.loads(said)
    plain = [line for line in remarks.decode().splitlines() if not line.startswith("warning:")]
    assert len(plain) <= 4  # an epoch has a line at most; there are three


def test_a_piped_command_is_quiet(calls):
    check_few_lines(*run_piped((*calls["distill"], "--json"), TERM="xterm-256color", COLUMNS="100"))


@pytest.mark.parametrize("command", ["cache", "measure", "forecast", "weigh", "lab"])
def test_commands_are_quiet_where_nobody_looks(limbeck, monkeypatch, calls, command):
    """The same within this process, whose outputs are captured and no terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    said, remarks = limbeck(*calls[command], "--json")
    check_few_lines(said.encode(), remarks.encode())


def test_the_demo_says_few_lines_without_a_bar():
    script = (
        "from limbeck.cli.demo_telling import bar\n"
        "with bar(13, shown=True) as tell:\n"
        "    for n in range(13): tell(f'part {n}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    check_quiet(done.stderr)
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        "limbeck demo: training the teacher ...",
        "limbeck demo: training 8 students ...",
    ]


def test_collecting_is_quiet_and_without_colour(tmp_path):
    (tmp_path / "p.txt").write_text("the sea\na town\n")
    (tmp_path / "v.json").write_text(json.dumps(VOCABULARY))
    with Server(LanguageModel(), Behaviour(faults=["500"])) as server:
        said, remarks = run_piped(
            [
                *("collect", tmp_path / "p.txt", "--model", MODEL, "--out", tmp_path / "r.jsonl"),
                *("--tokenizer", tmp_path / "v.json", "--max-tokens", "2"),
                *("--base-url", server.url),
            ],
            NO_COLOR="1",
        )
    check_quiet(said, remarks)
    assert b"r.jsonl" in said


def on_terminal(arguments, **more):
    """Run a command on a terminal of its own and return what it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "limbeck", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "CI")}
    run = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color", "COLUMNS": "120"} | more,
    )
    os.close(theirs)
    shown, until = b"", time.monotonic() + 100
    while time.monotonic() < until:
        ready, _, _ = select.select([ours], [], [], 1.0)
        try:
            part = os.read(ours, 65536) if ready else None
        except OSError:  # the other side is closed
            break
        if part == b"":
            break
        shown += part or b""
    if run.poll() is None and time.monotonic() >= until:
        run.send_signal(signal.SIGKILL)
    os.close(ours)
    assert run.wait() == 0, shown
    return shown


def test_a_terminal_shows_the_bar(calls):
    shown = on_terminal((*calls["distill"], "--json"))
    assert b"rows/s" in shown
    assert "━".encode() in shown
    assert b"\x1b[" in shown


def test_a_terminal_without_colour_has_a_bar_without_colour(calls):
    shown = on_terminal(calls["measure"], NO_COLOR="1")
    assert b"measure" in shown
    for colour in (b"\x1b[31m", b"\x1b[32m", b"\x1b[35m", b"\x1b[38;"):
        assert colour not in shown
