"""Moments of gradients where the teacher answers with labels: those of labels drawn now."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.answers import Answering
from helpers.gradients import mlp, rows

from limbeck.checks import ArgumentError
from limbeck.losses import K3, SEL
from limbeck.types import Answers, Batch, Outputs
from limbeck.weighting.measuring.joined import joined
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.moments_of_teachers import moments_of_teachers


ROWS = rows(80)  # more than one batch
MOMENTS = ("tr_gg", "tr_gh", "tr_hh", "hbar2", "gbar2", "lambda_cv")


@pytest.mark.parametrize("method", ["per_sample", "gram", "groups"])
def test_answers_have_the_moments_of_live_draws(method):
    student, teacher, loss = mlp(5, 1), mlp(8, 2), K3(draws=3, seed=4)
    options = {"method": method, "curvature": False, "loss": loss}
    expected = gradient_moments(student, teacher, ROWS, **options)
    found = gradient_moments(student, Answering(teacher, 3, seed=4), ROWS, **options)
    for name in MOMENTS:
        assert getattr(found, name) == getattr(expected, name), name


def test_rows_with_unequal_numbers_of_labels():
    """Row by row: the batches of a sample have as many columns as their longest row."""
    student, teacher = mlp(5, 1), mlp(8, 2)
    answers, loss = Answering(teacher, 4, uneven=True), SEL()
    x, y = ROWS
    sides: list[list[torch.Tensor]] = []
    weights = list(student.parameters())
    for i in range(len(x)):
        one = Batch(x[i : i + 1], y[i : i + 1], torch.tensor([i]), torch.tensor([0]))
        logits = student(one.inputs)
        task = torch.nn.functional.cross_entropy(logits, one.targets)
        both = (task, task - loss(Outputs(logits), answers(one), one))
        grads = [torch.autograd.grad(value, weights, retain_graph=True) for value in both]
        sides.append([torch.cat([part.flatten() for part in g]) for g in grads])
    g, h = (torch.stack(side) for side in zip(*sides, strict=True))
    options = {"method": "per_sample", "loss": loss, "curvature": False}
    found = gradient_moments(student, answers, ROWS, **options)
    h0 = h - h.mean(0)
    assert found.tr_hh == pytest.approx(float(h0.square().sum() / 79), rel=1e-9)
    assert found.tr_gh == pytest.approx(float(((g - g.mean(0)) * h0).sum() / 79), rel=1e-9)


def test_pairs_of_teachers_of_any_kind():
    student, networks, loss = mlp(4, 0), (mlp(5, 1), mlp(7, 2)), K3(draws=2, seed=3)
    live = moments_of_teachers(student, networks, ROWS, n=64, loss=loss)
    stored = Answering(networks[1], 2, seed=3)
    for teachers in ((networks[0], stored), (Answering(networks[0], 2, seed=3), stored)):
        found = moments_of_teachers(student, teachers, ROWS, n=64, loss=loss)
        np.testing.assert_array_equal(found.tr_hh, live.tr_hh)
        np.testing.assert_array_equal(found.bias, live.bias)


def test_a_loss_that_needs_whole_rows_is_refused():
    for loss, where in (("kd", "KD"), (lambda s, t: (s - t).square().mean(), "gradient_moments")):
        with pytest.raises(ArgumentError, match=rf"{where}: expected the teacher's logits.*k3"):
            gradient_moments(mlp(5, 1), Answering(mlp(8, 2), 1), ROWS, loss=loss)


def test_joined_pads_to_the_widest_of_all_processes():
    wide = Answers(torch.tensor([[1, 2]]), torch.tensor([[-1.0, -2.0]]), torch.tensor([[3, 4]]))
    narrow = wide.map(lambda value: value[:, :1])

    def gather(values: torch.Tensor) -> torch.Tensor:
        """Another process has a row of three columns, after these."""
        return torch.cat([values, torch.full((1, *values.shape[1:]), 3).to(values)])

    said = [Outputs(None, {"a": torch.ones(1)}, answers) for answers in (narrow, wide)]
    found = joined(said, gather)
    assert found.logits is None
    assert found.features["a"].tolist() == [1.0, 1.0, 3.0]
    assert found.answers is not None
    assert found.answers.labels.tolist() == [[1, -1, -1], [1, 2, -1], [3, 3, 3]]
    assert found.answers.log_probabilities.tolist() == [[-1, 0, 0], [-1, -2, 0], [3, 3, 3]]
    assert found.answers.counts.tolist() == [[3, 0, 0], [3, 4, 0], [3, 3, 3]]
    text = joined([Outputs(None, answers=Answers(wide.labels))], lambda values: values).answers
    assert text is not None
    assert text.log_probabilities is None
    assert text.counts is None
