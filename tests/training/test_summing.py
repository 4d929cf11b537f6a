"""Sums over parts of the data, as several processes add them."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from limbeck.training.summing import _over_ranks


CPU = torch.device("cpu")


@pytest.fixture
def other(monkeypatch):
    """Stand in for one more process, with totals of its own; gives where the sums were added."""
    totals, places = {}, []

    def names_of_both(found, mine):
        found[:] = [mine, list(totals)]

    def added(values):
        places.append(values.device.type)
        if values.device.type != "meta":
            values += torch.tensor([float(totals.get(name, 0)) for name in sorted(totals)])

    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", names_of_both)
    monkeypatch.setattr(dist, "all_reduce", added)
    return totals, places


def test_whole_numbers_stay_whole_beside_a_process_without_rows(other):
    """In float32, which has no 2^24 + 1, they would be rounded before they are added."""
    other[0].update(nats=0.0, tokens=2)
    mine = {"nats": torch.tensor(1.5), "tokens": torch.tensor(2**24 + 1)}
    found = _over_ranks(mine, CPU)
    assert {name: value.item() for name, value in found.items()} == {
        "nats": 1.5,
        "tokens": 2**24 + 3,
    }


def test_a_process_without_rows_adds_on_its_own_device(other):
    """NCCL adds nothing on the CPU."""
    other[0].update(nats=1.0)
    assert list(_over_ranks({}, torch.device("meta"))) == ["nats"]
    assert other[1] == ["meta"]


def test_nobody_has_rows(other):
    assert other[0] == {}
    assert _over_ranks({}, CPU) == {}
