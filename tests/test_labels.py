"""Cross-entropy against golden values, plain loops and torch."""

import math

import jaxtyping
import pytest
import torch
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.labels import cross_entropy


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0, 0.7], dtype=torch.float64)
CLASSES = torch.tensor([1.0, 0.2, 3.0, 0.5, 2.0], dtype=torch.float64)


def logits() -> torch.Tensor:
    """Section 8.3 of the reference: 6 samples, 5 classes."""
    i = torch.arange(6, dtype=torch.float64)[:, None]
    j = torch.arange(5, dtype=torch.float64)
    return 2 * torch.sin(0.4 + 1.1 * i + 0.6 * j + 0.3 * i * j)


def test_golden_value():
    assert cross_entropy(logits(), LABELS).item() == pytest.approx(2.462914546556, rel=1e-12)


def test_unlabelled_rows_are_left_out():
    some = torch.tensor([0, -1, 2, -1, -1, 0])
    kept = [0, 2, 5]
    value = cross_entropy(logits(), some).item()
    assert value == pytest.approx(cross_entropy(logits()[kept], LABELS[kept]).item(), rel=1e-14)
    weighted = cross_entropy(logits(), some, weights=WEIGHTS, class_weights=CLASSES).item()
    expected = cross_entropy(
        logits()[kept], LABELS[kept], weights=WEIGHTS[kept], class_weights=CLASSES
    )
    assert weighted == pytest.approx(expected.item(), rel=1e-14)


@pytest.mark.parametrize("weights", [None, WEIGHTS * 0])
def test_nothing_to_learn_from_is_zero_with_a_graph(weights):
    student = logits().requires_grad_()
    targets = torch.full((6,), -1) if weights is None else LABELS
    loss = cross_entropy(student, targets, weights=weights, class_weights=CLASSES)
    assert loss.item() == 0.0
    assert (torch.autograd.grad(loss, student)[0] == 0).all()


def test_weighted_mean_in_plain_loops():
    total = above = 0.0
    for row, label, weight in zip(
        logits().tolist(), LABELS.tolist(), WEIGHTS.tolist(), strict=True
    ):
        each = math.log(sum(math.exp(z) for z in row)) - row[label]
        above += weight * CLASSES[label].item() * each
        total += weight * CLASSES[label].item()
    value = cross_entropy(logits(), LABELS, weights=WEIGHTS, class_weights=CLASSES).item()
    assert value == pytest.approx(above / total, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("class_weights", [None, CLASSES])
def test_equals_torch(smoothing, class_weights):
    some = torch.tensor([0, -1, 2, 3, -1, 0])
    value = cross_entropy(
        logits(), some, class_weights=class_weights, label_smoothing=smoothing
    ).item()
    theirs = F.cross_entropy(
        logits(), some, weight=class_weights, ignore_index=-1, label_smoothing=smoothing
    )
    assert value == pytest.approx(theirs.item(), rel=1e-13)


def test_gradient():
    student = logits().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: cross_entropy(z, LABELS, weights=WEIGHTS, label_smoothing=0.2), student
    )


def test_scale_and_float_types():
    student = (logits() * 1e4).float().requires_grad_()
    loss = cross_entropy(student, LABELS)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()
    narrow = cross_entropy(logits().bfloat16(), LABELS, weights=WEIGHTS.float())
    exact = cross_entropy(logits().bfloat16().double(), LABELS, weights=WEIGHTS)
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-6)


def test_int32_targets():
    with_classes = cross_entropy(logits(), LABELS.int(), class_weights=CLASSES).item()
    assert with_classes == cross_entropy(logits(), LABELS, class_weights=CLASSES).item()


def test_messages():
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ShapeError, match=r"logits \(6, 5\), targets \(5,\)"):
            cross_entropy(logits(), LABELS[:5])
        with pytest.raises(ShapeError, match=r"weights \(5,\)"):
            cross_entropy(logits(), LABELS, weights=WEIGHTS[:5])
        with pytest.raises(ShapeError, match=r"class_weights \(4,\)"):
            cross_entropy(logits(), LABELS, class_weights=CLASSES[:4])
        with pytest.raises(ShapeError, match=r"student_logits \(6,\)"):
            cross_entropy(logits()[:, 0], LABELS)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    with pytest.raises(ArgumentError, match=r"`label_smoothing` in \[0.0, 1.0\]; got 1.1"):
        cross_entropy(logits(), LABELS, label_smoothing=1.1)
