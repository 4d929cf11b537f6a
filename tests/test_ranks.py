"""Two processes give what one gives."""

from pathlib import Path

import pytest
import torch
from helpers.processes import spread
from helpers.two_ranks import ROWS, TASKS, run_rank, value_and_gradient

from limbeck.ranks import gather_rows, share_of_batch, sum_over_ranks, world_size


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("ranks"))
    spread(run_rank, folder)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def test_world(ranks):
    assert [rank["world"] for rank in ranks] == [2, 2]


def test_shares_average_to_the_mean_of_all_rows(ranks):
    values, gradients = zip(*(rank["share"] for rank in ranks), strict=True)
    assert sum(values).item() / 2 == (3 * 2.0 + 1 * 5.0) / 4
    assert [gradient.item() for gradient in gradients] == [2 * 3 / 4, 2 * 1 / 4]
    assert [rank["share of none"].item() for rank in ranks] == [0.0, 0.0]


def test_counts_beyond_bfloat16(ranks):
    share = ranks[0]["share in bfloat16"]
    assert share.dtype == torch.bfloat16
    assert share.item() == torch.tensor(2 * 257 / 258).bfloat16().item()
    assert share.item() < 2.0  # what 256 of 256 would give


@pytest.mark.parametrize("name", TASKS)
def test_tasks_average_to_one_process(ranks, name):
    value, gradient = value_and_gradient(name, torch.arange(ROWS))
    values, gradients = zip(*(rank["tasks"][name] for rank in ranks), strict=True)
    assert sum(values).item() / 2 == pytest.approx(value.item(), rel=1e-12)
    torch.testing.assert_close(sum(gradients) / 2, gradient, rtol=1e-12, atol=1e-15)


def test_sum_and_its_gradient(ranks):
    base = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for rank in ranks:
        total, gradient = rank["sum"]
        assert torch.equal(total, 3 * base.T)
        assert torch.equal(gradient, 11 * weight.T)


def test_gathered_rows_of_uneven_ranks(ranks):
    for rank in ranks:
        for kind, rows in rank["rows"].items():
            assert str(rows.dtype) == kind
            if kind == "torch.bool":
                assert rows.tolist() == [True, False, True, True]
            else:
                assert rows.tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
        assert rank["one empty"].tolist() == [[1.0] * 4] * 2
        assert rank["without gradient"]


def test_one_process_changes_nothing():
    tensor = torch.ones(3, requires_grad=True)
    assert world_size() == 1
    assert sum_over_ranks(tensor) is tensor
    assert share_of_batch(tensor, 0) is tensor
    assert torch.equal(gather_rows(tensor), tensor)
    assert not gather_rows(tensor).requires_grad
