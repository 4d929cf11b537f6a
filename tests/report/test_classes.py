"""The table of classes: recall over seeds, differences to the control, the most changed first."""

import pytest

from limbeck.record import RunRecord
from limbeck.report.classes import section


TITLES = {"control": "Plain", "kd": "KD", "rkd": "RKD"}


def run(seed, rows, right, status="finished", **data):
    details = {"part": "test", "classes": {"rows": rows, "right": right, "predicted": rows}}
    return RunRecord(kind="train", seed=seed, status=status, details=details, data=data)


def test_recall_is_the_mean_over_seeds_and_differences_are_paired():
    groups = {
        "control": [run(0, [4, 10], [2, 10]), run(1, [4, 10], [4, 10]), run(2, [4, 10], [0, 0])],
        "kd": [run(0, [4, 10], [3, 9]), run(1, [4, 10], [4, 8]), run(7, [4, 10], [4, 10])],
        "rkd": [run(0, [4, 10], [1, 10])],
    }
    found = section(groups, "control", TITLES)
    assert found["names"] == ["Plain", "KD", "RKD"]
    assert (found["control"], found["part"], found["seeds"]) == ("Plain", "test", 3)
    first, second = found["shown"]  # RKD lost 25 points of class 0, KD 15 of class 1
    assert (first["name"], first["rows"], second["name"], second["rows"]) == ("0", 4, "1", 10)
    assert [cell["value"] for cell in first["cells"]] == ["50.0 %", "91.7 %", "25.0 %"]
    assert [cell["value"] for cell in second["cells"]] == ["66.7 %", "90.0 %", "100.0 %"]
    # over the seeds that both have: (3/4 - 2/4 + 4/4 - 4/4) / 2 and 1/4 - 2/4
    assert [cell["change"] for cell in first["cells"]] == ["", "+12.5", "−25.0"]
    assert [cell["change"] for cell in second["cells"]] == ["", "−15.0", "+0.0"]


def test_of_many_classes_the_ten_most_changed_either_way_are_shown():
    size = 30
    names = [f"class {at}" for at in range(size)]
    rows = [100] * (size - 1) + [0]  # of the last there is none
    shift = [(7 * at) % size - 15 for at in range(size)]
    groups = {
        "control": [run(0, rows, [50] * (size - 1) + [0], class_names=names)],
        "kd": [run(0, rows, [50 + one for one in shift[:-1]] + [0])],
    }
    found = section(groups, "control", TITLES)
    order = sorted(range(size - 1), key=lambda at: shift[at])
    expected = [names[at] for at in [*order[:10], *order[-10:]]]
    assert [row["name"] for row in found["shown"]] == expected
    assert [row["name"] for row in found["rest"]] == [
        *(names[at] for at in order[10:-10]),
        "class 29",
    ]
    assert [cell["value"] for cell in found["rest"][-1]["cells"]] == ["no rows", "no rows"]


def test_without_a_control_the_least_recognised_is_first():
    size = 25
    groups = {"kd": [run(0, [100] * size, [90 - at for at in range(size)])]}
    found = section(groups, None, TITLES)
    assert found["control"] is None
    assert [row["name"] for row in found["shown"]] == [str(at) for at in range(24, 4, -1)]
    assert [row["name"] for row in found["rest"]] == ["4", "3", "2", "1", "0"]
    assert {cell["change"] for row in found["shown"] for cell in row["cells"]} == {""}


@pytest.mark.parametrize(
    "groups",
    [
        {"kd": [RunRecord(kind="train", seed=0, status="finished")]},
        {"kd": [run(0, [1], [1], status="running")]},
        {"kd": [run(0, [1, 2], [1, 2])], "control": [run(0, [1, 2, 3], [1, 2, 3])]},
    ],
)
def test_nothing_is_said_of_old_unfinished_or_different_runs(groups):
    assert section(groups, None, TITLES) is None
