"""Every task from the first day: with labels, with few, and with none."""

from __future__ import annotations

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError
from limbeck.training.evaluate import evaluate


def test_regression_without_labels_comes_near_the_teacher():
    x, _ = rows(200)
    teacher = network(width=10, outputs=1, seed=3)
    student = network(outputs=1, seed=4)

    def error(model):
        with torch.no_grad():
            return ((model(x) - teacher(x)) ** 2).mean().item()

    before = error(student)
    result = lb.distill(
        student, teacher, x, task="regression", loss="match", **QUICK | {"epochs": 30}
    )
    assert error(result.student) < 0.1 * before
    assert result.record.curves["loss task"] == [0.0] * 30


def test_regression_metrics_on_labelled_validation():
    x, _ = rows(200)
    y = x @ torch.arange(1.0, 7.0)
    result = lb.distill(
        network(width=32, outputs=1, seed=4),
        None,
        (x[:150], y[:150]),
        task="regression",
        validation=(x[150:], y[150:]),
        **QUICK | {"epochs": 40, "learning_rate": 0.002},
    )
    with torch.no_grad():
        predicted = result.student(x[150:])[:, 0]
    found = result.record.results["last"]["validation"]
    assert found["mse"] == pytest.approx(((predicted - y[150:]) ** 2).mean().item(), rel=1e-5)
    assert found["r2"] > 0.5


@pytest.mark.parametrize("loss", [{"name": "match", "distance": "cosine"}, "itrd"])
def test_embedding_without_labels_matches_the_teachers_vectors(loss):
    x, _ = rows(200)
    teacher, student = network(width=10, outputs=4, seed=3), network(outputs=4, seed=4)
    start = evaluate(student, x, "embedding", teacher=_teacher(teacher))
    result = lb.distill(
        student,
        teacher,
        x,
        task="embedding",
        loss=loss,
        validation=x[:50],
        layers={"student": "0", "teacher": "0"} if loss == "itrd" else None,
        **QUICK | {"epochs": 20},
    )
    found = result.record.results["last"]["validation"]
    assert set(found) == {"cosine", "retrieval"}
    if loss != "itrd":
        assert found["cosine"] > max(0.95, start["cosine"])


def _teacher(module):
    return lambda batch: lb.Outputs(module(batch.inputs).detach())


def test_rows_are_evaluated_unaugmented():
    x, y = rows()
    lost = lb.Data((x, y), augment=lambda inputs, index, view: 0 * inputs)
    assert evaluate(good_teacher(), lost) == evaluate(good_teacher(), (x, y))
    assert evaluate(good_teacher(), lost)["accuracy"] == 1.0


def test_multilabel_learns():
    x, _ = rows(200)
    y = (x[:, :3] > 0).long()
    result = lb.distill(
        network(width=32),
        None,
        (x, y),
        task="multilabel",
        validation=(x, y),
        **QUICK | {"epochs": 30},
    )
    assert result.record.results["last"]["validation"]["average_precision"] > 0.95


def test_unlabelled_rows_count_in_the_distillation_term_alone():
    x, y = rows()
    unlabelled = torch.full_like(y, -1)
    distilled = lb.distill(
        network(), good_teacher(), (x, unlabelled), loss="kd", weight=1.0, **QUICK
    )
    labelled = lb.distill(network(), good_teacher(), (x, y), loss="kd", weight=1.0, **QUICK)
    assert same(distilled.student, labelled.student)
    assert "data: no row is labelled; the task term is zero." in distilled.record.warnings


def test_partly_labelled_rows_average_over_the_labelled():
    x, y = rows()
    few = torch.where(torch.arange(48) < 12, y, -1)
    record = lb.distill(network(), good_teacher(), (x, few), loss="kd", **QUICK).record
    assert record.data["labelled"] == 12
    every = lb.distill(network(), good_teacher(), (x, y), loss="kd", **QUICK).record
    assert record.curves["loss task"] != every.curves["loss task"]


def test_dict_inputs_reach_both_models():
    class Encoder(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.words = nn.Embedding(20, width)
            self.head = nn.Linear(width, 3)

        def forward(self, input_ids, attention_mask):
            kept = attention_mask[..., None].float()
            return self.head((self.words(input_ids) * kept).sum(1) / kept.sum(1))

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 20, (60, 5), generator=generator)
    targets = tokens[:, 0] % 3
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    result = lb.distill(
        Encoder(4),
        Encoder(8),
        (inputs, targets),
        loss="itrd",
        layers={"student": "words", "teacher": "words"},
        **QUICK | {"force": True, "epochs": 1},
    )
    assert result.record.status == "finished"


def test_sample_weights_of_zero_are_rows_without_labels():
    x, y = rows()
    kept = torch.arange(48) < 24
    weighted = lb.distill(network(), None, lb.Data((x, y), weights=kept.float()), **QUICK)
    missing = lb.distill(network(), None, (x, torch.where(kept, y, -1)), **QUICK)
    assert same(weighted.student, missing.student)


def test_the_users_own_task_and_loss():
    class Margin:
        name = "margin"
        selection = ("accuracy", "max")

        def loss(self, outputs, batch):
            return nn.functional.multi_margin_loss(outputs.logits, batch.targets)

        def metrics(self, outputs, batch):
            return {"accuracy": (outputs.logits.argmax(1) == batch.targets).float().mean().item()}

    def closeness(student, teacher, batch):
        return (student.logits - teacher.logits).abs().mean()

    record = lb.distill(
        network(),
        good_teacher(),
        rows(),
        task=Margin(),
        loss=closeness,
        validation=rows(30),
        **QUICK,
    ).record
    assert record.settings["task"] == "margin"
    assert record.settings["loss"] == "OwnLoss"
    assert 0 <= record.results["best"]["validation"]["accuracy"] <= 1


@pytest.mark.parametrize("task", ["regression", "multilabel", "embedding"])
def test_what_a_loss_cannot_do_for_a_task_is_refused_by_name(task):
    with pytest.raises(ArgumentError, match=f"KD is for classification; the task is {task}.*match"):
        lb.distill(network(), good_teacher(), rows(), task=task, loss="kd", **QUICK)


def test_float64_models_train_in_float64():
    student, teacher = network().double(), good_teacher().double()
    result = lb.distill(student, teacher, rows(), loss="itrd", **QUICK)
    assert all(part.dtype == torch.float64 for part in result.student.state_dict().values())
