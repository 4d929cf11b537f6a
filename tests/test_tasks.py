"""Each task against plain loops, torch and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional as F

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.language_model import LanguageModel
from limbeck.tasks import (
    TASKS,
    Classification,
    Embedding,
    MultiLabel,
    Regression,
    selection_of,
    task_of,
)
from limbeck.types import Batch, Outputs, Task


def drawn(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def batch(targets, rows=12, weights=None):
    index = torch.arange(rows)
    return Batch({}, targets, index, index * 0, weights)


LOGITS = drawn(12, 7)
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4])
SOME = torch.where(torch.arange(12) % 3 == 1, -1, LABELS)
KEPT = SOME >= 0
WEIGHTS = torch.linspace(0.0, 3.0, 12)
CLASSES = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)


def loss_of(task, logits, targets, weights=None):
    return task.loss(Outputs(logits), batch(targets, len(logits), weights))


class TestClassification:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
    @pytest.mark.parametrize("classes", [None, CLASSES])
    def test_equals_torch(self, classes, smoothing):
        task = Classification(class_weights=classes, label_smoothing=smoothing)
        for targets in (LABELS, SOME):
            theirs = F.cross_entropy(
                LOGITS, targets, weight=classes, label_smoothing=smoothing, ignore_index=-1
            )
            assert loss_of(task, LOGITS, targets).item() == pytest.approx(theirs.item(), rel=1e-12)

    def test_weights_of_rows_in_plain_loops(self):
        above = below = 0.0
        for row, label, weight in zip(
            LOGITS.tolist(), SOME.tolist(), WEIGHTS.tolist(), strict=True
        ):
            if label >= 0:
                share = weight * CLASSES[label].item()
                above += share * (math.log(sum(map(math.exp, row))) - row[label])
                below += share
        found = loss_of(Classification(class_weights=CLASSES), LOGITS, SOME, WEIGHTS)
        assert found.item() == pytest.approx(above / below, rel=1e-9)

    @pytest.mark.parametrize("targets", [None, torch.full((12,), -1)])
    def test_no_labels_no_gradient(self, targets):
        logits = LOGITS.clone().requires_grad_()
        value = loss_of(Classification(), logits, targets)
        assert value.item() == 0.0
        assert (torch.autograd.grad(value, logits)[0] == 0).all()

    def test_metrics(self):
        found = Classification().metrics(Outputs(LOGITS), batch(SOME))
        logits, labels = LOGITS[KEPT].numpy(), SOME[KEPT].numpy()
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        names = list(range(7))
        assert found == pytest.approx(
            {
                "accuracy": metrics.accuracy_score(labels, logits.argmax(1)),
                "cross_entropy": metrics.log_loss(labels, shares, labels=names),
                "accuracy_top5": metrics.top_k_accuracy_score(labels, logits, k=5, labels=names),
            }
        )

    def test_top5_needs_more_than_five_classes(self):
        found = Classification().metrics(Outputs(LOGITS[:, :5]), batch(LABELS % 5))
        assert set(found) == {"accuracy", "cross_entropy"}

    def test_metrics_without_labels(self):
        assert Classification().metrics(Outputs(LOGITS), batch(LABELS * 0 - 1)) == {}
        with pytest.raises(ArgumentError, match="expected targets to evaluate on"):
            Classification().metrics(Outputs(LOGITS), batch(None))

    def test_half_precision_is_scored_in_float32(self):
        value = loss_of(Classification(), LOGITS.bfloat16(), SOME, WEIGHTS)
        wide = loss_of(Classification(), LOGITS.bfloat16().float(), SOME, WEIGHTS)
        assert value.dtype == torch.float32
        assert value.item() == wide.item()

    def test_real_numbers_are_no_classes(self):
        for action in (
            lambda: loss_of(Classification(), LOGITS, LABELS.float()),
            lambda: Classification().metrics(Outputs(LOGITS), batch(LABELS.float())),
        ):
            with pytest.raises(
                DataError, match=r"integer class indices.*got float32 of shape \(12,\)"
            ):
                action()

    def test_columns_of_targets_are_refused(self, without_shape_hook):
        with pytest.raises(ShapeError, match=r"targets \(12, 1\)"):
            loss_of(Classification(), LOGITS, LABELS[:, None])

    @pytest.mark.parametrize("smoothing", [-0.1, 1.5])
    def test_smoothing_range(self, smoothing):
        with pytest.raises(ArgumentError, match="`label_smoothing` in"):
            Classification(label_smoothing=smoothing)


SEVERAL = (drawn(12, 3, seed=1) > 0).long()
GAPS = torch.where(drawn(12, 3, seed=2) > 0.8, -1, SEVERAL)


class TestMultiLabel:
    @pytest.mark.parametrize("real", [False, True])
    def test_loss_in_plain_loops(self, real):
        logits, above, below = drawn(12, 3, seed=3), 0.0, 0.0
        for row in range(12):
            for column in range(3):
                truth, score = GAPS[row, column].item(), logits[row, column].item()
                if truth >= 0:
                    share = 1 / (1 + math.exp(-score))
                    weight = WEIGHTS[row].item()
                    above -= weight * math.log(share if truth else 1 - share)
                    below += weight
        targets = torch.where(GAPS < 0, torch.nan, GAPS.double()) if real else GAPS
        found = loss_of(MultiLabel(), logits, targets, WEIGHTS).item()
        assert found == pytest.approx(above / below, rel=1e-9)
        assert found != pytest.approx(loss_of(MultiLabel(), logits, targets).item(), rel=1e-3)

    @pytest.mark.parametrize("targets", [None, GAPS * 0 - 1])
    def test_no_labels_no_gradient(self, targets):
        logits = drawn(12, 3).requires_grad_()
        value = loss_of(MultiLabel(), logits, targets)
        assert value.item() == 0.0
        assert (torch.autograd.grad(value, logits)[0] == 0).all()

    def test_metrics(self):
        logits = drawn(12, 4, seed=3)
        targets = torch.cat([GAPS, torch.ones(12, 1, dtype=torch.int64)], dim=1)  # one constant
        expected = {"average_precision": 0.0, "f1": 0.0}
        for column in range(3):
            rows = targets[:, column] >= 0
            truth, score = targets[rows, column].numpy(), logits[rows, column].numpy()
            expected["average_precision"] += metrics.average_precision_score(truth, score) / 3
            expected["f1"] += metrics.f1_score(truth, score > 0) / 3
        known = targets >= 0
        expected["cross_entropy"] = F.binary_cross_entropy_with_logits(
            logits[known], targets[known].double()
        ).item()
        found = MultiLabel().metrics(Outputs(logits.requires_grad_()), batch(targets, 12, WEIGHTS))
        assert found == pytest.approx(expected)
        assert MultiLabel().metrics(Outputs(logits), batch(targets * 0 - 1)) == {}

    def test_shapes_and_values_are_checked(self):
        with pytest.raises(ShapeError, match=r"shape \(12, 3\).*got \(12,\)"):
            loss_of(MultiLabel(), drawn(12, 3), LABELS)
        with pytest.raises(ShapeError, match=r"shape \(12, 3\).*got \(12, 2\)"):
            MultiLabel().metrics(Outputs(drawn(12, 3)), batch(GAPS[:, :2]))
        with pytest.raises(DataError, match="targets of 0 or 1"):
            MultiLabel().metrics(Outputs(drawn(12, 3)), batch(GAPS * 2))

    def test_half_precision_is_scored_in_float32(self):
        value = loss_of(MultiLabel(), drawn(12, 3).bfloat16(), GAPS)
        assert value.dtype == torch.float32
        assert value.item() == loss_of(MultiLabel(), drawn(12, 3).bfloat16().float(), GAPS).item()


class TestRegression:
    def test_loss_in_plain_loops(self):
        predictions, targets = drawn(12, 2), drawn(12, 2, seed=5)
        targets[3, 1] = targets[7, 0] = torch.nan
        above = below = 0.0
        for row in range(12):
            for column in range(2):
                truth = targets[row, column].item()
                if not math.isnan(truth):
                    weight = WEIGHTS[row].item()
                    above += weight * (predictions[row, column].item() - truth) ** 2
                    below += weight
        found = loss_of(Regression(), predictions, targets, WEIGHTS)
        assert found.item() == pytest.approx(above / below, rel=1e-9)

    def test_columns_and_vectors_meet(self):
        predictions, targets = drawn(12), drawn(12, seed=5)
        expected = ((predictions - targets) ** 2).mean().item()
        for shown in (predictions, predictions[:, None]):
            for given in (targets, targets[:, None]):
                assert loss_of(Regression(), shown, given).item() == pytest.approx(expected)
                found = Regression().metrics(Outputs(shown), batch(given))
                assert found["mse"] == pytest.approx(expected)

    @pytest.mark.parametrize("targets", [None, torch.full((12, 2), torch.nan)])
    def test_no_targets_no_gradient(self, targets):
        predictions = drawn(12, 2).requires_grad_()
        value = loss_of(Regression(), predictions, targets)
        assert value.item() == 0.0
        assert (torch.autograd.grad(value, predictions)[0] == 0).all()

    def test_metrics(self):
        predictions, targets = drawn(12, 2), drawn(12, 2, seed=5)
        targets[4, 0] = torch.nan
        rows = [row for row in range(12) if row != 4]
        truth, said = targets[rows].numpy(), predictions[rows].numpy()
        assert Regression().metrics(Outputs(predictions), batch(targets)) == pytest.approx(
            {
                "mse": metrics.mean_squared_error(truth, said),
                "mae": metrics.mean_absolute_error(truth, said),
                "r2": metrics.r2_score(truth, said),
            }
        )
        assert Regression().metrics(Outputs(predictions), batch(targets * torch.nan)) == {}

    def test_constant_targets_have_no_r2(self):
        found = Regression().metrics(Outputs(drawn(12)), batch(torch.ones(12)))
        assert set(found) == {"mse", "mae"}

    def test_widths_are_checked(self):
        with pytest.raises(ShapeError, match=r"shape \(12, 2\).*got \(12, 1\)"):
            loss_of(Regression(), drawn(12, 2), drawn(12))
        with pytest.raises(ShapeError, match=r"shape \(12, 2\).*got \(12, 1\)"):
            Regression().metrics(Outputs(drawn(12, 2)), batch(drawn(12)))

    def test_half_precision_is_scored_in_float32(self):
        targets = drawn(12, 2, seed=5) + 100
        said = (targets + drawn(12, 2)).bfloat16()
        value = loss_of(Regression(), said, targets)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(
            loss_of(Regression(), said.double(), targets).item(), rel=1e-4
        )


def nearest_in_loops(vectors):
    found = []
    for i, a in enumerate(vectors):
        scores = [
            -math.inf
            if i == j
            else sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
            for j, b in enumerate(vectors)
        ]
        found.append(scores.index(max(scores)))
    return found


class TestEmbedding:
    def test_metrics_in_plain_loops(self):
        student = drawn(12, 3) * torch.arange(1, 13)[:, None]
        teacher = drawn(12, 3) + 0.3 * drawn(12, 3, seed=9)
        found = Embedding().metrics(Outputs(student), batch(teacher))
        pairs = list(zip(student.tolist(), teacher.tolist(), strict=True))
        cosines = [
            sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
            for a, b in pairs
        ]
        same = [
            a == b
            for a, b in zip(
                nearest_in_loops(student.tolist()), nearest_in_loops(teacher.tolist()), strict=True
            )
        ]
        assert 0 < sum(same) < 12
        assert found == pytest.approx({"cosine": sum(cosines) / 12, "retrieval": sum(same) / 12})

    def test_blocks_do_not_change_the_neighbours(self):
        vectors = drawn(1500, 4).float()
        turned = torch.linalg.qr(drawn(4, 4, seed=3).float()).Q
        found = Embedding().metrics(Outputs(vectors @ turned), batch(vectors, 1500))
        assert found["retrieval"] > 0.999
        shifted = Embedding().metrics(Outputs(vectors), batch(vectors.roll(1, 0), 1500))
        assert shifted["retrieval"] < 0.01

    def test_widths_may_differ(self):
        wide = torch.cat([LOGITS, torch.zeros(12, 2)], dim=1)
        assert Embedding().metrics(Outputs(LOGITS), batch(wide)) == {"retrieval": 1.0}

    def test_one_row_and_no_targets(self):
        one = Embedding().metrics(Outputs(LOGITS[:1]), batch(LOGITS[:1], 1))
        assert one == pytest.approx({"cosine": 1.0})
        assert Embedding().metrics(Outputs(LOGITS), batch(None)) == {}

    def test_the_loss_is_nothing(self):
        logits = LOGITS.clone().requires_grad_()
        value = loss_of(Embedding(), logits, None)
        assert value.item() == 0.0
        assert (torch.autograd.grad(value, logits)[0] == 0).all()


class Own:
    def loss(self, outputs, batch):
        return outputs.logits.mean()

    def metrics(self, outputs, batch):
        return {"size": float(len(batch))}


def test_names_and_own_objects():
    assert {name: type(task_of(name)) for name in TASKS} == {
        "classification": Classification,
        "multilabel": MultiLabel,
        "regression": Regression,
        "embedding": Embedding,
        "language_model": LanguageModel,
    }
    own = Own()
    assert task_of(own) is own
    assert selection_of(own) == (None, "max")
    assert [selection_of(task_of(name)) for name in TASKS] == [
        ("accuracy", "max"),
        ("average_precision", "max"),
        ("mse", "min"),
        ("cosine", "max"),
        ("cross_entropy", "min"),
    ]
    assert all(isinstance(task_of(name), Task) for name in TASKS)


def test_unknown_tasks(without_shape_hook):
    with pytest.raises(ArgumentError, match=r"got 'clasification'. Did you mean classification"):
        task_of("clasification")
    with pytest.raises(ArgumentError, match=r"an object with loss\(outputs, batch\).*got dict"):
        task_of({})


@pytest.mark.parametrize("name", list(TASKS))
def test_features_alone_are_no_output(name):
    with pytest.raises(ArgumentError, match=f"{name}: expected a model with outputs"):
        task_of(name).loss(Outputs(None), batch(LABELS))
