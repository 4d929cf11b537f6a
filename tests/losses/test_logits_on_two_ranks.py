"""The losses on logits, spread over two processes of which one has no label or no row."""

from pathlib import Path

import pytest
import torch
from helpers.logit_ranks import LOCAL, LOSSES, SPLITS, run_rank, value_and_gradient
from helpers.logits import logits
from helpers.processes import spread


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    spread(run_rank, str(folder))
    parts = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]
    return parts[0] | parts[1]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_equal_one(found, name, split):
    value, gradient = found[name, split]
    expected_value, expected = value_and_gradient(name, torch.arange(6))
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-11)
    assert (expected != 0).any()
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", LOCAL)
def test_the_functions_see_only_their_own_rows_unless_asked(found, name):
    for rank, rows in enumerate(torch.arange(6).split([4, 2])):
        expected = LOCAL[name](*(z[rows] for z in logits()))
        assert found[name, 4, rank].item() == pytest.approx(expected.item(), rel=1e-12)
