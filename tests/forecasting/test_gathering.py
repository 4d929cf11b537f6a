"""The figures of a forecast: each against its definition in plain words."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.measured import pid_estimate
from helpers.small import QUICK, good_teacher, network, rows

from limbeck.data import Data
from limbeck.estimates import Estimate
from limbeck.forecasting import gathering
from limbeck.forecasting.catalogue import GROUPS, PREDICTORS
from limbeck.forecasting.gathering import Case, gather
from limbeck.forecasting.short_runs import Budget
from limbeck.training.measurement import Entry, Measurement


EARLY = network(seed=6)
VALIDATION = rows(91, seed=3)


def case(labelled=61, **changes):
    x, y = rows(61)
    y = torch.where(torch.arange(61) < labelled, y, -1)
    settings = QUICK | {"epochs": 40, "seed": 0}
    given = {
        "teacher": good_teacher(),
        "student": network(),
        "budget": Budget.of(Data((x, y)), y, settings),
        "validation": Data(VALIDATION),
        "classes": 3,
    }
    return Case(**given | changes)


def figures(groups, **changes):
    return gather(case(**changes), groups, early=EARLY)[0].figures


def test_the_catalogue_holds_every_group_once():
    assert set(GROUPS) == {one.group for one in PREDICTORS.values()}
    assert len(GROUPS) == len(set(GROUPS))


def test_set_up():
    found = figures(["set-up"], labelled=24)
    assert found == {
        "classes": pytest.approx(math.log2(3)),
        "labels_per_class": pytest.approx(3.0),  # 24 labels of 3 classes
        "unlabelled_share": pytest.approx(37 / 61),
        "steps": pytest.approx(math.log2(160)),
    }


def test_scores_row_by_row():
    teacher = network(seed=14)
    x, y = VALIDATION
    with torch.no_grad():
        said = [torch.softmax(m(x).double(), 1).tolist() for m in (teacher, EARLY)]
    totals = dict.fromkeys(("right", "own", "same", "corrects", "bits", "own bits", "entropy"), 0.0)
    for theirs, own, target in zip(*said, y.tolist(), strict=True):
        first, second = (max(range(3), key=row.__getitem__) for row in (theirs, own))
        totals["right"] += first == target
        totals["own"] += second == target
        totals["same"] += first == second
        totals["corrects"] += first == target != second
        totals["bits"] -= math.log2(theirs[target])
        totals["own bits"] -= math.log2(own[target])
        totals["entropy"] -= sum(p * math.log2(p) for p in theirs)
    mean = {name: total / 91 for name, total in totals.items()}
    assert 0 < mean["corrects"] < mean["right"]
    assert figures(["scores"], teacher=teacher) == {
        name: pytest.approx(value, rel=1e-5)
        for name, value in {
            "teacher_accuracy": 100 * mean["right"],
            "early_accuracy": 100 * mean["own"],
            "accuracy_gap": 100 * (mean["right"] - mean["own"]),
            "teacher_cross_entropy": mean["bits"],
            "cross_entropy_gap": mean["own bits"] - mean["bits"],
            "agreement": mean["same"],
            "corrects": 100 * mean["corrects"],
            "teacher_entropy": mean["entropy"],
        }.items()
    }


@pytest.fixture
def measured(monkeypatch):
    """Put a recorder in the place of the measurement."""
    calls = []

    def measure(teacher, student, data, **options):
        calls.append({"teacher": teacher, "student": student, "data": data, **options})
        names = list(student) if isinstance(student, dict) else ["student"]
        each = [
            pid_estimate(
                0.75 - 0.25 * place,
                null={"unique_teacher": 0.5},
                rivals={"cka": 0.25, "cross_entropy_difference": 1.5},
            )
            for place in range(len(names))
        ]
        entries = [Entry("t", name, "", "", one) for name, one in zip(names, each, strict=True)]
        return Measurement(tuple(entries), {}, {}, {}, {})

    monkeypatch.setattr(gathering, "measure", measure)
    return calls


def test_bits_are_those_of_the_short_control_and_the_untrained_student(measured):
    layers = {"teacher": "0", "student": "2"}
    asked = case(layers=layers, seed=4)
    groups = ["bits", "untrained", "cells", "k-means"]
    found = gather(asked, groups, early=EARLY)[0].figures
    assert found == {
        "distillable": 0.75,
        "distillable_above_null": 0.25,
        "distillable_untrained": 0.75,
        "distilled": 0.5,
        "unique_student": 0.5,
        "synergistic": 0.5,
        "teacher_knows": 0.5,
        "student_knows": 0.5,
        "probed_cross_entropy_gap": 1.5,
        "cka": 0.25,
        "distillable_cells": 0.75,
        "distillable_kmeans": 0.75,
    }
    ways = [(call["method"], call["student"]) for call in measured]
    assert ways == [("hull", asked.student), ("hull", EARLY), ("cells", EARLY), ("kmeans", EARLY)]
    for call in measured:
        assert call["teacher"] is asked.teacher
        assert call["data"] is asked.validation
        assert (call["layers"], call["seed"], call["device"]) == (layers, 4, "cpu")


def kernel_of(vectors):
    """Return Gaussian similarities over their number; the width is the median distance."""
    count = len(vectors)
    distances = [np.linalg.norm(vectors[i] - vectors[j]) for i in range(count) for j in range(i)]
    width = np.median([one for one in distances if one > 0])
    kernel = np.ones((count, count))
    pairs = [(i, j) for i in range(count) for j in range(i)]
    for (i, j), distance in zip(pairs, distances, strict=True):
        kernel[i, j] = kernel[j, i] = math.exp(-(distance**2) / (2 * width**2))
    return kernel / count


def entropy_of(matrix):
    """Return the matrix-based entropy of order 2 [bits], from eigenvalues."""
    values = np.clip(np.linalg.eigvalsh(matrix), 0, None)
    return -math.log2((values**2).sum())


def test_renyi_is_between_the_penultimate_layers_of_the_first_rows(monkeypatch):
    """S(A) + S(B) - S(A * B) of kernels of trace one, from eigenvalues."""
    monkeypatch.setattr(gathering, "RENYI_ROWS", 40)
    seen = []
    real = gathering.gram_matrix
    monkeypatch.setattr(
        gathering, "gram_matrix", lambda vectors: seen.append(vectors) or real(vectors)
    )
    asked = case()
    found = gather(asked, ["renyi"], early=EARLY)[0].figures["renyi"]
    x = VALIDATION[0][:40]
    for vectors, model in zip(seen, (asked.teacher, EARLY), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(vectors, model[1](model[0](x)))
    parts = [kernel_of(vectors.double().numpy()) for vectors in seen]
    product = 40 * parts[0] * parts[1]
    own, other, both = (entropy_of(one) for one in (*parts, product))
    assert found == pytest.approx(own + other - both, rel=1e-6)
    assert found > 0


def test_gradients_weigh_noise_and_bias(monkeypatch):
    """1 - (w^2 (tr_hh + steps B |h|^2) - 2 w tr_gh) / tr_gg - 1, of the weight advised."""
    moments = SimpleNamespace(tr_gg=4.0, tr_hh=2.0, tr_gh=3.0, hbar2=0.01, rho=0.75)
    asked, calls = [], []
    monkeypatch.setattr(
        gathering,
        "gradient_moments",
        lambda *given, **how: calls.append((given, how)) or moments,
    )

    def advise(given, **how):
        asked.append(how)
        return SimpleNamespace(
            horizon=Estimate(0.25, 0.0, 0.5, n=9, unit="fraction", status="resolved")
        )

    monkeypatch.setattr(gathering, "recommend_weight", advise)
    one = case(labelled=24)
    found = gather(one, ["gradients"], early=EARLY)[0].figures
    bias = 160 * 16 * 0.01
    reduced = (2 * 0.25 * 3.0 - 0.25**2 * (2.0 + bias)) / 4.0
    assert found == {
        "variance_reduction": pytest.approx(reduced),
        "gradient_correlation": 0.75,
    }
    assert asked == [{"learning_rate": 0.05, "batch_size": 16, "momentum": 0.9, "horizon": 160}]
    ((student, teacher, data), how) = calls[0]
    assert student is EARLY
    assert teacher is one.teacher
    assert len(data) == 24
    assert how["curvature"] is False
    moments.hbar2 = -0.5  # an estimate of a square may lie below zero
    found = gather(one, ["gradients"], early=EARLY)[0].figures
    assert found["variance_reduction"] == pytest.approx((1.5 - 0.0625 * 2.0) / 4.0)


@pytest.fixture
def short_runs(monkeypatch):
    """Let short runs return networks made beforehand."""
    calls = []

    def control(student, budget, *, share=1.0, label_smoothing=0.0):
        calls.append(("control", share, label_smoothing))
        return network(seed=21 if label_smoothing else 20)

    def distilled(student, teacher, budget, *, share=1.0, **how):
        calls.append(("distilled", share, how))
        return network(seed={"kd": 22, "itrd": 23}[how["loss"]])

    monkeypatch.setattr(gathering, "control", control)
    monkeypatch.setattr(gathering, "distilled", distilled)
    return calls


def score(seed):
    """Return accuracy [%] and cross-entropy [bits] of a network on the validation rows."""
    x, y = VALIDATION
    with torch.no_grad():
        logits = network(seed=seed)(x).double().numpy()
    right = 100 * np.mean(logits.argmax(1) == y.numpy())
    logs = np.log2(np.exp(logits).sum(1)) - logits[np.arange(91), y.numpy()] / math.log(2)
    return right, logs.mean()


def test_pilots_and_smoothing_are_over_a_control_of_their_length(short_runs):
    pilots = {"kd": {"loss": "kd", "force": True}, "itrd": {"loss": "itrd"}}
    found, by_pilot = gather(case(), ["smoothing", "pilot"], pilots=pilots, early=EARLY)
    right, bits = score(20)
    for name, seed, said in (
        ("smoothing", 21, found.figures),
        ("pilot", 22, by_pilot["kd"].figures),
        ("pilot", 23, by_pilot["itrd"].figures),
    ):
        theirs = score(seed)
        assert said == {
            f"{name}_accuracy": pytest.approx(theirs[0] - right),
            f"{name}_cross_entropy": pytest.approx(bits - theirs[1], rel=1e-5),
        }
    assert short_runs == [
        ("control", 0.05, 0.0),
        ("control", 0.05, 0.1),
        ("distilled", 0.05, {"loss": "kd", "force": True}),
        ("distilled", 0.05, {"loss": "itrd"}),
    ]


def test_only_what_is_asked_for_is_done(short_runs):
    found, pilots = gather(case(), ["set-up"])
    assert short_runs == []
    assert pilots == {}
    assert found.seconds == {}
    assert {PREDICTORS[name].group for name in found.figures} == {"set-up"}
    gather(case(), ["set-up", "renyi"])
    assert short_runs == [("control", 0.1, 0.0)]
    short_runs.clear()
    _, pilots = gather(case(), ["set-up"], pilots={"kd": {"loss": "kd"}}, early=EARLY)
    assert pilots == {}
    assert short_runs == []


def test_what_is_not_finite_is_left_out(measured, monkeypatch):
    monkeypatch.setattr(gathering, "_renyi", lambda *_: {"renyi": math.nan})
    monkeypatch.setattr(gathering, "_distillable", lambda *_: math.inf)
    assert figures(["renyi", "cells", "k-means"]) == {}


def test_figures_that_are_measured(monkeypatch):
    """Cells of the posteriors, gradients and smoothing, through all that is real."""
    groups = ("scores", "cells", "gradients", "smoothing")
    found, pilots = gather(case(), groups)
    wanted = {name for name, one in PREDICTORS.items() if one.group in groups}
    assert set(found.figures) == wanted
    assert pilots == {}
    assert set(found.seconds) == {"short control", "pilot", *groups}
    assert min(found.seconds.values()) > 0
    assert found.figures["accuracy_gap"] > 0  # after 4 epochs, to all that there is to know
    assert 0.0 <= found.figures["distillable_cells"] <= math.log2(3)
    assert -1.0 <= found.figures["gradient_correlation"] <= 1.0
