"""Folders into groups: names told apart, what lies beside, and what to mind of comparisons."""

import json

import pytest

from limbeck import plan
from limbeck.checks import DataError
from limbeck.record import RunRecord
from limbeck.report import read_study, render
from limbeck.report.beside import read_beside
from limbeck.report.html import comparison_of
from limbeck.report.remarks import remarks


def run(place, seed=0, accuracy=0.5, kind="distill", **changes):
    results = {"last": {"test": {"accuracy": accuracy}}}
    fields = {"status": "finished", "results": results, "data": {"rows": 9, "test": 50}}
    record = RunRecord(kind=kind, seed=seed, **{**fields, **changes})
    record.save(place)
    return record


def said_of(study):
    return remarks(study, comparison_of(study), {name: name for name in study.groups})


def test_groups_called_alike_are_told_apart_by_their_path(tmp_path):
    for parent, accuracy in (("a", 0.5), ("b", 0.75)):
        for seed in range(2):
            run(tmp_path / parent / "kd" / f"seed{seed}", seed, accuracy + seed / 100)
        run(tmp_path / parent / "control" / "seed0", 0, 0.25, "train")
    run(tmp_path / "b" / "rkd" / "seed0")
    study = read_study([tmp_path / "a", tmp_path / "b"])
    assert sorted(study.groups) == ["a/control", "a/kd", "b/control", "b/kd", "rkd"]
    assert [record.seed for record in study.groups["a/kd"]] == [0, 1]
    found = comparison_of(study)
    assert found.row("b/kd").values == {0: 0.75, 1: 0.76}
    assert study.control is None
    assert "a/control, b/control were trained without a teacher: name the one" in said_of(study)[-1]
    chosen = read_study([tmp_path / "a", tmp_path / "b"], control="b/control")
    assert comparison_of(chosen).row("a/kd").difference.estimate.value == 0.25
    assert not [text for text in said_of(chosen) if "--control" in text]


def test_names_reach_as_far_up_as_they_must(tmp_path):
    for place in ("x/runs/kd", "y/runs/kd", "y/runs/other"):
        run(tmp_path / place / "seed0")
    study = read_study([tmp_path / "x" / "runs", tmp_path / "y" / "runs"])
    assert list(study.groups) == ["x/runs/kd", "y/runs/kd", "other"]


def test_a_folder_given_twice_counts_once(tmp_path):
    for seed in range(2):
        run(tmp_path / "kd" / f"seed{seed}", seed)
    given = [
        tmp_path,
        tmp_path / "kd",
        tmp_path / "kd" / "seed0",
        tmp_path / "kd/seed1/record.json",
    ]
    study = read_study(given)
    assert {name: len(group) for name, group in study.groups.items()} == {"kd": 2}
    assert read_study([tmp_path / "kd" / f"seed{seed}" for seed in range(2)]).groups.keys() == {
        "kd"
    }


def test_teachers_of_several_studies_are_no_competitors(tmp_path):
    for parent in ("a", "b"):
        run(tmp_path / parent / "teacher" / "seed0", 0, 0.9, "train")
        run(tmp_path / parent / f"kd-{parent}" / "seed0")
    study = read_study([tmp_path / "a", tmp_path / "b"])
    assert sorted(study.groups) == ["a/teacher", "b/teacher", "kd-a", "kd-b"]
    assert sorted(study.students) == ["kd-a", "kd-b"]
    text = render(study)
    assert text.count("one network") == 2


def test_two_demos_keep_their_chapters_apart(tmp_path):
    for parent in ("a", "b"):
        chapter = {"title": "Weights", "paragraphs": [], "columns": ["x"], "rows": [["1"]]}
        settings = {"title": parent, "titles": {"kd": "KD"}, "chapters": [chapter]}
        RunRecord(kind="demo", seed=0, settings=settings).save(tmp_path / parent)
        run(tmp_path / parent / "kd" / "seed0")
    study = read_study([tmp_path / "a", tmp_path / "b"])
    assert study.summary is None
    assert [chapter["title"] for chapter in study.chapters] == ["Weights (a)", "Weights (b)"]
    assert "<h2>Weights (b)</h2>" in render(study)
    alone = read_study([tmp_path / "a"])
    assert alone.summary.settings["title"] == "a"
    assert [chapter["title"] for chapter in alone.chapters] == ["Weights"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": {"test": 60}}, "different data (50 and 60 test rows)"),
        ({"data": {"test": 50, "class_names": ["a"]}}, "different data (other class names)"),
        ({"settings": {"task": "regression"}}, "different tasks (classification, regression)"),
        ({"results": {"last": {"test": {"mse": 1.0}}}}, "no metric in common"),
    ],
)
def test_runs_that_cannot_be_compared_are_warned_of(tmp_path, changes, expected):
    plain = {"settings": {"task": "classification"}}
    if "class_names" in changes.get("data", {}):
        plain["data"] = {"test": 50, "class_names": ["b"]}
    run(tmp_path / "control", kind="train", **plain)
    run(tmp_path / "kd", **{**plain, **changes})
    study = read_study([tmp_path])
    (text,) = [text for text in said_of(study) if expected in text]
    page = render(study)
    assert text in page[: page.index("<h2>Results")]
    same = tmp_path / "same"
    for name in ("control", "kd"):
        run(same / name, **plain)
    assert said_of(read_study([same])) == []


