"""Small matrices on one thread, tasks side by side, and what was before afterwards."""

import threading
import time
from functools import partial

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from limbeck import estimate_pid
from limbeck.information.known import SOURCES
from limbeck.information.threads import one_thread, side_by_side


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_within_and_as_many_as_before_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2, user_api="blas"):
            assert blas() == {2}
            with one_thread():
                assert torch.get_num_threads() == 1
                assert blas() == {1}
            assert torch.get_num_threads() == 2
            assert blas() == {2}
            with pytest.raises(KeyError), one_thread():
                raise KeyError
            assert torch.get_num_threads() == 2
            assert blas() == {2}
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


def test_tasks_run_at_once_on_their_share_of_the_threads(two_threads):
    meeting = threading.Barrier(2, timeout=20)  # breaks unless two tasks are there

    def task(number: int) -> tuple[int, int, set[int]]:
        meeting.wait()
        return number, torch.get_num_threads(), blas()

    assert side_by_side([partial(task, n) for n in range(4)]) == [(n, 1, {1}) for n in range(4)]
    assert torch.get_num_threads() == 2
    assert blas() == {2}


def test_within_a_task_and_with_one_thread_they_follow_each_other(two_threads):
    order: list[str] = []

    def slow() -> None:
        time.sleep(0.05)
        order.append("slow")

    def both() -> int | None:
        side_by_side([slow, lambda: order.append("quick")])
        return threading.get_ident()

    first, _ = side_by_side([both, lambda: None])
    assert first != threading.get_ident()
    assert order == ["slow", "quick"]
    with one_thread():
        assert side_by_side([threading.get_ident]) == [threading.get_ident()]


def test_what_a_task_raises_is_raised_after_all_have_ended(two_threads):
    ended: list[int] = []

    def fails() -> None:
        raise KeyError("in a task")

    def ends() -> None:
        time.sleep(0.05)
        ended.append(1)

    with pytest.raises(KeyError, match="in a task"):
        side_by_side([fails, ends])
    assert ended == [1]
    assert torch.get_num_threads() == 2


def test_estimates_have_the_same_bits_on_two_threads():
    sample = SOURCES["noisy_xor"].draw(150, 0, 5)
    rows = sample.targets, sample.teacher, sample.student
    with one_thread():
        alone = estimate_pid(*rows).to_dict()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert estimate_pid(*rows).to_dict() == alone
    finally:
        torch.set_num_threads(before)
