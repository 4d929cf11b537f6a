"""One folder, one group of writers; the lock dies with its process."""

import errno
import multiprocessing
import os
import signal
import time

import pytest
from helpers.processes import exit_code
from store.small_store import files_in, plan_of, write_missing

from limbeck.checks import StoreError
from limbeck.store import StoreWriter
from limbeck.store.lock import FileLock, is_free


fcntl = pytest.importorskip("fcntl")


def test_a_second_writer_is_refused(tmp_path):
    with StoreWriter(tmp_path, plan_of()):
        with pytest.raises(
            StoreError, match=f"nobody else writes; process {os.getpid()} is writing it"
        ):
            StoreWriter(tmp_path, plan_of())
        with pytest.raises(StoreError, match="is writing it"):
            StoreWriter(tmp_path, plan_of(), 1, 2)
    with StoreWriter(tmp_path, plan_of(), 1, 2):
        with pytest.raises(StoreError, match="is writing it"):
            StoreWriter(tmp_path, plan_of(), 1, 2)
        with pytest.raises(StoreError, match="is writing it"):
            StoreWriter(tmp_path, plan_of())
        with StoreWriter(tmp_path, plan_of(), 0, 2):
            pass
    assert [name for name in files_in(tmp_path) if "lock" in name] == []


def test_a_writer_that_fails_lets_go(tmp_path):
    with StoreWriter(tmp_path, plan_of()):
        pass
    with pytest.raises(StoreError, match="begun with"):
        StoreWriter(tmp_path, plan_of(views=1))
    with StoreWriter(tmp_path, plan_of()):
        pass


def _die_with(folder, ranks):
    writers = [StoreWriter(folder, plan_of(), rank, ranks) for rank in range(ranks)]
    os.kill(os.getpid(), signal.SIGKILL * bool(writers))


def test_locks_of_the_dead_are_taken_over(tmp_path):
    assert exit_code(_die_with, tmp_path, 3) == -signal.SIGKILL
    assert len([name for name in files_in(tmp_path) if "lock" in name]) == 3
    with StoreWriter(tmp_path, plan_of()) as writer:
        write_missing(writer)
        writer.finish()
    assert [name for name in files_in(tmp_path) if "lock" in name] == []


def test_a_number_of_a_living_process_is_no_lock(tmp_path):
    path = tmp_path / ".writer-0-of-1.lock"
    path.write_text(f"{os.getpid()}\n")
    with StoreWriter(tmp_path, plan_of()):
        assert path.read_text() == f"{os.getpid()}\n"


def _held_by_child(path, told):
    lock = FileLock(path)
    told.write_text(f"{lock.acquire()}\n")
    time.sleep(60)


def _fork_and_hold(path, told):
    lock = FileLock(path)
    assert lock.acquire()
    grandchild = os.fork()
    if not grandchild:
        time.sleep(60)
        os._exit(0)
    told.write_text(f"{grandchild}\n")
    time.sleep(60)


def test_forked_processes_do_not_inherit_it(tmp_path):
    """Workers of a data loader outlive their killed parent for some seconds."""
    path, told = tmp_path / "lock", tmp_path / "told"
    child = multiprocessing.get_context("fork").Process(target=_fork_and_hold, args=(path, told))
    child.start()
    while not (told.exists() and told.read_text().endswith("\n")):
        time.sleep(0.01)
        assert child.is_alive()
    grandchild = int(told.read_text())
    assert not is_free(path)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert is_free(path)
    os.kill(grandchild, signal.SIGKILL)  # it lived until now


def test_another_process(tmp_path):
    path, told = tmp_path / "lock", tmp_path / "told"
    child = multiprocessing.get_context("fork").Process(target=_held_by_child, args=(path, told))
    child.start()
    while not (told.exists() and told.read_text() == "True\n"):
        time.sleep(0.01)
        assert child.is_alive()
    mine = FileLock(path)
    assert not mine.acquire()
    assert mine.holder() == str(child.pid)
    assert not is_free(path)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert is_free(path)
    assert not path.exists()


def test_a_file_that_its_holder_removed_meanwhile(tmp_path, monkeypatch):
    """Two processes must not hold two files of one name."""
    path = tmp_path / "lock"
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    opened = os.open
    calls = []

    def open_then_lose(*arguments):
        descriptor = opened(*arguments)
        if not calls:
            first.release()
        calls.append(descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    assert second.acquire()
    assert len(calls) == 2
    monkeypatch.undo()
    assert not FileLock(path).acquire()
    second.release()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert FileLock(tmp_path / "lock").acquire()
