"""Outputs and answers tensor by tensor."""

from __future__ import annotations

import torch

import limbeck as lb


def test_map_reaches_every_tensor():
    labels = torch.tensor([[1, 2], [3, -1], [0, 4]])
    answers = lb.Answers(labels, -labels.double(), labels + 5)
    outputs = lb.Outputs(labels.float(), {"a": labels * 2, "b": labels * 3}, answers)
    found = outputs.map(lambda value: value[1:])
    assert torch.equal(found.logits, labels[1:].float())
    assert {name: value.tolist() for name, value in found.features.items()} == {
        "a": [[6, -2], [0, 8]],
        "b": [[9, -3], [0, 12]],
    }
    assert torch.equal(found.answers.labels, labels[1:])
    assert torch.equal(found.answers.log_probabilities, -labels[1:].double())
    assert torch.equal(found.answers.counts, labels[1:] + 5)


def test_map_leaves_out_what_is_not_there():
    found = lb.Outputs(None, answers=lb.Answers(torch.zeros(2, 1))).map(lambda value: value + 1)
    assert found.logits is None
    assert found.answers.log_probabilities is None
    assert found.answers.counts is None
    assert not found.answers.drawn
    assert lb.Outputs(torch.zeros(1)).map(lambda value: value).answers is None
