"""A file is the old one or the new one, whatever happens between."""

import errno
import os
from pathlib import Path

import pytest

from limbeck.checks import StorageError
from limbeck.files import atomic, check_writable, write_text


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_whole_into_a_new_folder(tmp_path):
    path = tmp_path / "a" / "b" / "record.json"
    write_text(path, "Tür")
    assert path.read_bytes() == "Tür".encode()
    write_text(path, "two")
    assert path.read_text() == "two"
    assert left_in(path.parent) == ["record.json"]


def test_all_files_have_the_mode_of_any_other(tmp_path):
    """Also what a writer hides from others, as safetensors does."""
    (tmp_path / "plain").touch()
    with atomic(tmp_path / "weights") as aside:
        aside.write_text("x")
        aside.chmod(0o600)
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_reader_sees_the_old_file_while_the_new_one_is_written(tmp_path):
    path = tmp_path / "x"
    write_text(path, "old")
    with atomic(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old"
        assert aside.parent == path.parent
    assert path.read_text() == "half"


@pytest.mark.parametrize("problem", [KeyboardInterrupt("stop"), ValueError("stop")])
def test_an_interrupted_block_leaves_the_old_file(tmp_path, problem):
    path = tmp_path / "x"
    write_text(path, "old")

    def interrupted():
        with atomic(path) as aside:
            aside.write_text("half")
            raise problem

    with pytest.raises(type(problem), match="stop"):
        interrupted()
    assert path.read_text() == "old"
    assert left_in(tmp_path) == ["x"]


def test_killed_between_write_and_rename(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_text(path, "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("flush"), fsync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    write_text(tmp_path / "x", "new")
    assert done == ["flush", "rename", "flush"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space; what was saved before is whole"),
        (errno.EDQUOT, "Free some space"),
        (errno.EACCES, "Choose another folder with `out`"),
        (errno.EROFS, "Choose another folder with `out`"),
        (errno.EIO, "What was saved before is whole"),
    ],
)
def test_a_failing_disk(tmp_path, monkeypatch, number, advice):
    path = tmp_path / "x"
    write_text(path, "old")

    def failing(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(StorageError, match=advice) as caught:
            write_text(path, "new")
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert path.read_text() == "old"
    assert left_in(tmp_path) == ["x"]


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX only")
def test_a_file_system_that_does_not_flush_folders(tmp_path, monkeypatch):
    calls = []

    def only_files(_):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", only_files)
    write_text(tmp_path / "x", "new")
    assert len(calls) == 2
    assert (tmp_path / "x").read_text() == "new"


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/x: expected to write this file"):
        write_text(tmp_path / "file" / "x", "")
    with pytest.raises(StorageError, match="expected to write this file"):
        check_writable(tmp_path / "file" / "out")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="change its permissions"):
        check_writable(tmp_path)
    tmp_path.chmod(0o700)


def test_check_writable_makes_the_folder_and_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "out")
    assert left_in(tmp_path / "new" / "out") == []
