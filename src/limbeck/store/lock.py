"""A lock that a process holds on a file, and that dies with the process."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import weakref
from pathlib import Path


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_HELD: weakref.WeakSet[FileLock] = weakref.WeakSet()
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class FileLock:
    """Hold a file alone, from ``acquire`` to ``release`` or to the end of the process.

    The operating system keeps the lock, so one of a killed process is free. Processes that are
    forked meanwhile, such as workers of a data loader, don't inherit it.

    Args:
        path: The file; made by ``acquire`` and removed by ``release``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if a living process has it."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _locked(descriptor):
                os.close(descriptor)
                return False
            if _is_at(descriptor, self.path):
                break
            os.close(descriptor)  # its last holder removed it in between
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        _HELD.add(self)
        return True

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        _HELD.discard(self)

    def holder(self) -> str:
        """Return the number of the process that wrote itself into the file."""
        try:
            return self.path.read_text(encoding="utf8").strip() or "unknown"
        except OSError:
            return "unknown"

    def forget(self) -> None:
        """Close the file in a forked process, which leaves the lock to its parent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_free(path: Path) -> bool:
    """Say whether no living process holds a lock on a file; a file of a dead one is removed."""
    lock = FileLock(path)
    try:
        if not lock.acquire():
            return False
    except OSError:
        return False
    lock.release()
    return True


def _locked(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        # A file system without locks: each file is whole anyway, two writers would waste work.
        return problem.errno not in _BUSY
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
