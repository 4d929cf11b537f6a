"""Teachers that answer with labels, in the real loop: as live ones, and refused before a step."""

from __future__ import annotations

import pytest
import torch
from helpers.answers import Answering
from helpers.small import QUICK, good_teacher, network, rows, same

import limbeck as lb
from limbeck.checks import ArgumentError
from limbeck.losses import LOSSES
from limbeck.training.evaluate import evaluate, outputs_over
from limbeck.training.halves import split
from limbeck.types import Answers, Batch, Outputs


@pytest.mark.parametrize("name", ["k3", "sampled_labels", "control_variate", "sampled_counts"])
def test_a_run_on_answers_is_the_run_on_live_draws(name):
    runs = [
        lb.distill(network(), teacher, rows(), loss=LOSSES[name](draws=2, seed=3), **QUICK)
        for teacher in (good_teacher(), Answering(good_teacher(), 2, seed=3))
    ]
    assert runs[0].record.curves == runs[1].record.curves
    assert same(runs[0].student, runs[1].student)


def test_measured_weights_cut_answers_into_halves():
    runs = [
        lb.distill(
            network(),
            teacher,
            rows(),
            loss=LOSSES["k3"](draws=2, seed=3),
            weight="auto",
            **QUICK,
        )
        for teacher in (good_teacher(), Answering(good_teacher(), 2, seed=3))
    ]
    assert runs[0].record.curves == runs[1].record.curves


def test_split():
    labels = torch.arange(10).reshape(5, 2)
    batch = Batch(torch.zeros(5, 1), None, torch.arange(5), torch.zeros(5).long())
    said = Outputs(labels + 0.5, {"a": labels * 2}, Answers(labels, -labels.float(), labels + 1))
    halves = split(batch, [said], 3)
    for half, expected in zip(halves, (labels[:3], labels[3:]), strict=True):
        assert half is not None
        (part,) = half[1]
        assert torch.equal(part.logits, expected + 0.5)
        assert torch.equal(part.features["a"], expected * 2)
        assert torch.equal(part.answers.labels, expected)
        assert torch.equal(part.answers.counts, expected + 1)


def test_a_loss_on_whole_rows_is_refused_before_training():
    with pytest.raises(
        ArgumentError, match=r"KD: expected the teacher's logits.*Take control_vari"
    ):
        lb.distill(network(), Answering(good_teacher(), 1), rows(), loss="kd", **QUICK)


def test_a_teacher_without_logits_is_run_all_the_same():
    teacher = Answering(good_teacher(), 1)
    outputs, batch = outputs_over(teacher, rows(20))
    assert outputs.logits is None
    assert batch.targets.tolist() == rows(20)[1].tolist()
    assert evaluate(network(), rows(20)[0], teacher=teacher) == {}
