"""Files that are whole or absent: written aside, flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator
from pathlib import Path

from limbeck.checks import StorageError


_UMASK = os.umask(0)  # it can only be read by setting it
os.umask(_UMASK)


@contextlib.contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Give a temporary path beside ``path``; rename it into place when the block succeeds.

    A reader sees the old file or the new one, never half of one, also after a power cut.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.chmod(0o666 & ~_UMASK)  # safetensors hides what it writes from others
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as problem:
        raise StorageError(_advice(path, problem)) from problem
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole or absent."""
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf8")


def check_writable(folder: Path) -> None:
    """Raise StorageError unless a file can be made in ``folder``."""
    probe = folder / ".limbeck-probe"
    write_text(probe, "")
    probe.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as problem:  # some network file systems do not flush folders
            if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def _advice(path: Path, problem: OSError) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "Free some space; what was saved before is whole, so the run can be resumed."
    elif problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        what = "Choose another folder with `out`, or change its permissions."
    else:
        what = "What was saved before is whole."
    return f"{path}: expected to write this file; got {problem.strerror or problem}. {what}"
