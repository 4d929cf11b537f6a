"""Ctrl-C and SIGTERM: the exit code, what is said, and that what is left can be used."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from helpers.language_server import MODEL, VOCABULARY, Behaviour, LanguageModel, Server
from helpers.small import QUICK, network, rows
from safetensors.torch import load_file

import limbeck as lb
from limbeck.cli import collecting, demo
from limbeck.cli.demo_material import Plan
from limbeck.cli.lab_running import RECORD
from limbeck.limits.lab import cases
from limbeck.record import RunRecord
from limbeck.store import TeacherStore
from limbeck.training.interrupts import Interrupted


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def listening():
    """Listen to Ctrl-C, which whoever runs in the background is born deaf to, children included."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signalled(monkeypatch):
    """Give a function that sends this process a signal in the ``count``-th call of a function."""

    def arm(holder, name, count, number):
        original, calls = getattr(holder, name), []

        def wrapped(*arguments, **named):
            calls.append(1)
            if len(calls) == count:
                signal.raise_signal(number)
            return original(*arguments, **named)

        monkeypatch.setattr(holder, name, wrapped)
        return lambda: monkeypatch.setattr(holder, name, original)

    return arm


def check_said(said, remarks, number, *words):
    """Check that a stopped command said so in a few lines, and nothing on standard output."""
    assert said == ""
    assert "Traceback" not in remarks
    last = " ".join(remarks.split())
    assert f"stopped by {signal.Signals(number).name}" in last or "stopped." in last
    for word in words:
        assert word in last
    assert len(remarks.splitlines()) <= 24


@pytest.mark.parametrize(
    ("command", "forwards", "number", "code"),
    [
        ("measure", 6, *SIGNALS[0]),
        ("forecast", 9, *SIGNALS[1]),
        ("weigh", 5, *SIGNALS[0]),
        ("evaluate", 2, *SIGNALS[1]),
    ],
)
def test_what_only_reads_says_that_nothing_was_written(
    limbeck, recipe, teacher, tmp_path, signalled, command, forwards, number, code
):
    what = (teacher,) if command == "evaluate" else (recipe, "--out", tmp_path / "out")
    before = {place: place.read_bytes() for place in teacher.rglob("*") if place.is_file()}
    signalled(torch.nn.Conv2d, "forward", forwards, number)
    said, remarks = limbeck(command, *what, "--device", "cpu", "--json", code=code)
    check_said(said, remarks, number, f"{command}: ", "nothing was written", "starts anew")
    assert not (tmp_path / "out").exists()
    assert before == {place: place.read_bytes() for place in teacher.rglob("*") if place.is_file()}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_short_training_in_a_forecast_promises_no_resume(limbeck, recipe, signalled):
    signalled(torch.optim.SGD, "step", 1, signal.SIGINT)
    said, remarks = limbeck("forecast", recipe, "--device", "cpu", code=130)
    check_said(said, remarks, signal.SIGINT, "forecast: ", "nothing was written")
    assert "--resume" not in remarks


@pytest.mark.parametrize(("number", "code"), SIGNALS[0:1])
def test_distill_goes_on_with_resume(limbeck, recipe, tmp_path, signalled, number, code):
    whole, out = tmp_path / "whole", tmp_path / "run"
    limbeck("distill", recipe, "training.epochs=2", "--out", whole)
    # 4 steps an epoch; the preflight calls the student, too, so a step is counted by its optimiser.
    undo = signalled(torch.optim.SGD, "step", 6, number)
    said, remarks = limbeck(
        "distill", recipe, "training.epochs=2", "--out", out, "--json", code=code
    )
    check_said(said, remarks, number, "the state is saved", "--resume")
    assert RunRecord.open(out).status == "interrupted"
    undo()
    limbeck("distill", recipe, "training.epochs=2", "--out", out, "--resume")
    a, b = (load_file(place / "student" / "model.safetensors") for place in (whole, out))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert RunRecord.open(out).results == RunRecord.open(whole).results


