"""Losses on drawn labels in the real loop: a teacher is asked once about a sample, and no more."""

from __future__ import annotations

import pytest
import torch
from helpers.small import QUICK
from torch import nn

import limbeck as lb
from limbeck.losses import LOSSES


DRAWN = ("sampled_labels", "naive_probability", "sel", "k3", "control_variate")
ROWS, CLASSES = 60, 4


def network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(0))
    return x, torch.full((ROWS,), -1)  # no true labels at all


def asked(name: str, redraw: bool) -> dict[int, set[int]]:
    """Return every label that a sample's student has seen in four epochs."""
    loss = LOSSES[name](seed=3, redraw=redraw)
    seen: dict[int, set[int]] = {}

    def note(module, args):
        _, teacher, batch = args
        labels, _ = module.drawn(teacher.logits, batch)
        for index, label in zip(batch.index.tolist(), labels[:, 0].tolist(), strict=True):
            seen.setdefault(index, set()).add(label)

    loss.register_forward_pre_hook(note)
    options = QUICK | {"epochs": 4}
    record = lb.distill(network(1), network(0), rows(), loss=loss, **options).record
    assert all(abs(value) < 1e3 for value in record.curves["loss distillation"])
    assert len(seen) == ROWS
    return seen


@pytest.mark.parametrize("name", DRAWN)
def test_one_label_a_sample_for_the_whole_run(name):
    assert all(len(labels) == 1 for labels in asked(name, False).values())


def test_redraw_asks_again_in_every_epoch():
    assert sum(len(labels) > 1 for labels in asked("k3", True).values()) > ROWS / 2


def total_variation(student: nn.Module, teacher: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        difference = student(x).softmax(1) - teacher(x).softmax(1)
    return 0.5 * difference.abs().sum(1).mean().item()


def test_what_the_privileges_are_worth():
    """With one draw a sample the numbers beat the labels alone; the mistake ends elsewhere."""
    teacher = network(0)
    with torch.no_grad():
        teacher[2].weight.mul_(4.0)
    x = torch.randn(600, 5, generator=torch.Generator().manual_seed(1))
    fresh = torch.randn(2000, 5, generator=torch.Generator().manual_seed(2))
    found = {}
    for name in DRAWN:
        student = lb.distill(
            network(1), teacher, (x, torch.full((600,), -1)), loss=name, weight=1.0,
            epochs=40, batch_size=100, learning_rate=0.02, optimizer="adamw", seed=0,
        ).student  # fmt: skip
        found[name] = total_variation(student, teacher, fresh)
    for name in ("sel", "k3", "control_variate"):
        assert found[name] < 0.6 * found["sampled_labels"], found
    assert found["naive_probability"] > 1.2 * found["sampled_labels"], found
