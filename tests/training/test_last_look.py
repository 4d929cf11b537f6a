"""What the record of a run keeps of the one look at held-out rows after training."""

import resource

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows

import limbeck as lb
from limbeck import Data, RunRecord
from limbeck.training import finishing
from limbeck.training.details import agreement, details_of
from limbeck.training.last_look import last_look
from limbeck.training.memory import peak_memory


def held_out(count=31, seed=5):
    x, y = rows(count, seed=seed)
    return x, torch.where(torch.arange(count) % 4 == 0, -1, y)


def test_record_has_the_details_of_the_student_on_test_rows(tmp_path):
    x, y = held_out()
    teacher = good_teacher()
    result = lb.distill(
        network(), teacher, rows(), loss="kd", validation=rows(20, seed=4), test=(x, y),
        out=tmp_path, **QUICK,
    )  # fmt: skip
    with torch.no_grad():
        ours, theirs = result.student(x), teacher(x)
    found = RunRecord.open(tmp_path).details
    expected = {"part": "test", "moment": "last", **details_of(ours, y)}
    assert found.pop("agreement") == {"teacher": pytest.approx(agreement(ours, theirs))}
    assert found["calibration"].pop("error") == pytest.approx(expected["calibration"].pop("error"))
    for one, other in zip(
        found.pop("calibration")["bins"], expected.pop("calibration")["bins"], strict=True
    ):
        assert one == pytest.approx(other)
    assert found == expected
    right = sum(found["classes"]["right"]) / found["rows"]
    assert result.record.results["last"]["test"]["accuracy"] == pytest.approx(right)
    kept = y >= 0
    good = (theirs.argmax(1) == y)[kept].double().mean().item()
    assert result.record.teacher["test"]["accuracy"] == pytest.approx(good)


def test_validation_stands_in_and_no_teacher_is_asked_there(monkeypatch):
    teacher, calls = good_teacher(), []
    teacher.register_forward_hook(lambda *_: calls.append(None))

    def noted(loop):
        calls.clear()  # from here on, at the end of the run, it is asked nothing
        return last_look(loop)

    monkeypatch.setattr(finishing, "last_look", noted)
    validation = rows(20, seed=4)
    result = lb.distill(network(), teacher, rows(), loss="kd", validation=validation, **QUICK)
    assert result.record.details["part"] == "validation"
    assert result.record.details["rows"] == 20
    assert "agreement" not in result.record.details
    assert "test" not in result.record.teacher
    assert calls == []
    lb.distill(network(), teacher, rows(), loss="kd", test=validation, **QUICK)
    assert len(calls) == 1  # once over the test rows, and no more


def test_each_of_several_teachers_is_compared_with():
    test = rows(31, seed=5)
    other = network(width=4, seed=3)
    result = lb.distill(
        network(), [good_teacher(), other], rows(), loss="kd", test=test, force=True, **QUICK
    )
    with torch.no_grad():
        ours = result.student(test[0])
        expected = [agreement(ours, one(test[0])) for one in (good_teacher(), other)]
    found = result.record.details["agreement"]
    assert list(found) == ["teacher 0", "teacher 1"]
    assert list(found.values()) == [pytest.approx(one) for one in expected]


def test_a_teacher_of_other_classes_agrees_with_nobody():
    result = lb.distill(
        network(), good_teacher(), rows(), loss="kd", test=rows(31, seed=5), **QUICK
    )
    assert "agreement" in result.record.details
    wide = network(outputs=4)
    result = lb.distill(
        network(), wide, rows(), loss="rkd", test=rows(31, seed=5), force=True, **QUICK
    )
    assert result.record.details["rows"] == 31
    assert "agreement" not in result.record.details


@pytest.mark.parametrize("keep", ["logits", "logits+features"])
def test_the_store_of_the_test_rows_is_read_where_it_lies_beside(tmp_path, keep):
    teacher, test = good_teacher(), rows(31, seed=5)
    for name, part in (("train", rows()), ("test", test)):
        lb.cache(teacher, part, tmp_path / "both" / name, keep=keep)
    group = lb.TeacherStore.open(tmp_path / "both")
    result = lb.distill(network(), group, rows(), loss="kd", test=test, **QUICK)
    with torch.no_grad():
        expected = agreement(result.student(test[0]), teacher(test[0]))
    assert result.record.details["agreement"] == {"teacher": pytest.approx(expected)}
    assert result.record.teacher["test"]["accuracy"] > 0.9
    alone = lb.TeacherStore.open(tmp_path / "both" / "train")
    result = lb.distill(network(), alone, rows(), loss="kd", test=test, **QUICK)
    assert "agreement" not in result.record.details
    assert "test" not in result.record.teacher


def test_a_store_beside_that_has_labels_alone_is_not_taken_for_scores(tmp_path):
    teacher, test = good_teacher(), rows(31, seed=5)
    for name, part in (("train", rows()), ("test", test)):
        lb.cache(teacher, part, tmp_path / name, keep="hard_labels")
    group = lb.TeacherStore.open(tmp_path)
    result = lb.distill(
        network(), group, rows(), loss="sampled_labels", weight=1.0, test=test, **QUICK
    )
    assert result.record.details["rows"] == 31
    assert "agreement" not in result.record.details


def test_other_tasks_and_rows_without_labels_have_none():
    x, _ = rows()
    result = lb.distill(
        network(outputs=2), None, (x, x[:, :2]), task="regression", test=(x, x[:, :2]), **QUICK
    )
    assert result.record.details == {}
    result = lb.distill(network(), None, rows(), **QUICK)
    assert result.record.details == {}
    unlabelled = Data((x, torch.full((len(x),), -1)))
    result = lb.distill(network(), None, rows(), test=unlabelled, **QUICK)
    assert result.record.details == {}


def test_peak_memory_is_that_of_the_process():
    result = lb.distill(network(), None, rows(), **QUICK)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    assert 0.5 * most < result.record.memory["resident"] <= most
    assert "device" not in result.record.memory
    assert set(peak_memory(torch.device("cpu"))) == {"resident"}