@pytest.mark.parametrize(
    ("control", "method", "expected"),
    [
        (
            {"data": {"rows": 9}},
            {"data": {"rows": 1099, "labelled": 9}},
            "kd: trained on 1,099 rows (9 labelled), control on 9 rows",
        ),
        (
            {"data": {"rows": 99, "labelled": 9}},
            {"data": {"rows": 99, "labelled": 99}},
            "kd: trained on 99 rows (99 labelled), control on 99 rows (9 labelled)",
        ),
        (
            {"settings": {"epochs": 20, "batch_size": 32}},
            {"settings": {"epochs": 30, "batch_size": 32}},
            "kd: trained about 60 steps, control about 40 steps",
        ),
        ({"settings": {"epochs": 20, "batch_size": 32}}, {"settings": {"epochs": 30}}, None),
        (
            {"settings": {"epochs": 20, "batch_size": 32}},
            {"settings": {"epochs": 40, "batch_size": 64}},
            None,
        ),
        (
            {"settings": {"epochs": 20, "batch_size": 32}},
            {"settings": {"epochs": 30, "batch_size": 32, "max_steps": 40}},
            None,
        ),
    ],
)
def test_other_amounts_of_training_are_said(tmp_path, control, method, expected):
    for name, given in (("control", control), ("kd", method)):
        data = {"rows": 64, "test": 50, **given.get("data", {})}
        kind = "train" if name == "control" else "distill"
        run(tmp_path / name, kind=kind, **{**given, "data": data})
    ends = ": the difference is of that, too."
    found = said_of(read_study([tmp_path]))
    assert found == ([] if expected is None else [f"{expected}{ends}"])


def test_an_unfinished_run_is_left_out_and_named(tmp_path):
    for name in ("control", "kd"):
        for seed in range(3):
            run(tmp_path / name / f"seed{seed}", seed, 0.5 + seed / 10, "train")
    run(tmp_path / "kd" / "seed2", 2, 0.1, status="interrupted", results={})
    study = read_study([tmp_path], control="control")
    assert comparison_of(study).row("kd").values.keys() == {0, 1}
    (first, second) = said_of(study)
    assert first == "kd, seed 2: the run is interrupted; left out of test accuracy."
    assert "2 of its 2 seeds are among control's 3" in second


def test_what_lies_beside_the_runs_is_found_down_to_two_folders(tmp_path):
    made = json.dumps(plan(inputs=100, labels=4, error=0.1).to_dict())
    for place in (".", "one", "one/two", "one/two/three"):
        (tmp_path / place).mkdir(exist_ok=True, parents=True)
        (tmp_path / place / "plan.json").write_text(made)
    found = read_beside([tmp_path])
    assert list(found.plans) == [str(tmp_path), "one", "one/two"]
    assert list(read_beside([tmp_path / "one", tmp_path]).plans) == [
        str(tmp_path / place) for place in ("one", "one/two", "one/two/three", "")
    ]
    again = tmp_path / "one" / ".." / "one"  # called otherwise, and read once
    assert len(read_beside([tmp_path / "one", again]).plans) == 3
    run(tmp_path / "kd")
    text = render(read_study([tmp_path]))
    assert text.count("<h2>What was planned (") == 3
    assert "error of 0.1 (total variation)" in text


@pytest.mark.parametrize("name", ["measurement.json", "weights.json", "plan.json"])
@pytest.mark.parametrize("text", ["{", "[1]", "{}", "\ufffe", '{"kind": "odd"}'])
def test_files_of_these_names_that_are_something_else_stop_nothing(tmp_path, name, text):
    run(tmp_path / "kd")
    (tmp_path / "kd" / name).write_text(text, encoding="utf8")
    study = read_study([tmp_path])
    (told,) = said_of(study)
    assert told.startswith(f"kd/{name}: expected what limbeck ")
    assert "left out" in told


def test_a_demo_without_runs_and_a_folder_without_records_are_refused(tmp_path):
    RunRecord(kind="demo", seed=0).save(tmp_path)
    with pytest.raises(DataError, match=r"expected runs beside record\.json"):
        read_study([tmp_path])
    run(tmp_path / "kd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected a folder with"):
        read_study([tmp_path, tmp_path / "empty"])
