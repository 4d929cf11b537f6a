"""Counts, calibration and agreement against scikit-learn, plain loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.special import rel_entr, softmax
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from limbeck.checks import ArgumentError, ShapeError
from limbeck.training.details import agreement, calibration, class_counts, details_of


def drawn(rows=60, classes=5, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator)
    return logits, torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_scikit_learn(seed):
    logits, targets = drawn(seed=seed)
    predicted = logits.argmax(1)
    found = class_counts(predicted, targets, 6)  # a class that neither has
    labels = list(range(6))
    assert found["confusion"] == confusion_matrix(targets, predicted, labels=labels).tolist()
    kept = {"labels": labels, "average": None, "zero_division": 0.0}
    right = np.array(found["right"])
    recall, precision = recall_score(targets, predicted, **kept), None
    assert right / np.maximum(found["rows"], 1) == pytest.approx(recall)
    precision = precision_score(targets, predicted, **kept)
    assert right / np.maximum(found["predicted"], 1) == pytest.approx(precision)


def test_a_confusion_matrix_is_kept_of_up_to_fifty_classes():
    classes = torch.arange(50)
    assert class_counts(classes, classes, 50)["confusion"] == torch.eye(50).int().tolist()
    assert "confusion" not in class_counts(classes, classes, 51)


def plain_error(probabilities, targets, bins):
    """Return the expected calibration error, as the paper writes it, and its bins."""
    error, found = 0.0, []
    for m in range(1, bins + 1):
        inside = [i for i, row in enumerate(probabilities) if (m - 1) / bins < max(row) <= m / bins]
        if not inside:
            found.append((0, None, None))
            continue
        right = sum(int(np.argmax(probabilities[i]) == targets[i]) for i in inside) / len(inside)
        sure = sum(max(probabilities[i]) for i in inside) / len(inside)
        error += len(inside) / len(probabilities) * abs(right - sure)
        found.append((len(inside), sure, right))
    return error, found


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 40),
    classes=st.integers(2, 6),
    bins=st.integers(1, 20),
    scale=st.floats(0.01, 20.0),
)
def test_calibration_is_the_papers_sum_over_bins(seed, rows, classes, bins, scale):
    logits, targets = drawn(rows, classes, seed, scale)
    found = calibration(logits, targets, bins=bins)
    error, expected = plain_error(softmax(logits.double().numpy(), 1).tolist(), targets, bins)
    assert found["error"] == pytest.approx(error, abs=1e-12)
    for one, (count, sure, right) in zip(found["bins"], expected, strict=True):
        assert one["rows"] == count
        if count:
            assert (one["confidence"], one["accuracy"]) == pytest.approx((sure, right))
        else:
            assert one["confidence"] is one["accuracy"] is None


def test_the_upper_edge_belongs_to_its_bin():
    logits = torch.zeros(3, 2)  # probability 1/2, the edge of the first of two
    found = calibration(logits, torch.tensor([0, 0, 1]), bins=2)
    assert [one["rows"] for one in found["bins"]] == [3, 0]
    assert found["error"] == pytest.approx(2 / 3 - 1 / 2)


def test_sure_and_right_is_without_error_and_sure_and_wrong_is_all_error():
    logits = 100 * torch.eye(3)
    assert calibration(logits, torch.arange(3))["error"] == pytest.approx(0.0, abs=1e-12)
    assert calibration(logits, torch.tensor([1, 2, 0]))["error"] == pytest.approx(1.0)


def test_agreement_is_the_divergence_from_the_teachers_distribution():
    student, targets = drawn(seed=1)
    teacher, _ = drawn(seed=2)
    found = agreement(student, teacher)
    p, q = (softmax(one.double().numpy(), 1) for one in (teacher, student))
    assert found["kl"] == pytest.approx(rel_entr(p, q).sum(1).mean())
    assert found["same_class"] == np.mean(p.argmax(1) == q.argmax(1))
    assert found["rows"] == len(targets)
    itself = agreement(student, student + 3.0)  # a shift changes no distribution
    assert itself["kl"] == pytest.approx(0.0, abs=1e-9)
    assert itself["same_class"] == 1.0


def test_details_are_over_labelled_rows():
    logits, targets = drawn()
    some = torch.where(torch.arange(len(targets)) % 3 == 0, -1, targets)
    found = details_of(logits, some)
    kept = some >= 0
    assert found["rows"] == int(kept.sum()) == sum(found["classes"]["rows"])
    assert found["classes"] == class_counts(logits[kept].argmax(1), targets[kept], 5)
    assert found["calibration"] == calibration(logits[kept], targets[kept])
    assert len(found["calibration"]["bins"]) == 15


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (torch.zeros(2, 3), None),
        (torch.zeros(2, 3), torch.tensor([-1, -1])),
        (torch.tensor([[0.0, math.nan]]), torch.tensor([0])),
        (torch.zeros(2, 3, 4), torch.tensor([0, 1])),
    ],
)
def test_nothing_is_said_without_labels_or_of_scores_that_are_none(logits, targets):
    assert details_of(logits, targets) == {}


def test_shapes_and_numbers_that_do_not_fit_are_refused():
    logits, targets = drawn()
    with pytest.raises(ShapeError, match="agreement: expected the same rows"):
        agreement(logits, logits[:, :4])
    with pytest.raises(ShapeError, match="class_counts: expected a prediction a target"):
        class_counts(targets[:3], targets, 5)
    with pytest.raises(ArgumentError, match="calibration: expected `bins` > 0"):
        calibration(logits, targets, bins=0)
