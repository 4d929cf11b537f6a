"""Nothing is lost: killed, stopped and failed runs end as if nothing had happened."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal

import pytest
import torch
from helpers.killed import run, run_and_die
from helpers.small import QUICK, good_teacher, network, rows, same

import limbeck as lb
from limbeck.checks import ArgumentError, CheckpointError, StorageError
from limbeck.training import checkpoint
from limbeck.training.interrupts import Interrupted


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["helpers.killed"])


@pytest.fixture(scope="module")
def uninterrupted():
    return run(None)


def check_same_result(result, expected):
    """Compare bits of the weights, curves and results."""
    assert same(result.student, expected.student)
    assert result.record.curves == expected.record.curves
    assert result.record.results == expected.record.results
    assert result.record.status == "finished"


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("before a step", 1),
        ("before a step", 2),
        ("before a step", 5),
        ("before a step", 9),
        ("while writing a checkpoint", 1),
        ("while writing a checkpoint", 6),
        ("before renaming", 5),
        ("at the end of an epoch", 1),
        ("at the end of an epoch", 3),
        ("while saving the student", 2),
        ("before the last record", 1),
    ],
)
def test_killed_runs_end_bit_identical(tmp_path, uninterrupted, where, count):
    process = _CONTEXT.Process(target=run_and_die, args=(tmp_path, where, count))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    check_same_result(run(tmp_path, resume=True), uninterrupted)


def test_a_run_killed_twice_ends_bit_identical(tmp_path, uninterrupted):
    for _ in range(2):
        process = _CONTEXT.Process(target=run_and_die, args=(tmp_path, "before a step", 4))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["position"][2] == 6
    check_same_result(run(tmp_path, resume=True), uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_stop(tmp_path, uninterrupted, number, monkeypatch):
    before = signal.getsignal(number)
    once = iter([True])

    def stop_after_three(folder, state, identity):
        save(folder, state, identity)
        if state["position"][2] == 3 and next(once, False):
            os.kill(os.getpid(), number)

    save = checkpoint.save_checkpoint
    monkeypatch.setattr("limbeck.training.loop.save_checkpoint", stop_after_three)
    with pytest.raises(Interrupted, match="--resume") as stopped:
        run(tmp_path)
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    assert lb.RunRecord.open(tmp_path).status == "interrupted"
    check_same_result(run(tmp_path, resume=True), uninterrupted)


def test_a_full_disk_leaves_the_last_checkpoint_usable(tmp_path, uninterrupted, monkeypatch):
    calls = []
    save = torch.save

    def full(state, path):
        calls.append(path)
        if len(calls) == 5:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr("limbeck.training.checkpoint.torch.save", full)
        with pytest.raises(StorageError, match=r"checkpoint\.pt.*No space left.*Free some space"):
            run(tmp_path)
    assert lb.RunRecord.open(tmp_path).status == "failed"
    assert not list(tmp_path.glob("*.part"))
    check_same_result(run(tmp_path, resume=True), uninterrupted)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="expected to write this file"):
        run(tmp_path / "file" / "run")


def test_a_finished_run_is_returned_again(tmp_path, uninterrupted, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr("limbeck.training.loop.Loop.run", lambda self: pytest.fail("trained again"))
    check_same_result(run(tmp_path, resume=True), uninterrupted)
    with pytest.raises(CheckpointError, match=r"other settings \(learning_rate\)"):
        run(tmp_path, resume=True, learning_rate=0.5)


def test_a_folder_with_a_run_is_not_overwritten_unasked(tmp_path, uninterrupted):
    run(tmp_path, max_steps=1)
    with pytest.raises(CheckpointError, match=r"holds a run \(finished\)"):
        run(tmp_path)
    check_same_result(run(tmp_path, overwrite=True), uninterrupted)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    process = _CONTEXT.Process(target=run_and_die, args=(tmp_path, "before a step", 4))
    process.start()
    process.join(120)
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.05 then, 0\.1 now"):
        run(tmp_path, resume=True, learning_rate=0.1)
    with pytest.raises(CheckpointError, match="seed: 0 then, 1 now"):
        run(tmp_path, resume=True, seed=1)


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "empty", "a pickle with code"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    process = _CONTEXT.Process(target=run_and_die, args=(tmp_path, "before a step", 4))
    process.start()
    process.join(120)
    path = tmp_path / "checkpoint.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    elif damage == "other bytes":
        path.write_bytes(b"x" * 3000)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"format": 1, "identity": os.system}, path)
    with pytest.raises(CheckpointError, match="expected a whole checkpoint"):
        run(tmp_path, resume=True)


def test_resume_without_a_folder_is_refused():
    with pytest.raises(ArgumentError, match="expected `out` beside resume"):
        lb.distill(network(), good_teacher(), rows(), resume=True, **QUICK)
