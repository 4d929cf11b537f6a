"""Every loss by name in the real loop, between networks of unlike widths and sizes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from helpers.small import QUICK, weights_of
from torch import nn

import limbeck as lb
from limbeck.losses import LOSSES
from limbeck.students import reusing_head


CLASSES = 4
NAMES = [n for n, kind in LOSSES.items() if getattr(kind, "tasks", None) != {"language_model"}]


def convolutional(widths: tuple[int, int, int], strides: tuple[int, int, int], seed: int):
    """Return three named stages and a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages, channels = [], 3
        for place, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
            step = nn.Conv2d(channels, width, 3, stride, 1)
            stages.append((f"layer{place}", nn.Sequential(step, nn.BatchNorm2d(width), nn.ReLU())))
            channels = width
        end = [("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten())]
        return nn.Sequential(
            OrderedDict([*stages, *end, ("classifier", nn.Linear(channels, CLASSES))])
        )


def images(count: int = 48):
    """Return images whose class is the brightest corner; a fifth have no label."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(count, 3, 8, 8, generator=generator), torch.arange(count) % CLASSES
    for row, label in enumerate(y.tolist()):
        x[row, :, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 1.0
    return x, torch.where(torch.arange(count) % 5 == 4, -1, y)


@pytest.fixture(scope="module")
def teacher():
    network = convolutional((6, 8, 10), (1, 2, 1), seed=1)
    x, y = images()
    options = QUICK | {"epochs": 12}
    return lb.distill(network, None, (x, y), **options).student


@pytest.mark.parametrize("name", NAMES)
def test_trains_the_student_and_all_its_own_parameters(name, teacher):
    student = convolutional((4, 4, 6), (1, 2, 2), seed=2)
    if name == "simkd":
        student = reusing_head(student, teacher, example=images()[0])
    loss = LOSSES[name]()
    before = weights_of(student)
    shapes = {}

    def noted(module, *_):
        # What `prepare` made is there from the first call on.
        if not shapes:
            shapes.update({key: p.detach().clone() for key, p in module.named_parameters()})

    loss.register_forward_pre_hook(noted)
    options = QUICK | {"epochs": 4, "learning_rate": 1e-3, "clip": 10.0}
    record = lb.distill(student, teacher, images(), loss=loss, **options).record
    curve = [value for value in record.curves["loss distillation"] if value is not None]
    assert curve
    assert all(abs(value) < 1e6 for value in curve)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights_of(student), strict=True))
    still = [key for key, p in loss.named_parameters() if torch.equal(p, shapes[key])]
    assert still == []