@pytest.mark.parametrize(("number", "code"), SIGNALS[1:2])
def test_cache_goes_on(limbeck, recipe, tmp_path, signalled, number, code):
    whole, out = tmp_path / "whole", tmp_path / "store"
    call = ("cache", recipe, "--views", 2, "--batch-size", 16, "--device", "cpu")
    limbeck(*call, "--out", whole)
    undo = signalled(torch.nn.Conv2d, "forward", 9, number)
    said, remarks = limbeck(*call, "--out", out, "--json", code=code)
    check_said(said, remarks, number, "cache: ", "go on")
    undo()
    limbeck(*call, "--out", out)
    limbeck("cache", "verify", out)
    a, b = (TeacherStore.open(place) for place in (whole, out))
    assert a.rows == b.rows == 200
    shards = [place for place in (whole / "shards").rglob("*") if place.is_file()]
    assert shards
    for place in shards:
        assert (out / place.relative_to(whole)).read_bytes() == place.read_bytes()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_collect_goes_on_and_asks_nothing_twice(
    limbeck, tmp_path, monkeypatch, signalled, number, code
):
    (tmp_path / "p.txt").write_text("".join(f"the {a}\n" for a in "abcdefghijkl"))
    (tmp_path / "v.json").write_text(json.dumps(VOCABULARY))
    call = (
        *("collect", tmp_path / "p.txt", "--model", MODEL, "--out", tmp_path / "r.jsonl"),
        *("--tokenizer", tmp_path / "v.json", "--max-tokens", 2, "--concurrency", 1),
    )
    with Server(LanguageModel(), Behaviour()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        undo = signalled(collecting.Progress, "update", 3, number)
        said, remarks = limbeck(*call, "--json", code=code)
        check_said(said, remarks, number, "12 answers are kept", "the same command goes on")
        assert not (tmp_path / "r.jsonl").exists()
        undo()
        found = limbeck.json(*call)
        assert found["complete"]
        assert found["kept"] >= 3
        assert found["kept"] + found["asked"] == 12
        assert len(server.requests) == 12


@pytest.mark.parametrize(("number", "code"), SIGNALS[0:1])
def test_the_demo_leaves_whole_runs(limbeck, tmp_path, monkeypatch, signalled, number, code):
    plan = Plan(teacher_epochs=3, epochs=1, query_epochs=1)
    original = demo.run_demo
    monkeypatch.setattr(demo, "run_demo", lambda *a, **o: original(*a, plan=plan, **o))
    monkeypatch.setattr(demo.demo_forecast, "forecasts", lambda *_: {})
    out = tmp_path / "demo"
    signalled(demo, "student_rows", 2, number)
    said, remarks = limbeck("demo", "--out", out, "--seeds", 2, "--json", code=code)
    check_said(said, remarks, number, "demo: ", "finished", "starts anew")
    runs = [RunRecord.open(place.parent) for place in out.glob("*/seed*/record.json")]
    assert len(runs) == 5  # the teacher and four students of the first seed
    assert {run.status for run in runs} == {"finished"}
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(("number", "code"), SIGNALS[1:2])
def test_the_lab_writes_nothing(limbeck, tmp_path, monkeypatch, number, code):
    def stopped(_):
        signal.raise_signal(number)

    monkeypatch.setitem(cases.CASES, "slopes", stopped)
    call = ("lab", "limits", "--quick", "--out", tmp_path / "lab")
    said, remarks = limbeck(*call, "--case", "slopes", code=code)
    check_said(said, remarks, number, "lab: ", "nothing was written")
    assert not (tmp_path / "lab" / RECORD).exists()


def test_without_a_folder_no_saved_state_is_promised(signalled):
    signalled(torch.optim.SGD, "step", 2, signal.SIGTERM)
    with pytest.raises(Interrupted, match="without `out` nothing is saved"):
        lb.distill(network(), None, rows(), **QUICK)


SCRIPT = """\
import sys, time, torch
original = torch.nn.Conv2d.forward
def slow(self, inputs):
    print("running", file=sys.stderr, flush=True)
    time.sleep(0.2)
    return original(self, inputs)
torch.nn.Conv2d.forward = slow
from limbeck.cli.main import run
run()
"""


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_real_process_that_is_sent_a_signal(recipe, number, code):
    command = [sys.executable, "-c", SCRIPT, "measure", str(recipe), "--device", "cpu", "--json"]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert run.stderr.readline() == "running\n"
    run.send_signal(number)
    said, remarks = run.communicate(timeout=60)
    assert run.returncode == code
    check_said(said, remarks, number, "measure: ", "nothing was written")


def test_a_signal_while_torch_is_imported():
    """Importing again what was half imported would fail, so the message must do without."""
    script = (
        "import sys, signal\n"
        "class Half:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch.nn': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Half())\n"
        "from limbeck.cli.main import run\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "info"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.startswith("info: stopped by SIGINT; nothing was written")
    assert "Traceback" not in done.stderr
