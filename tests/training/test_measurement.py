"""What a measurement gives: rankings, trajectories, records, files; the same on two processes."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import measured
from helpers.measured import Recorder, measure, pid_estimate
from helpers.processes import spread
from helpers.small import good_teacher, network, rows

from limbeck.checks import ArgumentError, ModelError
from limbeck.training import measuring
from limbeck.training.saving import save_model


def test_several_students_and_teachers(recorder, tmp_path):
    students = {0: network(seed=0), 10: network(seed=1), 20: network(seed=2, width=4)}
    save_model(lb_mlp(), tmp_path / "saved")
    students["saved"] = tmp_path / "saved"
    runs = []
    teacher = good_teacher()
    teacher[0].register_forward_hook(lambda *_: runs.append(1))
    x, y = rows(64)
    found = measure(teacher, students, (x, y), batch_size=32)
    passes = len(runs)
    assert passes <= 2 + 2 + 1  # two batches; finding the head, and a run on the example
    assert [entry.student for entry in found.trajectory()] == ["0", "10", "20", "saved"]
    assert [call["student"].shape[1] for call in recorder.calls] == [8, 8, 4, 5]
    assert all(
        torch.equal(call["teacher"], recorder.calls[0]["teacher"]) for call in recorder.calls
    )
    assert list(found.accuracy["student"]) == ["0", "10", "20", "saved"]
    with pytest.raises(ArgumentError, match=r"expected one entry.*got 4"):
        found.distillable  # noqa: B018
    assert found.select(student=10).distillable.value == 1.0
    with pytest.raises(ArgumentError, match="one of 0, 10, 20, saved; got 11"):
        found.select(student=11)
    with pytest.raises(ArgumentError, match=r"'studend'.*Did you mean student"):
        found.select(studend=10)
    with pytest.raises(ArgumentError, match=r"ranking: expected one student.*got 4"):
        found.ranking()


def lb_mlp():
    from limbeck.training.building import build

    return build("zoo:mlp", inputs=6, hidden=[5], num_classes=3)


def test_teachers_are_ranked_by_their_own_scores(monkeypatch):
    """Bits that say the contrary do not count; three teachers are ever less sure of the truth."""
    answers = iter([0.1, 0.2, 0.3])
    recorder = Recorder(lambda _: pid_estimate(next(answers)))
    monkeypatch.setattr(measuring, "estimate_pid", recorder)
    teachers = {}
    for name, share in (("b", 0.5), ("a", 0.9), ("c", 0.1)):
        teachers[name] = good_teacher()
        with torch.no_grad():
            teachers[name][2].weight.mul_(share)
            teachers[name][2].bias.mul_(share)
    found = measure(teachers, network(), rows(40))
    gaps = {entry.teacher: entry.gap.value for entry in found.entries if entry.gap}
    assert gaps["a"] > gaps["b"] > gaps["c"]
    assert [entry.teacher for entry in found.ranking()] == ["a", "b", "c"]


def test_teachers_are_ranked_by_what_is_left_to_distil(monkeypatch):
    answers = [0.3, 0.9, 2.0, 0.5]
    status = ["resolved", "resolved", "unresolved", "resolved"]
    recorder = Recorder(lambda i: pid_estimate(answers[i], status=status[i]))
    monkeypatch.setattr(measuring, "estimate_pid", recorder)
    teachers = {name: good_teacher() for name in "abcd"}
    found = measure(teachers, network(), rows(40))
    entries = [replace(entry, gap=None) for entry in found.entries]
    found = replace(found, entries=(found.entries[0], *entries[1:]))  # one alone has scores
    assert [entry.teacher for entry in found.ranking()] == ["b", "d", "a", "c"]
    with pytest.raises(ArgumentError, match="trajectory: expected one teacher"):
        found.trajectory()


def test_lists_and_folders_are_labelled(recorder, tmp_path):
    save_model(lb_mlp(), tmp_path / "a")
    found = measure([good_teacher(), tmp_path / "a"], network(), rows(40))
    assert [entry.teacher for entry in found.entries] == ["0", str(tmp_path / "a")]
    with pytest.raises(ModelError, match="expected a folder"):
        measure(good_teacher(), tmp_path / "none", rows(40))
    with pytest.raises(ModelError, match=r"teacher '1' to be a torch module.*got int"):
        measure([good_teacher(), 3], network(), rows(40))
    with pytest.raises(ArgumentError, match=r"at least one student.*got none"):
        measure(good_teacher(), {}, rows(40))


def test_record_and_files(recorder, tmp_path):
    recorder.answer = lambda _: pid_estimate(null={"redundant": float("nan")})
    found = measure(good_teacher(), {"a": network(), "b": network()}, rows(60))
    folder = found.save(tmp_path / "deep" / "out")
    record = json.loads((folder / "measurement.json").read_text())
    assert record == found.to_dict()
    assert record["unit"] == "bits"
    assert record["entries"][0]["estimate"]["null"] == {"redundant": None}
    assert record["entries"][1]["student"] == "b"
    assert record["accuracy"]["student"]["a"]["n"] == 60
    assert record["settings"]["pooling"].startswith("maps: mean over positions")
    files = {"measurement.json", "atoms.svg", "trajectory.svg"}
    assert {path.name for path in folder.iterdir()} == files
    found.select(student="a").save(folder)  # a smaller one takes its place
    assert {path.name for path in folder.iterdir()} == files - {"trajectory.svg"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    for world in (1, 2):
        spread(measured.run_rank, world, str(folder), count=world)
    return folder, [
        torch.load(folder / name, weights_only=False) for name in ("1 0.pt", "2 0.pt", "2 1.pt")
    ]


def test_two_processes_measure_what_one_does(ranks):
    folder, (one, main, other) = ranks
    assert len(one["calls"]) == len(main["calls"]) == 4
    for alone, shared in zip(one["calls"], main["calls"], strict=True):
        for name, value in alone.items():
            same = (
                torch.equal(value, shared[name])
                if torch.is_tensor(value)
                else value == shared[name]
            )
            assert same, name
    assert other["calls"] == []  # the estimate is made once
    assert main["record"] == other["record"] == one["record"]
    assert (folder / "1" / "measurement.json").read_text() == (
        folder / "2" / "measurement.json"
    ).read_text()
    assert (
        main["error"] == other["error"] == one["error"] == "estimate_pid: on the main process alone"
    )


def test_the_gap_of_scores_is_the_students_cross_entropy_less_the_teachers(recorder):
    x, y = rows(64)
    teacher, student = good_teacher(), network(seed=1)
    found = measure(teacher, student, (x, y))
    lost = []
    with torch.no_grad():
        for model in (student, teacher):
            bits = []
            for scores, target in zip(model.eval()(x).double().tolist(), y.tolist(), strict=True):
                total = sum(math.exp(score) for score in scores)
                bits.append(-math.log2(math.exp(scores[target]) / total))
            lost.append(bits)
    pairs = [own - theirs for own, theirs in zip(*lost, strict=True)]
    (entry,) = found.entries
    assert entry.gap is not None
    mean = sum(pairs) / 64
    half = 1.96 * math.sqrt(sum((one - mean) ** 2 for one in pairs) / 64 / 64)
    assert entry.gap.value == pytest.approx(mean, abs=1e-5)
    assert entry.gap.upper - entry.gap.value == pytest.approx(half, abs=1e-5)
    assert found.verdict == entry.verdict == entry.to_dict()["verdict"] == "distil"
    assert f"cross-entropy gap of own scores       {mean:.3f}" in str(found)
    assert entry.to_dict()["gap"]["value"] == entry.gap.value
    hidden = replace(entry, gap=None)
    assert "cross-entropy gap" not in str(hidden)
    assert hidden.to_dict()["gap"] is None
