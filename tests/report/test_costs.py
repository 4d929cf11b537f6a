"""What the teacher's outputs cost, what was planned, and the memory of runs."""

import copy

import pytest

from limbeck import plan
from limbeck.limits.planning import text
from limbeck.record import RunRecord
from limbeck.report import costs


TITLES = {"kd": "KD", "live": "Live", "plain": "Plain"}
STORE = {
    "teacher": {"digest": "t"}, "data": "d", "kind": "top_k", "dtype": "fp16", "layers": [],
    "views": 8, "bytes": 3 * 2**20, "seconds": 12.0, "pays_after_epochs": 9.0,
}  # fmt: skip


def run(seed=0, stores=(STORE,), **changes):
    fields = {
        "data": {"rows": 500},
        "teacher": {"stores": [copy.deepcopy(one) for one in stores]} if stores else {},
        "time": {"seconds": 40.0, "share teacher": 0.1 * (1 + seed)},
    }
    return RunRecord(kind="distill", seed=seed, status="finished", **{**fields, **changes})


def test_a_store_counts_once_though_several_runs_read_it():
    other = STORE | {"data": "other", "seconds": 20.0, "pays_after_epochs": None}
    (row,) = costs.rows({"kd": [run(0), run(1)], "plain": [run(0, ())]}, TITLES)
    assert row == {
        "name": "KD",
        "how": "a store of top k fp16, 8 views",
        "asked": "4,000",
        "seconds": "12 s",
        "disk": "3.0 MiB",
        "reading": "6.0 s",  # of 4 and 8
        "pays": "9.0",
    }
    (row,) = costs.rows({"kd": [run(0), run(1, (other,))]}, TITLES)
    assert (row["how"][:8], row["asked"], row["seconds"], row["disk"], row["pays"]) == (
        "2 stores",
        "8,000",
        "32 s",
        "6.0 MiB",
        "9.0",
    )
    small = STORE | {"bytes": 2**16}
    assert costs.rows({"kd": [run(0, (small,))]}, TITLES)[0]["disk"] == "64.0 KiB"
    never = STORE | {"pays_after_epochs": None}
    assert costs.rows({"kd": [run(0, (never,))]}, TITLES)[0]["pays"] == "never"
    unread = {name: value for name, value in STORE.items() if name != "pays_after_epochs"}
    assert costs.rows({"kd": [run(0, (unread,))]}, TITLES)[0]["pays"] == "-"


def test_a_live_teacher_costs_its_share_of_every_run():
    changes = {"teacher": {"parameters": 5}, "curves": {"loss total": [1.0] * 20}}
    group = [run(seed, (), **changes) for seed in range(2)]
    (row,) = costs.rows({"live": group}, TITLES)
    assert (row["asked"], row["seconds"], row["disk"], row["pays"]) == (
        "10,000",
        "6.0 s",
        "none",
        "-",
    )
    cut = run(0, (), **changes, settings={"max_steps": 7})
    assert costs.rows({"live": [cut]}, TITLES)[0]["asked"] == "-"


def test_a_plan_is_shown_as_it_is_printed():
    made = plan(inputs=1000, labels=10, error=0.05, confidence=0.95)
    found = costs.plan(made.to_dict(), "plans")
    assert (found["error"], found["sure"]) == ("0.05", "with probability 0.95")
    for row, printed in zip(found["rows"], text.rows(made), strict=True):
        assert (row["name"], row["below"], row["planning"], row["enough"]) == printed[:4]
    assert any("worst case" in one for one in found["notes"])


def test_memory_is_the_largest_of_the_runs():
    groups = {
        "kd": [run(0, memory={"resident": 512.4}), run(1, memory={"resident": 1024.6})],
        "live": [run(0, memory={"resident": 1.0, "device": 2048.0})],
        "plain": [run(0)],
    }
    assert costs.memory_rows(groups, TITLES) == {
        "KD": {"resident": "1,025"},
        "Live": {"resident": "1", "device": "2,048"},
    }


@pytest.mark.parametrize("groups", [{}, {"plain": [RunRecord(kind="train", seed=0)]}])
def test_without_a_teacher_there_is_no_cost(groups):
    assert costs.rows(groups, TITLES) == []
