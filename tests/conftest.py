"""What all tests share."""

import os
from pathlib import Path

import jaxtyping
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_shape_hook():
    """Switch the shape annotations off, as they are for users: then limbeck's own checks speak."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def shared_data():
    """Give the folder of real data sets that lies beside the repository, where there is one."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LIMBECK_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}; set LIMBECK_SHARED_DATA to a folder that has them")
    return folder
