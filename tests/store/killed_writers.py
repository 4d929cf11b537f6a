"""Writers that are killed with SIGKILL, at the n-th thing they ask of the system or at any time."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from store.small_store import ROWS, batch_of, files_in, fingerprints, plan_of, said, write_missing

from limbeck.checks import StoreError
from limbeck.store import StoreWriter, TeacherStore


FLUSH = os.fsync
WATCHED = ("open", "os.", "shutil.")


def killed_at_calls(root: Path, points: int) -> None:
    """Kill at so many of the calls that a writer makes, each in a new folder."""
    torch.set_num_threads(1)
    whole = _whole(root)
    calls = _calls_of_a_run(root / "counted")
    assert calls > points
    for number, point in enumerate(random.Random(0).sample(range(1, calls + 1), points)):
        folder = root / f"killed-{number}"
        assert (
            _ended(lambda point=point, folder=folder: _run(folder, die_at=point)) == -signal.SIGKILL
        )
        _check_goes_on(folder, whole)


def killed_while_extending(root: Path, points: int) -> None:
    """Kill writers that add views to a store, which stays readable."""
    torch.set_num_threads(1)
    whole = _whole(root)
    first = plan_of(views=1, made_of=fingerprints())
    calls = _calls_of_a_run(root / "counted", first)
    for number, point in enumerate(random.Random(1).sample(range(1, calls + 1), points)):
        folder = root / f"killed-{number}"
        _write(folder, first)
        assert (
            _ended(lambda point=point, folder=folder: _run(folder, die_at=point)) == -signal.SIGKILL
        )
        assert TeacherStore.open(folder).views in (1, 2)
        _check_goes_on(folder, whole)


def killed_with_half_a_file(root: Path) -> None:
    """Kill in the middle of each file that is written: shards, notes, plan and manifest."""
    torch.set_num_threads(1)
    whole = _whole(root)
    number = 0
    while True:
        number += 1
        folder = root / f"half-{number}"
        ended = _ended(lambda folder=folder, number=number: _run(folder, half_written=number))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        _check_goes_on(folder, whole)
    assert number == 1 + 1 + 2 * 6 + 1  # plan; six shards and their notes; manifest


def killed_at_any_time(root: Path, times: int) -> None:
    """Kill a slow writer again and again in one folder, until it ends."""
    torch.set_num_threads(1)
    whole = _whole(root)
    started = time.perf_counter()
    _ended(lambda: _run(root / "timed"))
    length = time.perf_counter() - started
    delays = random.Random(2)
    for number in range(times):
        folder = root / f"timed-{number}"
        for _ in range(2):
            child = _forked(lambda folder=folder: _run(folder))
            time.sleep(delays.random() * length)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if folder.exists():
            _check_goes_on(folder, whole)


def _check_goes_on(folder: Path, whole: dict[str, Any]) -> None:
    """Check what a reader sees now, and that the next writer does no finished shard again."""
    finished = {path: path.stat().st_ino for path in folder.glob("shards/*.safetensors")}
    try:
        store = TeacherStore.open(folder)
    except StoreError as refused:
        told = str(refused)
        assert "expected a finished store" in told or "expected a store, which has" in told
        assert not (folder / "manifest.json").exists()
    else:
        assert store.verify() == []
        index = torch.arange(ROWS)
        views = torch.full_like(index, store.views - 1)
        assert torch.equal(store(batch_of(index, views)).logits, said(index, views).logits)
    with StoreWriter(folder, plan_of()) as writer:
        written = write_missing(writer)
        writer.finish()
    assert not {path.stem for path in finished} & set(written)
    assert finished == {path: path.stat().st_ino for path in finished}
    assert _comparable(folder) == whole
    assert TeacherStore.open(folder).verify() == []


def _whole(root: Path) -> dict[str, Any]:
    os.fsync = lambda _: None  # a killed process loses nothing that the system has
    # What is imported when it is first needed is imported here: children count calls alike.
    _write(root / "warm", plan_of(views=1, made_of=fingerprints()))
    _write(root / "warm", plan_of())
    assert TeacherStore.open(root / "warm").verify() == []
    _write(root / "whole", plan_of())
    return _comparable(root / "whole")


def _comparable(folder: Path) -> dict[str, Any]:
    """Return all files; of the manifest all but its time and its digest."""
    files: dict[str, Any] = dict(files_in(folder))
    told = json.loads(files["manifest.json"])
    del told["created"], told["digest"]
    return files | {"manifest.json": told}


def _write(folder: Path, plan: Any) -> None:
    with StoreWriter(folder, plan) as writer:
        write_missing(writer)
        writer.finish()


def _run(folder: Path, die_at: int = 0, half_written: int = 0) -> None:
    if die_at:
        _die_at_call(die_at)
    if half_written:
        _die_in_file(half_written)
    _write(folder, plan_of())


def _calls_of_a_run(folder: Path, before: Any = None) -> int:
    """Return how many calls the writer makes."""
    if before is not None:
        _write(folder, before)
    count = folder.with_suffix(".count")

    def run() -> None:
        calls = [0]
        _count_calls(calls, lambda: None)
        _write(folder, plan_of())
        seen = calls[0]
        count.write_text(str(seen))

    assert _ended(run) == 0
    return int(count.read_text())


def _die_at_call(number: int) -> None:
    calls = [0]

    def die() -> None:
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _count_calls(calls, die)


def _count_calls(calls: list[int], then: Callable[[], None]) -> None:
    def called(event: str, _: object) -> None:
        if event.startswith(WATCHED):
            calls[0] += 1
            then()

    sys.addaudithook(called)
    # Flushing and writing are no events of their own.
    os.fsync = lambda _: called("os.fsync", ())
    for name in ("write_bytes", "write_text"):
        original = getattr(Path, name)

        def written(*arguments: Any, original: Any = original, **named: Any) -> Any:
            result = original(*arguments, **named)
            called("os.write", ())
            return result

        setattr(Path, name, written)


def _die_in_file(number: int) -> None:
    files = [0]
    for name in ("write_bytes", "write_text"):
        original = getattr(Path, name)

        def written(path: Path, contents: Any, original: Any = original, **named: Any) -> Any:
            files[0] += 1
            if files[0] < number:
                return original(path, contents, **named)
            original(path, contents[: len(contents) // 2], **named)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(Path, name, written)


def _forked(function: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        function()
        os._exit(0)
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def _ended(function: Callable[[], None]) -> int:
    """Run a function in a forked process and return its code, minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(_forked(function), 0)[1])
