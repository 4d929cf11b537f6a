"""Nothing is lost: killed, stopped and failed runs end as if nothing had happened."""

from __future__ import annotations

import errno
import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.killed import run, run_and_die
from helpers.processes import exit_code
from helpers.small import QUICK, good_teacher, network, rows, same

import limbeck as lb
from limbeck.checks import ArgumentError, CheckpointError, StorageError
from limbeck.training import checkpoint, loop
from limbeck.training.interrupts import Interrupted, Interrupts


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
    assert exit_code(run_and_die, tmp_path, where, count) == -signal.SIGKILL
    check_same_result(run(tmp_path, resume=True), uninterrupted)


def test_a_run_killed_twice_ends_bit_identical(tmp_path, uninterrupted):
    for _ in range(2):
        assert exit_code(run_and_die, tmp_path, "before a step", 4) == -signal.SIGKILL
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


def stopped_after(monkeypatch, count, train, what="Loop._one_step"):
    """Train until a signal that comes in the ``count``-th call of a part of the loop."""
    holder, _, name = what.rpartition(".")
    place = getattr(loop, holder) if holder else loop
    original, calls = getattr(place, name), []

    def signalled(*arguments, **named):
        calls.append(1)
        if len(calls) == count:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, signalled)
        with pytest.raises(Interrupted):
            train()


def test_a_signal_saves_although_no_checkpoint_is_due(tmp_path, uninterrupted, monkeypatch):
    stopped_after(monkeypatch, 4, lambda: run(tmp_path, checkpoint_seconds=1e6))
    path = tmp_path / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    assert saved["state"]["position"] == [1, 1, 4]
    saved["state"]["seconds"] = 1e6
    torch.save(saved, path)
    result = run(tmp_path, resume=True)
    check_same_result(result, uninterrupted)
    assert result.record.time["seconds"] > 1e6


def test_a_run_that_was_out_of_patience_stays_so(tmp_path, monkeypatch):
    def train(**options):
        x, y = rows()
        wrong = (x, (y + 1) % 3)  # training moves away from these
        options = QUICK | {"epochs": 30, "patience": 2} | options
        return lb.distill(network(), None, (x, y), validation=wrong, **options)

    expected = train()
    epochs = len(expected.record.curves["loss total"])
    assert expected.record.results["best"]["validation"]["epoch"] == epochs - 2 < 28
    stopped_after(monkeypatch, epochs, lambda: train(out=tmp_path), "evaluate")
    check_same_result(train(out=tmp_path, resume=True), expected)


def test_handlers_come_back_and_a_second_signal_acts_at_once():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in numbers] == before
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        assert [signal.getsignal(number) for number in numbers] == before


def test_another_thread_leaves_signals_alone():
    def inside():
        with Interrupts():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result() is signal.getsignal(signal.SIGTERM)


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
    assert not (tmp_path / "checkpoint.pt").exists()
    monkeypatch.setattr("limbeck.training.loop.Loop.run", lambda self: pytest.fail("trained again"))
    check_same_result(run(tmp_path, resume=True), uninterrupted)
    with pytest.raises(CheckpointError, match=r"other settings \(learning_rate\)"):
        run(tmp_path, resume=True, learning_rate=0.5)


def test_a_folder_with_a_run_is_not_overwritten_unasked(tmp_path, uninterrupted):
    run(tmp_path, max_steps=1)
    with pytest.raises(CheckpointError, match=r"holds a run \(finished\)"):
        run(tmp_path)
    check_same_result(run(tmp_path, overwrite=True), uninterrupted)


def test_a_new_run_does_not_go_on_from_an_old_checkpoint(tmp_path, monkeypatch):
    stopped_after(monkeypatch, 4, lambda: run(tmp_path))
    assert (tmp_path / "checkpoint.pt").exists()

    def failing(*_):
        raise RuntimeError("before its first checkpoint")

    monkeypatch.setattr(loop.Loop, "_one_step", failing)
    with pytest.raises(RuntimeError, match="before its first"):
        run(tmp_path, overwrite=True)
    assert not (tmp_path / "checkpoint.pt").exists()


class Shift:
    """An augmentation whose repr is an address."""

    def __call__(self, inputs, index, view):
        return inputs


class Turn(Shift):
    """Another one."""


def test_a_run_is_known_by_what_changes_its_numbers():
    def identity(data=None, **options):
        kept = []
        lb.distill(
            *(network(), None, data or rows()),
            on_ready=lambda ready, _: bool(kept.append(ready.identity)),
            **QUICK | options,
        )
        return kept[0]

    shifted = identity(lb.Data(rows(), augment=Shift()))
    others = [
        *(identity(), identity(seed=1), identity(momentum=0.5), identity(learning_rate=0.1)),
        *(identity(rows(47)), shifted, identity(lb.Data(rows(), augment=Turn()))),
    ]
    assert all(a != b for a, b in itertools.combinations(others, 2))
    assert identity(lb.Data(rows(), augment=Shift())) == shifted
    neutral = {"checkpoint_seconds": 1.0, "force": True, "device": None, "teacher_device": "cpu"}
    assert identity(**neutral) == identity()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    exit_code(run_and_die, tmp_path, "before a step", 4)
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.05 then, 0\.1 now"):
        run(tmp_path, resume=True, learning_rate=0.1)
    with pytest.raises(CheckpointError, match="seed: 0 then, 1 now"):
        run(tmp_path, resume=True, seed=1)
    with pytest.raises(CheckpointError, match="validation: 12 then, 30 now"):
        run(tmp_path, resume=True, validation=rows(30, seed=8))


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "empty", "a pickle with code"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    exit_code(run_and_die, tmp_path, "before a step", 4)
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


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path):
    torch.save({"format": 2, "identity": {}, "state": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="expected checkpoint format 1; got 2"):
        checkpoint.open_checkpoint(tmp_path, {})


def test_resume_without_a_folder_is_refused():
    with pytest.raises(ArgumentError, match="expected `out` beside resume"):
        lb.distill(network(), good_teacher(), rows(), resume=True, **QUICK)
