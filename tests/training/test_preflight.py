"""Mistakes that would cost hours are found before the first step."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, LayerError, ModelError
from limbeck.training.preflight import PreflightError, check_disk, check_scores, check_teacher


def test_a_teacher_at_chance_is_an_error_unless_forced():
    untrained = network(seed=7)
    with torch.no_grad():
        untrained[-1].weight.zero_()
    with pytest.raises(
        PreflightError, match=r"teacher: 33\.3% right on 48 rows, where guessing gives"
    ):
        lb.distill(network(), untrained, rows(), loss="kd", **QUICK)
    record = lb.distill(network(), untrained, rows(), loss="kd", force=True, **QUICK).record
    assert record.warnings[0].startswith("forced: teacher: 33.3% right")


def says(classes):
    """Return a teacher that names these classes, row by row."""
    scores = torch.eye(3)[classes]
    return lambda batch: lb.Outputs(scores[batch.index])


def confused(*counts):
    """Return the answers of a teacher that gives each class so often, for each true class."""
    return torch.cat([torch.arange(3).repeat_interleave(torch.tensor(row)) for row in counts])


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        # 1/3 of 48 rows, and twice its standard error of 0.068, give 0.4694: 22 rows lie below.
        (confused([8, 4, 4], [4, 7, 5], [4, 5, 7]), "error: teacher: 45.8% right on 48 rows, wh"),
        (confused([8, 4, 4], [4, 8, 4], [5, 4, 7]), "fact: teacher: 47.9% right on 48 rows."),
        # Another order would be better by less than sampling and similar classes explain.
        (confused([16, 0, 0], [0, 7, 9], [0, 9, 7]), "fact: teacher: 62.5% right on 48 rows."),
    ],
)
def test_teachers_near_chance(answers, found):
    data = lb.Data((torch.zeros(48, 6), torch.arange(3).repeat_interleave(16)))
    findings, seen = check_teacher(
        says(answers), data, 3, needs_logits=True, device=torch.device("cpu")
    )
    assert [f"{one.level}: {one.text}"[: len(found)] for one in findings] == [found]
    assert seen["rows"] == 48


def test_guessing_the_largest_class_is_chance():
    data = lb.Data((torch.zeros(48, 6), (torch.arange(48) >= 40).long()))
    same_answer = says(torch.zeros(48, dtype=torch.int64))
    findings, _ = check_teacher(same_answer, data, 3, needs_logits=True, device=torch.device("cpu"))
    assert [one.level for one in findings] == ["error"]
    assert "83.3% right on 48 rows, where guessing gives 83.3%" in findings[0].text


def test_the_teacher_is_looked_at_on_labelled_validation_rows():
    x, y = rows(30)
    partly = torch.where(torch.arange(30) < 10, -1, y)
    record = lb.distill(
        network(), good_teacher(), rows(), loss="kd", validation=(x, partly), **QUICK
    ).record
    assert record.teacher["slice"] == {"accuracy": 1.0, "rows": 20.0}


def test_unlabelled_rows_are_said():
    def texts(data):
        kept = []
        lb.distill(
            *(network(), good_teacher(), data),
            loss="kd",
            on_ready=lambda _, findings: bool(kept.extend(findings)),
            **QUICK,
        )
        return [f"{one.level}: {one.text}" for one in kept]

    x, y = rows()
    assert "fact: data: 8 of 48 rows are unlabelled." in texts(
        (x, torch.where(torch.arange(48) < 8, -1, y))
    )
    assert "warning: teacher: no labelled rows to look at its accuracy on." in texts(
        (x, torch.full_like(y, -1))
    )


@pytest.mark.parametrize("targets", [None, torch.full((48,), -1)])
def test_training_on_nothing_is_refused(targets):
    x, _ = rows()
    data = x if targets is None else (x, targets)
    before = network()
    with pytest.raises(PreflightError, match=r"no term has a gradient\. Give labels or a teacher"):
        lb.distill(before, None, data, **QUICK)
    assert same(before, network())
    taught = lb.distill(network(), good_teacher(), data, loss="kd", **QUICK)
    assert not same(taught.student, network())


def test_a_task_that_needs_no_targets_is_training_on_something():
    class Copies:  # the inputs' sum, which no label says
        def loss(self, outputs, batch):
            return (outputs.logits.sum(1) - batch.inputs.sum(1)).square().mean()

        def metrics(self, outputs, batch):
            return {}

    learnt = lb.distill(network(), None, rows()[0], task=Copies(), **QUICK)
    assert not same(learnt.student, network())


def test_rows_that_sum_to_one_are_probabilities():
    logits = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    soft = logits.softmax(1)
    found = check_scores("teacher", lb.Outputs(soft), "error")
    assert [one.level for one in found] == ["error"]
    assert "Remove the model's softmax, or let it return their logarithm." in found[0].text
    uneven = torch.cat([soft[:63], soft[63:] + 1e-3])
    for scores in (logits, logits.sigmoid(), soft.log(), uneven, soft[:1], torch.ones(8, 1)):
        assert check_scores("teacher", lb.Outputs(scores), "error") == []
    outside = torch.tensor([[1.5, -0.5], [2.0, -1.0]])  # rows that sum to one, yet are no chances
    assert check_scores("teacher", lb.Outputs(outside), "error") == []


def test_a_softmax_before_a_loss_on_logits_is_refused_unless_forced():
    soft_teacher = nn.Sequential(*good_teacher(), nn.Softmax(dim=1))
    with pytest.raises(PreflightError, match="teacher: expected logits; got probabilities"):
        lb.distill(network(), soft_teacher, rows(), loss="kd", **QUICK)
    with pytest.raises(PreflightError, match="student: expected logits; got probabilities"):
        lb.distill(nn.Sequential(*network(), nn.Softmax(dim=1)), None, rows(), **QUICK)
    forced = lb.distill(network(), soft_teacher, rows(), loss="kd", force=True, **QUICK).record
    assert any(text.startswith("forced: teacher: expected logits") for text in forced.warnings)
    # Features are all that ITRD reads: nothing is lost there.
    read = lb.distill(
        *(network(10), soft_teacher, rows()),
        loss="itrd",
        layers={"student": "1", "teacher": "1"},
        **QUICK,
    ).record
    assert any(text.startswith("teacher: expected logits") for text in read.warnings)
    logged = nn.Sequential(*good_teacher(), nn.LogSoftmax(dim=1))
    assert lb.distill(network(), logged, rows(), loss="kd", **QUICK).record.warnings == []


def test_labels_under_an_unknown_key_are_noticed():
    class Reads(nn.Module):
        def __init__(self, inside):
            super().__init__()
            self.inside = inside

        def forward(self, x, y=None, mask=None):
            return self.inside(x)

    def warned(**columns):
        student, teacher = Reads(network()), Reads(good_teacher())
        return lb.distill(student, teacher, columns, loss="kd", **QUICK).record.warnings

    x, y = rows()
    assert (
        "data: no row has a label, and key 'y' is taken as an input; labels are read from "
        "'labels' or 'label'."
    ) in warned(x=x, y=y)
    for others in ({"labels": y}, {"labels": y, "y": y}, {"mask": y > 0}, {"y": y * 1.0}):
        assert not any("is taken as an input" in text for text in warned(x=x, **others))


def test_permuted_classes_are_named():
    permuted = good_teacher()
    with torch.no_grad():
        permuted[2].weight.copy_(permuted[2].weight[[1, 2, 0]])
        permuted[2].bias.copy_(permuted[2].bias[[1, 2, 0]])
    with pytest.raises(PreflightError, match=r"0\.0% right as its classes stand, 100\.0% if"):
        lb.distill(network(), permuted, rows(), loss="kd", **QUICK)


def test_other_classes_are_an_error_under_a_logit_loss_only():
    wide = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 5))
    with torch.no_grad():
        wide[0].weight.copy_(good_teacher()[0].weight)
        wide[2].weight[:3].copy_(good_teacher()[2].weight)
        wide[2].bias.fill_(-9.0)
    with pytest.raises(PreflightError, match="expected 3 classes, as the student's; got 5"):
        lb.distill(network(), wide, rows(), loss="kd", **QUICK)
    record = lb.distill(network(), wide, rows(), loss="itrd", force=True, **QUICK).record
    assert any(text.startswith("teacher: expected 3 classes") for text in record.warnings)


def test_a_term_without_gradient_is_named():
    def constant(student, teacher, batch):
        return (teacher.logits**2).mean()

    with pytest.raises(PreflightError, match=r"OwnLoss \(term 0\) gives the student no gradient"):
        lb.distill(network(), good_teacher(), rows(), loss=constant, **QUICK)


def test_a_loss_that_is_not_a_scalar_is_named():
    student = network()
    with pytest.raises(ModelError, match=r"return a scalar tensor; got \(16, 3\)"):
        lb.distill(student, good_teacher(), rows(), loss=lambda s, t, b: s.logits, **QUICK)
    assert all(part.training for part in student.modules())


def test_a_loss_that_is_not_finite_is_named():
    def infinite(student, teacher, batch):
        return student.logits.mean() / 0.0

    with pytest.raises(PreflightError, match=r"loss: OwnLoss is -?inf"):
        lb.distill(network(), good_teacher(), rows(), loss=infinite, **QUICK)


def test_a_frozen_student_is_refused():
    with pytest.raises(ModelError, match="all are frozen"):
        lb.distill(network().requires_grad_(False), good_teacher(), rows(), **QUICK)


def test_student_and_teacher_may_not_be_one_object():
    model = network()
    with pytest.raises(ArgumentError, match="student and teacher are one object"):
        lb.distill(model, model, rows(), **QUICK)


def test_the_preflight_changes_nothing_of_the_student():
    student = network(norm=True, dropout=0.5).train()
    before = [part.clone() for part in student.state_dict().values()]
    views: list[int] = []

    def augment(inputs, index, view):
        views.extend(view.tolist())
        return inputs

    seen = lb.Data(rows(), augment=augment)
    stopped = lb.distill(
        student, good_teacher(), seen, loss="itrd", on_ready=lambda loop, findings: False, **QUICK
    )
    assert set(views) == {0}  # rows are looked at in the view that every store has
    assert stopped.student is student
    for was, now in zip(before, student.state_dict().values(), strict=True):
        assert torch.equal(was, now)


def test_inputs_that_were_normalised_before_are_noticed():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.full((1, 1, 1), 0.5))
            self.register_buffer("std", torch.full((1, 1, 1), 0.5))
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

        def forward(self, x):
            return self.body((x - self.mean) / self.std)

    images = torch.randn(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    record = lb.distill(Normalised(), None, (images, torch.arange(30) % 3), **QUICK).record
    assert "Were they normalised before?" in record.warnings[0]
    raw = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    pixels = images.sigmoid()
    record = lb.distill(
        Normalised(), raw, (pixels, torch.arange(30) % 3), loss="kd", force=True, **QUICK
    ).record
    assert any(text.startswith("teacher: sees raw pixels") for text in record.warnings)


def test_too_little_disk_is_an_error(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(2**30, 2**30, 1000))
    with pytest.raises(
        PreflightError, match="expected 16 MiB of free disk for checkpoints; got 0 MiB"
    ):
        lb.distill(network(), None, rows(), out=tmp_path / "run", **QUICK)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(2**30, 2**30, 2**24 + 1000))
    assert check_disk(tmp_path, [nn.Linear(5, 5)]) == []
    (found,) = check_disk(tmp_path, [nn.Linear(1024, 1024)])  # 4 MiB: twice its weights and state
    assert "expected 48 MiB of free disk for checkpoints; got 16 MiB" in found.text


def test_layers_that_do_not_exist_list_near_names():
    with pytest.raises(LayerError, match=r"student: .*got 'layer1'.*Its children are 0, 1, 2"):
        lb.distill(
            network(),
            good_teacher(),
            rows(),
            loss="itrd",
            layers={"student": "layer1", "teacher": "0"},
            **QUICK,
        )


def test_a_model_that_does_not_take_the_inputs_is_explained():
    wrong = nn.Sequential(nn.Linear(7, 3))
    with pytest.raises(ModelError, match=r"student: .*a batch of inputs \(16, 6\) float32 on cpu"):
        lb.distill(wrong, good_teacher(), rows(), **QUICK)
    assert all(part.training for part in wrong.modules())
    with pytest.raises(ModelError, match=r"teacher: .*a batch of inputs \(16, 6\) float32 on cpu"):
        lb.distill(network(), wrong, rows(), loss="kd", **QUICK)


def test_losses_that_are_not_finite_stop_the_run_with_advice():
    with pytest.raises(DataError, match=r"became (nan|inf|-inf).*Lower `learning_rate`"):
        lb.distill(network(), None, rows(), **QUICK | {"learning_rate": 1e30})


def test_out_of_memory_ends_in_advice(monkeypatch):
    def exhausted(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("limbeck.training.loop.Loop.run", exhausted)
    with pytest.raises(MemoryError, match=r"batch_size 16(.|\n)*accumulate=2(.|\n)*bf16"):
        lb.distill(network(), None, rows(), **QUICK)


def test_other_errors_stay_what_they_are(monkeypatch):
    def broken(self):
        raise RuntimeError("another problem")

    monkeypatch.setattr("limbeck.training.loop.Loop.run", broken)
    with pytest.raises(RuntimeError, match=r"^another problem$"):
        lb.distill(network(), None, rows(), **QUICK)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ArgumentError, match=r"device: expected one of cpu.*got 'cuda:7'"):
        lb.distill(network(), None, rows(), **QUICK | {"device": "cuda:7"})


def test_the_callers_data_set_is_left_as_it_was():
    x, y = rows()
    data = lb.Data(list(zip(x, y, strict=True)))
    lb.distill(network(), None, data, **QUICK)
    data.source.dataset = list(zip(x, torch.nn.functional.one_hot(y), strict=True))
    record = lb.distill(network(), None, data, task="multilabel", **QUICK).record
    assert record.status == "finished"
