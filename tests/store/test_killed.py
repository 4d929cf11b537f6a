"""Whenever a writer is killed, readers see nothing unfinished and the next writer goes on."""

import sys

import pytest
from helpers.processes import exit_code
from store.killed_writers import (
    killed_at_any_time,
    killed_at_calls,
    killed_while_extending,
    killed_with_half_a_file,
)


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


def test_at_fifty_calls_to_the_system(tmp_path):
    assert exit_code(killed_at_calls, tmp_path, 50) == 0


def test_at_calls_while_views_are_added(tmp_path):
    assert exit_code(killed_while_extending, tmp_path, 25) == 0


def test_in_the_middle_of_each_file(tmp_path):
    assert exit_code(killed_with_half_a_file, tmp_path) == 0


def test_at_any_time(tmp_path):
    assert exit_code(killed_at_any_time, tmp_path, 12) == 0
