"""Answers on disk, one line each: added whole, and found again by key after any kill."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from limbeck.checks import StorageError


class AnswersFile:
    """A file to which answers are added line by line; one process at a time.

    A line counts once its end is on disk. What a killed run left of a last line is dropped.

    Args:
        path: The file; it and its folder are made where there is none.

    Raises:
        StorageError: If it cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as problem:
            raise self._error(problem) from None
        try:
            self._lock()
            self._places, self._end = self._read()
            self._file.truncate(self._end)
            self._sync_folder()
        except StorageError:
            self._file.close()
            raise
        except OSError as problem:
            self._file.close()
            raise self._error(problem) from None

    def __enter__(self) -> AnswersFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()

    def __contains__(self, key: str) -> bool:
        """Whether the answer with this key is there."""
        return key in self._places

    def add(self, key: str, line: str) -> None:
        """Add an answer, and return when it is on disk.

        Raises:
            StorageError: If it cannot be written; the file is then as before.
        """
        raw = line.encode("ascii") + b"\n"
        try:
            rest = memoryview(raw)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            os.fsync(self._file.fileno())
        except BaseException as problem:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            if isinstance(problem, OSError):
                raise self._error(problem) from None
            raise
        # In this order: what Ctrl-C may cut off here is only that the answer is known.
        start, self._end = self._end, self._end + len(raw)
        self._places[key] = (start, len(raw))

    def read(self, key: str) -> dict[str, Any]:
        """Return the answer with this key."""
        start, length = self._places[key]
        return json.loads(os.pread(self._file.fileno(), length, start))

    def _read(self) -> tuple[dict[str, tuple[int, int]], int]:
        """Return where each answer stands, and the end of the last whole line."""
        places: dict[str, tuple[int, int]] = {}
        end = 0
        with self.path.open("rb") as stream:
            for raw in stream:
                if not raw.endswith(b"\n"):
                    break
                key = _key(raw)
                if key is not None:
                    places[key] = (end, len(raw))
                end += len(raw)
        return places, end

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # elsewhere the user sees to it
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno not in (errno.EACCES, errno.EAGAIN):
                return  # file systems without locks
            raise StorageError(
                f"{self.path}: expected to be the only one that writes; another process collects "
                "into it. Wait for it, or name another file."
            ) from None

    def _sync_folder(self) -> None:
        if os.name == "posix":
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)

    def _error(self, problem: OSError) -> StorageError:
        what = "What was saved before is whole, so the same command goes on."
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"Free some space. {what}"
        return StorageError(
            f"{self.path}: expected to write this file; got {problem.strerror or problem}. {what}"
        )


def _key(raw: bytes) -> str | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    whole = isinstance(found, dict) and isinstance(found.get("response"), dict)
    return found["key"] if whole and isinstance(found.get("key"), str) else None
