"""Moments of several teachers against gradients of single rows, and the weights that follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.gradients import kd, mlp, one_by_one, rows

from limbeck.checks import ArgumentError
from limbeck.types import Outputs
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.moments_of_teachers import moments_of_teachers
from limbeck.weighting.theory.several import teacher_loss_weights


X, Y = rows(64)
TEACHERS = (mlp(5, 1), mlp(7, 2), mlp(3, 3))


def flat(side):
    return torch.cat([one.flatten(1) for one in side.values()], dim=1).numpy()


def test_all_entries_are_those_of_single_rows():
    student = mlp(4, 0)
    found = moments_of_teachers(student, TEACHERS, (X, Y), n=64, loss=kd)
    sides = [one_by_one(student, teacher, X, Y) for teacher in TEACHERS]
    g, h = flat(sides[0][0]), [flat(side) for _, side in sides]
    apart = [one - one.mean(0) for one in h]
    n = len(g)
    expected = {
        "tr_hh": lambda j, k: (apart[j] * apart[k]).sum() / (n - 1),
        "hbar_products": lambda j, k: (
            (h[j].sum(0) @ h[k].sum(0) - (h[j] * h[k]).sum()) / (n * (n - 1))
        ),
    }
    for name, of in expected.items():
        whole = np.array([[of(j, k) for k in range(3)] for j in range(3)])
        np.testing.assert_allclose(getattr(found, name), whole, rtol=1e-7, atol=1e-10)
    shared = [((g - g.mean(0)) * one).sum() / (n - 1) for one in apart]
    np.testing.assert_allclose(found.tr_gh, shared, rtol=1e-7)
    assert found.tr_gg == pytest.approx(((g - g.mean(0)) ** 2).sum() / (n - 1))


def test_a_mixture_of_two_terms_has_the_bias_that_the_matrix_says():
    student = mlp(4, 0)
    first, second = TEACHERS[:2]
    found = moments_of_teachers(student, (first, second), (X, Y), n=64, loss=kd)

    def mixed(logits, other):
        a, b = other.chunk(2, dim=1)
        return 0.3 * kd(logits, a) + 0.7 * kd(logits, b)

    def both(batch):
        with torch.no_grad():
            return Outputs(torch.cat([first(batch.inputs), second(batch.inputs)], dim=1), {})

    whole = gradient_moments(student, both, (X, Y), n=64, loss=mixed)
    share = np.array([0.3, 0.7])
    for name, matrix in (
        ("D_T", found.bias),
        ("hbar2", found.hbar_products),
        ("tr_hh", found.tr_hh),
    ):
        assert getattr(whole, name) == pytest.approx(share @ matrix @ share, rel=3e-3), name


def test_a_teacher_twice_is_one_teacher():
    student = mlp(4, 0)
    pair = moments_of_teachers(student, [TEACHERS[0]] * 2, (X, Y), n=64, loss=kd)
    weights = pair.weights(learning_rate=0.2, batch_size=4)
    one = teacher_loss_weights(
        pair.tr_gg, pair.tr_gh[:1], pair.tr_hh[:1, :1], np.maximum(pair.bias[:1, :1], 0.0),
        learning_rate=0.2, batch_size=4,
    )  # fmt: skip
    assert weights.weights.sum() == pytest.approx(one.weights[0], rel=3e-3)
    assert weights.weights[0] == pytest.approx(weights.weights[1], rel=3e-3)
    assert weights.noise_left == pytest.approx(one.noise_left, rel=3e-3)


def test_teachers_that_are_functions_and_modes_that_stay():
    student = mlp(4, 0)
    teacher = torch.nn.Sequential(*TEACHERS[1], torch.nn.Dropout(0.5)).train()

    def said(batch):
        with torch.no_grad():
            return Outputs(TEACHERS[0](batch.inputs), {})

    mixed = moments_of_teachers(student, [said, teacher], (X, Y), n=64, loss=kd)
    assert teacher.training
    plain = moments_of_teachers(student, TEACHERS[:2], (X, Y), n=64, loss=kd)
    np.testing.assert_allclose(mixed.tr_hh, plain.tr_hh, rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teachers": TEACHERS[:1]}, "two teachers or more; got 1"),
        ({"loss": "fitnet", "force": True}, "a loss on logits; FitNet needs layers"),
        ({"loss": "dist"}, "a mean over samples"),
        ({"curvature": False}, "`curvature` to be measured"),
    ],
)
def test_what_is_refused(changes, words):
    options = {"teachers": TEACHERS[:2], "loss": kd, "n": 64} | changes
    with pytest.raises(ArgumentError, match=words):
        moments_of_teachers(mlp(4, 0), options.pop("teachers"), (X, Y), **options)
