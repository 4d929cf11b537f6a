"""Moments in training mode: BatchNorm of the group, dropout alike for both losses."""

from __future__ import annotations

import pytest
import torch
from helpers.gradients import Convolutions, expected_moments, kd, mlp, rows
from torch import nn
from torch.nn import functional as F

from limbeck.randomness import generator
from limbeck.weighting.measuring.moments import gradient_moments


def of_groups(student, teacher, x, y, size):
    """One forward pass a group in training mode, two backward passes."""
    trained = dict(student.named_parameters())
    g, h = ({name: [] for name in trained} for _ in range(2))
    for inputs, targets in zip(x.split(size), y.split(size), strict=True):
        z, said = student(inputs), teacher(inputs).detach()
        task = F.cross_entropy(z, targets)
        for kept, loss in ((g, task), (h, task - kd(z, said))):
            found = torch.autograd.grad(loss, list(trained.values()), retain_graph=True)
            for name, one in zip(trained, found, strict=True):
                kept[name].append(one)
    return ({k: torch.stack(v) for k, v in side.items()} for side in (g, h))


def test_batch_norm_uses_the_groups_statistics():
    student, teacher, (x, y) = Convolutions(1), mlp(8, 2, inputs=36), rows(40, inputs=36)
    before = {name: one.clone() for name, one in student.named_buffers()}
    found = gradient_moments(student.eval(), teacher, (x, y), loss=kd, training=True, group_rows=8)
    assert not student.training
    assert all(torch.equal(one, before[name]) for name, one in student.named_buffers())
    order = torch.randperm(40, generator=generator(0, "moments"))
    g, h = of_groups(student.train(), teacher, x[order], y[order], 8)
    for name, value in expected_moments(g, h).items():
        factor = 8 if name.startswith("tr") else 1
        assert getattr(found, name) == pytest.approx(factor * value, rel=1e-9, abs=1e-12), name
    assert (found.settings["method"], found.units, found.curvature) == ("groups", 5, None)


def test_dropout_is_the_same_for_both_losses():
    """q = p makes h the same as g only if both saw one mask."""
    student = nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 3)).double()
    said = {}

    class Itself(nn.Module):
        """A distillation loss whose gradient is zero: h is g."""

        mean_over_samples = True

        def forward(self, s, t, batch):
            said[len(said)] = s.logits.detach()
            return (s.logits * 0).sum()

    found = gradient_moments(
        student, mlp(8, 2), rows(40), loss=Itself(), training=True, group_rows=4
    )
    assert found.tr_gh == pytest.approx(found.tr_gg, rel=1e-12)
    assert found.tr_hh == pytest.approx(found.tr_gg, rel=1e-12)
    # Two passes over ten groups, each with the masks of the first.
    assert len(said) == 20
    assert all(torch.equal(said[at], said[at + 10]) for at in range(10))


def test_the_generator_of_the_process_is_left_alone():
    student = nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 3)).double()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = gradient_moments(student, mlp(8, 2), rows(40), loss=kd, training=True)
    assert torch.equal(torch.rand(3), expected)
    second = gradient_moments(student, mlp(8, 2), rows(40), loss=kd, training=True)
    other = gradient_moments(student, mlp(8, 2), rows(40), loss=kd, training=True, seed=1)
    assert first.tr_gh == second.tr_gh != other.tr_gh
