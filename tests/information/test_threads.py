"""Small matrices on one thread, and what was before afterwards."""

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from limbeck.information.threads import one_thread


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
